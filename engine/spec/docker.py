"""Docker's archive documents: `manifest.json`, and those that `docker save` wrote before 1.10.

`manifest.json` lists images by the paths of their configs and layers. An older archive has a
directory per layer with a v1 config (`json`), `layer.tar` and `VERSION`, and names in
`repositories`. `config_from_v1` turns such a v1 config into an image config, byte for byte as
dockerd 20.10 does, so the image ID is the same.

All functions are pure and all values frozen; paths and IDs are not validated here.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from engine.errors import InvalidDocument
from engine.spec import go_json, rfc3339
from engine.spec.oci import ImageConfig, Int64, Platform, RootFS, check_times, parse_config

MANIFEST_FILE: Final = "manifest.json"
REPOSITORIES_FILE: Final = "repositories"
V1_CONFIG_FILE: Final = "json"
V1_LAYER_FILE: Final = "layer.tar"
# --- manifest.json and repositories ---


class LayerSource(msgspec.Struct, frozen=True, rename="camel"):
    """A descriptor in the field order of `manifest.json`."""

    media_type: str = ""
    size: Int64 = 0
    digest: str = ""
    urls: tuple[str, ...] = ()
    annotations: dict[str, str] = {}
    platform: Platform | None = None


class ManifestItem(msgspec.Struct, frozen=True, rename="pascal"):
    """An image: the member paths of its config and layers, and its familiar names.

    `parent` is an image ID; `layer_sources` maps diff IDs to the descriptors of the stored layers.
    """

    config: str
    repo_tags: tuple[str, ...] | None
    layers: tuple[str, ...] | None
    parent: str = ""
    layer_sources: dict[str, LayerSource] = {}


def parse_manifest_json(data: bytes, subject: str = MANIFEST_FILE) -> list[ManifestItem]:
    """Return the items of a `manifest.json`, at least one.

    Keys match in any letter case, and data after the first JSON value is ignored. Raise
    InvalidDocument for a null item and for an empty list, which docker accepts.
    """
    items = go_json.decode_first(data, list[ManifestItem | None], subject)
    if not items:
        raise InvalidDocument(subject, "it names no image")
    found = [item for item in items if item is not None]
    if len(found) != len(items):
        raise InvalidDocument(subject, "an item is null")
    return found


def render_manifest_json(items: Iterable[ManifestItem]) -> bytes:
    """Return a `manifest.json` of `items`, compact and without the final newline of docker save.

    Items without a parent and layer sources are rendered as containerd's exporter writes them.
    """
    return go_json.dumps(list(items))


def parse_repositories(data: bytes, subject: str = REPOSITORIES_FILE) -> dict[str, dict[str, str]]:
    """Return the v1 IDs in `repositories`, by name and tag; raise InvalidDocument.

    Data after the first JSON value is ignored.
    """
    return go_json.decode_first(data, dict[str, dict[str, str]], subject)


# --- v1 configs ---


class Empty(msgspec.Struct, frozen=True):
    """Go's struct{}, the value type of a map that represents a set."""


class Healthcheck(msgspec.Struct, frozen=True, rename="pascal"):
    """The health check of a container; durations are in nanoseconds."""

    test: tuple[str, ...] = ()
    interval: Int64 = 0
    timeout: Int64 = 0
    start_period: Int64 = 0
    start_interval: Int64 = 0
    retries: Int64 = 0


class ContainerConfig(msgspec.Struct, frozen=True, rename="pascal", kw_only=True):
    """The command of a container and its settings, with the fields of dockerd up to 28."""

    hostname: str
    domainname: str
    user: str
    attach_stdin: bool
    attach_stdout: bool
    attach_stderr: bool
    exposed_ports: dict[str, Empty] = {}
    tty: bool
    open_stdin: bool
    stdin_once: bool
    env: tuple[str, ...] | None
    cmd: tuple[str, ...] | str | None
    healthcheck: Healthcheck | None = None
    args_escaped: bool = False
    image: str
    volumes: dict[str, Empty] | None
    working_dir: str
    entrypoint: tuple[str, ...] | str | None
    network_disabled: bool = False
    mac_address: str = ""
    on_build: tuple[str, ...] | None
    labels: dict[str, str] | None
    stop_signal: str = ""
    stop_timeout: Int64 | None = None
    shell: tuple[str, ...] | str | None = ()

    def __post_init__(self) -> None:
        for name in ("cmd", "entrypoint", "shell"):
            msgspec.structs.force_setattr(self, name, _strings(getattr(self, name)))


class V1Image(msgspec.Struct, frozen=True, kw_only=True):
    """The v1 config of one layer.

    `id` and `parent` are v1 IDs; `created` is a normalized time, None if there is none.
    """

    id: str = ""
    parent: str = ""
    comment: str = ""
    created: str | None
    container: str = ""
    container_config: ContainerConfig
    docker_version: str = ""
    author: str = ""
    config: ContainerConfig | None = None
    architecture: str = ""
    variant: str = ""
    os: str = ""
    size: Int64 = msgspec.field(default=0, name="Size")


class History(msgspec.Struct, frozen=True, kw_only=True):
    """A history entry with the fields in dockerd's order; `created` is always written."""

    created: str
    author: str = ""
    created_by: str = ""
    comment: str = ""
    empty_layer: bool = False


def parse_v1(data: bytes, subject: str = V1_CONFIG_FILE) -> V1Image:
    """Return the v1 config of a layer; raise InvalidDocument, also for an invalid time."""
    image = go_json.decode(data, V1Image, subject)
    try:
        created = rfc3339.normalize(image.created) if image.created else None
    except ValueError as error:
        raise InvalidDocument(subject, f"created: {error}") from error
    return msgspec.structs.replace(image, created=created)


def check_config(data: bytes, subject: str) -> None:
    """Raise InvalidDocument if docker could not read the image config.

    It rejects values of the wrong type and invalid times.
    """
    check_times(data, subject)
    parse_config(data, subject)
    parse_v1(data, subject)


# --- the settings of containers in image configs ---


def process_members(config: bytes, subject: str) -> dict[str, msgspec.Raw]:
    """Return the members of `config` in an image config, unparsed; those that docker knows by its
    names.

    Raise InvalidDocument if it is not an object, LimitExceeded as `go_json.loads`.
    """
    found = go_json.members_of(config, ImageConfig, subject).get("config")
    if found is None or bytes(found) == b"null":
        return {}
    return go_json.members_of(bytes(found), ContainerConfig, f"{subject}: config")


def parse_process(config: bytes, subject: str) -> dict[str, Any]:
    """Return the members of `config` in an image config as docker reads them.

    The health check, and members that docker ignores, are Raw; all else are plain values. Raise the
    errors of `process_members`, and InvalidDocument for a value of a type that docker refuses.
    """
    types = {field.encode_name: field.type for field in msgspec.structs.fields(ContainerConfig)}
    return {
        name: _plain(raw, types[name], f"{subject}: config: {name}") if name in types else raw
        for name, raw in process_members(config, subject).items()
    }


def _plain(raw: msgspec.Raw, type_: Any, subject: str) -> Any:
    value = go_json.decode(bytes(raw), type_, subject)
    if isinstance(value, msgspec.Struct):
        return raw
    return list(value) if isinstance(value, tuple) else msgspec.to_builtins(value)


def history_from_v1(image: V1Image) -> History:
    """Return the history entry that corresponds to a v1 config."""
    return History(
        created=image.created or rfc3339.ZERO,
        author=image.author,
        created_by=" ".join(_strings(image.container_config.cmd) or ()),
        comment=image.comment,
    )


def config_from_v1(
    v1_json: bytes,
    diff_ids: Sequence[str],
    history: Sequence[History],
    subject: str = V1_CONFIG_FILE,
) -> bytes:
    """Return the image config of a v1 image, as dockerd 20.10 creates it on load.

    `v1_json` is the config of the top layer; `diff_ids` and `history` start with the lowest layer
    (see `history_from_v1`). Members keep their spelling, except in configs from docker before 1.8.3
    or of unknown origin, of which only the fields of V1Image are kept.
    """
    image = parse_v1(v1_json, subject)
    timed = msgspec.structs.replace(image, created=image.created or rfc3339.ZERO)
    keeps_all = _version(image.docker_version) >= _FIRST_CLEAN_VERSION
    members: dict[str, object] = {
        name: value
        for name, value in go_json.members(
            v1_json if keeps_all else go_json.dumps(timed), subject
        ).items()
        if name not in _V1_ONLY
    }
    members["rootfs"] = RootFS(type="layers", diff_ids=tuple(diff_ids))
    members["history"] = tuple(history)
    return go_json.dumps(members)


_V1_ONLY: Final = {"id", "parent", "Size", "parent_id", "layer_id", "throwaway"}
_FIRST_CLEAN_VERSION: Final = (1, 8, 3)


def _version(text: str) -> tuple[int, ...]:
    """Return the numbers between the dots, 0 for a part that is no number (3-rc4)."""
    return tuple(
        int(part) if re.fullmatch(r"[+-]?[0-9]{1,18}", part) else 0 for part in text.split(".")
    )


def _strings(value: tuple[str, ...] | str | None) -> tuple[str, ...] | None:
    """Return a command as a tuple; a command may be written as a single string."""
    return (value,) if isinstance(value, str) else value

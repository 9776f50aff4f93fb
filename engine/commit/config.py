"""The config of a new image: its validation, and the addition of its layers and history.

The bytes are as Go writes a map: the top-level keys are sorted, and members that are not replaced
keep their text in compact form.
"""

import base64
from collections.abc import Sequence
from typing import Any

import msgspec

from engine.errors import InvalidDocument, InvalidText
from engine.spec import docker, go_json, oci, platforms, rfc3339
from engine.spec.docker import Empty, Healthcheck
from engine.spec.oci import History, Platform

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
INLINE_CACHE = "moby.buildkit.cache.v0"
_SUBJECT = "image config"


class InvalidConfig(InvalidText):
    """A config from which no image can be created; `reason` explains why."""

    noun = "image"

    def __init__(self, reason: str) -> None:
        super().__init__("config", reason)


class _RootFS(msgspec.Struct, frozen=True):
    type: str
    diff_ids: tuple[str, ...] | None


class _Process(msgspec.Struct, frozen=True, rename="pascal"):
    env: tuple[str, ...] = ()
    working_dir: str = ""


class _ImageProcess(_Process, frozen=True, rename="pascal"):
    """The members of `config` that BuildKit reads: those of OCI and Docker's additions."""

    user: str = ""
    exposed_ports: dict[str, Empty] = {}
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    volumes: dict[str, Empty] = {}
    labels: dict[str, str] = {}
    stop_signal: str = ""
    args_escaped: bool = False
    healthcheck: Healthcheck | None = None
    on_build: tuple[str, ...] = ()
    shell: tuple[str, ...] = ()


class _ImageConfig(msgspec.Struct, frozen=True):
    config: _ImageProcess = _ImageProcess()


class _Default(Platform, frozen=True):
    config: _Process | None = None
    rootfs: _RootFS | None = None


def default_config(platform: Platform) -> bytes:
    """Return the config of an image for which none is given; Windows sets PATH elsewhere."""
    known = platforms.normalize(platform)
    env = () if known.os == "windows" else (f"PATH={DEFAULT_PATH}",)
    names = (known.architecture, known.os, known.os_version, known.os_features, known.variant)
    return go_json.dumps(_Default(*names, _Process(env, "/"), _RootFS("layers", None)))


def check_types(config: bytes) -> None:
    """Raise InvalidConfig for a value that does not fit Go's type, and for an invalid time."""
    _parsed(config)
    try:
        go_json.decode(config, _ImageConfig, _SUBJECT)
        oci.check_times(config, _SUBJECT)
    except InvalidDocument as error:
        raise InvalidConfig(f"invalid {_SUBJECT}: {error.reason}") from error


def check(config: bytes) -> None:
    """Check a config as BuildKit does before an export; raise InvalidConfig."""
    check_types(config)
    parsed = _parsed(config)
    if not parsed.os:
        raise InvalidConfig("missing os")
    if not parsed.architecture:
        raise InvalidConfig("missing architecture")


def history_of(config: bytes) -> tuple[History, ...]:
    """Return the history in a config; raise InvalidConfig."""
    return _parsed(config).history


def patched(
    config: bytes,
    diff_ids: Sequence[str],
    history: Sequence[History],
    inline_cache: bytes | None = None,
) -> bytes:
    """Return the config with these layers and this history; raise InvalidConfig.

    If the config has no `created`, it is the time of the last history entry.
    """
    found = members(config)
    found["rootfs"] = _raw(_RootFS("layers", tuple(diff_ids) or None))
    found["history"] = _raw([_as_go(entry) for entry in history] or None)
    if "created" not in found:
        times = [entry.created for entry in history if entry.created]
        found["created"] = _raw(rfc3339.normalize(times[-1]) if times else None)
    found.pop(INLINE_CACHE, None)
    if inline_cache is not None:
        found[INLINE_CACHE] = _raw(base64.b64encode(inline_cache).decode())
    return go_json.dumps(found)


def members(config: bytes) -> dict[str, Any]:
    """Return the top-level members of a config as raw JSON; raise InvalidConfig.

    Those of image-spec have its names, in whatever letter case they are given.
    """
    try:
        return dict(go_json.members_of(config, oci.ImageConfig, _SUBJECT))
    except InvalidDocument as error:
        if config.strip() == b"null":
            raise InvalidConfig("null config") from error
        raise InvalidConfig(f"invalid json: {error.reason}") from error


def process(config: bytes) -> dict[str, Any]:
    """Return the members of `config` as `docker.parse_process` does; raise InvalidConfig."""
    try:
        return docker.parse_process(config, _SUBJECT)
    except InvalidDocument as error:
        raise InvalidConfig(f"invalid {error.subject}: {error.reason}") from error


def _parsed(config: bytes) -> oci.ImageConfig:
    try:
        return oci.parse_config(config, _SUBJECT)
    except InvalidDocument as error:
        members(config)
        raise InvalidConfig(f"invalid {_SUBJECT}: {error.reason}") from error


def _as_go(entry: History) -> History:
    """Return the entry with its time in Go's form."""
    if not entry.created:
        return entry
    return msgspec.structs.replace(entry, created=rfc3339.normalize(entry.created))


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(go_json.dumps(value))

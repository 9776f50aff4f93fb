"""Fuzz targets whose input is text: JSON documents, references, instructions."""

import msgspec

from engine.commit import config, instructions
from engine.commit.instructions import Config
from engine.spec import digest, docker, go_json, oci, platform_spec, reference
from engine.spec.oci import Platform
from engine.spec.reference import Reference
from tests.fuzz.oracle import Refused, answer, as_text

HOST = Platform(architecture="amd64", os="linux")
DOCUMENTS = (
    ("manifest", oci.parse_manifest),
    ("index", oci.parse_index),
    ("manifest.json", docker.parse_manifest_json),
)
"""Documents that can be parsed and rendered."""


def json_values(data: bytes) -> None:
    """JSON is read where msgspec reads it, and its members and its compact form say the same."""
    value = answer(lambda: go_json.loads(data, "it"))
    first = answer(lambda: go_json.loads_first(data, "it"))
    members = answer(lambda: go_json.members(data, "it"))
    if isinstance(value, Refused):
        assert isinstance(members, Refused)
        try:
            theirs = msgspec.json.decode(data)
        except (ValueError, RecursionError, msgspec.DecodeError):
            return
        assert any(reason in value.sentence for reason in ("nested", "digits")), theirs
        return
    assert repr(first) == repr(value)
    small = go_json.compact(data)
    assert go_json.compact(small) == small
    assert repr(go_json.loads(small, "it")) == repr(value)
    assert isinstance(members, dict) == isinstance(value, dict)
    if isinstance(members, dict):
        found = {key: go_json.loads(bytes(raw), "it") for key, raw in members.items()}
        assert found == value
    try:
        again = go_json.dumps(value)
    except (ValueError, RecursionError):  # as it says: infinite numbers; nothing so deep is made
        return
    go_json.loads(again, "it")


def documents(data: bytes) -> None:
    """Check that a document that was parsed, rendered and parsed again is the same, bytes
    included.
    """
    for subject, parse in DOCUMENTS:
        value = answer(lambda parse=parse, subject=subject: parse(data, subject))  # type: ignore[misc]  # mypy infers no type for a lambda with defaults
        if isinstance(value, Refused):
            continue
        written = go_json.dumps(value)
        again = parse(written, subject)
        assert again == value
        assert go_json.dumps(again) == written
    for media_type in (oci.MANIFEST, oci.INDEX, oci.LAYER):
        answer(lambda t=media_type: oci.validate_media_type(data, t, "it"))  # type: ignore[misc]  # mypy infers no type for a lambda with defaults
    answer(lambda: docker.parse_repositories(data))
    configs(data)


def configs(data: bytes) -> None:
    """Image configs and v1 configs: what is made of one is one."""
    found = answer(lambda: oci.parse_config(data, "config"))
    if not isinstance(found, Refused):
        assert 0 <= oci.image_created(found) < 253_402_300_800
        platform_spec.format_all(platform_spec.normalize(found.platform))
    if not isinstance(answer(lambda: config.check(data)), Refused):
        history = answer(lambda: config.history_of(data))
        if not isinstance(history, Refused):
            made = config.patched(data, ("sha256:1",), history)
            assert oci.parse_config(made, "config").rootfs.diff_ids == ("sha256:1",)
            assert config.patched(made, ("sha256:1",), config.history_of(made)) == made
    v1 = answer(lambda: docker.parse_v1(data))
    made_of_v1 = answer(lambda: docker.config_from_v1(data, ("sha256:1",), ()))
    assert isinstance(v1, Refused) == isinstance(made_of_v1, Refused)
    if not isinstance(v1, Refused) and not isinstance(made_of_v1, Refused):
        docker.history_from_v1(v1)
        go_json.loads(made_of_v1, "config")


def references(data: bytes) -> None:
    """Check that the full form of a name, a digest or a platform has the same meaning."""
    text = as_text(data)
    bare = answer(lambda: reference.parse(text))
    if isinstance(bare, Reference):
        assert str(bare) == text
    full = answer(lambda: reference.parse_normalized(text))
    if isinstance(full, Reference):
        assert reference.parse_normalized(str(full)) == full
        first, slash, _ = full.familiar.partition("/")
        is_host = slash and (first == "localhost" or set(first) & set(".:"))
        if full.domain != "docker.io" or not (is_host or reference.is_identifier(full.familiar)):
            assert reference.parse_normalized(full.familiar) == full
        tagged = reference.tag_name_only(full)
        assert not tagged.is_name_only
        reference.oci_ref_name(full)
    answer(lambda: reference.parse_any(text))
    assert reference.sort([text, "alpine"])
    reference.is_identifier(text)
    hashed = answer(lambda: digest.parse(text))
    if not isinstance(hashed, Refused):
        assert f"{hashed.algorithm}:{hashed.encoded}" == text
    platforms(text)


def platforms(text: str) -> None:
    found = answer(lambda: platform_spec.parse(text, HOST))
    if isinstance(found, Refused):
        return
    written = platform_spec.format_all(found)
    again = answer(lambda: platform_spec.parse(written, HOST))
    if not isinstance(again, Refused):
        assert platform_spec.normalize(again) == platform_spec.normalize(found)
        return
    options = found.os_version + "".join(found.os_features)
    assert not all(c.isascii() and (c.isalnum() or c in "_.-+()/%") for c in options), written


def changes(data: bytes) -> None:
    """Instructions, one a line: what a config comes to can be written, and reads as the same."""
    state: Config = {}
    for line in as_text(data).split("\n"):
        found = answer(lambda line=line, state=state: instructions.applied(state, line))  # type: ignore[misc]  # mypy infers no type for a lambda with defaults
        if not isinstance(found, Refused):
            state = found
    written = go_json.dumps(state)
    assert go_json.dumps(go_json.loads(written, "config")) == written
    image = b'{"architecture":"amd64","os":"linux","config":%s}' % written
    assert oci.parse_config(image, "config").architecture == "amd64"
    parsed = answer(lambda: go_json.decode(written, docker.ContainerConfig, "config"))
    assert not isinstance(parsed, Refused), parsed

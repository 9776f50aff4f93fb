"""Docker's manifests shown as OCI's."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.errors import LimitExceeded
from engine.graph import MAX_DEPTH
from engine.layouts.entry import Entry
from engine.layouts.oci_manifests import with_oci_manifests
from engine.spec import platforms
from engine.spec.digest import Digest
from imgfs.vfs.views import CombinedView, DockerView, View
from tests import archives, docker_manifests
from tests.archives import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, ImageParts, descriptor
from tests.docker_manifests import LAYER, LIST, MANIFEST, archive, manifest, manifest_list, member
from tests.local_engine import LocalEngine
from tests.test_graph import Memory

APP = ImageParts(layers=[archives.layer("a"), archives.layer("b")])
ARM = ImageParts(layers=[archives.layer("arm")], architecture="arm64")
NAME = "docker.io/library/app:1"
GZIP = archives.compressed
ZSTD = b"\x28\xb5\x2f\xfd"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    with LocalEngine(tmp_path / "store") as opened:
        yield opened


def load(engine: LocalEngine, data: bytes) -> None:
    with engine.begin_import() as session:
        session.feed(data)
        session.finish()


def repository(
    engine: LocalEngine, view: View | None = None, prefix: str = "app:"
) -> dict[str, Entry]:
    """The entries of a repository's directory, by path."""
    images = [place.image for place in engine.images.places(prefix)]
    entries = (view or CombinedView()).entries(engine.store, images, 1, prefix)
    assert [entry.path for entry in entries] == sorted(entry.path for entry in entries)
    return {entry.path: entry for entry in entries}


def document(engine: LocalEngine, entries: Mapping[str, Entry], digest: str) -> Any:
    """A blob of the directory as JSON; its bytes are what its digest says."""
    entry = entries[f"blobs/sha256/{digest[7:]}"]
    content = entry.content
    data = content if type(content) is bytes else (engine.path / entry.path).read_bytes()
    assert archives.digest(data) == digest
    assert entry.size == len(data)
    return json.loads(data)


def targets(entries: Mapping[str, Entry]) -> list[dict[str, Any]]:
    content = entries["index.json"].content
    assert type(content) is bytes
    manifests = json.loads(content)["manifests"]
    assert isinstance(manifests, list)
    return manifests


def shown_of(blobs: Memory, target: dict[str, Any]) -> Any:
    """What the manifest of a layout that has this target alone becomes."""
    index = archives.to_json({"schemaVersion": 2, "manifests": [target]})
    layout = [
        Entry.directory("blobs", 1),
        Entry.blob(Digest(target["digest"]), target["size"], target["mediaType"]),
        Entry.file("index.json", 0o644, 1, index),
    ]
    entries = {entry.path: entry for entry in with_oci_manifests(layout, blobs)}
    made = entries[f"blobs/sha256/{targets(entries)[0]['digest'][7:]}"].content
    assert type(made) is bytes
    return json.loads(made)


def test_a_manifest_is_ocis_over_the_same_blobs(engine: LocalEngine) -> None:
    load(engine, docker_manifests.saved(NAME, APP))
    entries = repository(engine)
    (target,) = targets(entries)
    assert target["mediaType"] == OCI_MANIFEST
    assert target["annotations"] == {
        "io.containerd.image.name": NAME,
        "org.opencontainers.image.ref.name": "1",
    }
    assert target["digest"] == archives.digest(APP.manifest(gzipped=True))
    assert target["size"] == len(APP.manifest(gzipped=True))
    made = entries[f"blobs/sha256/{target['digest'][7:]}"]
    assert made.content == APP.manifest(gzipped=True)
    assert (made.mode, made.mtime, made.media_type) == (0o444, 0, OCI_MANIFEST)
    assert f"blobs/sha256/{archives.digest(manifest(APP))[7:]}" not in entries
    assert f"blobs/sha256/{APP.id[7:]}" in entries
    assert all(f"blobs/sha256/{archives.digest(GZIP(x))[7:]}" in entries for x in APP.layers)


def test_an_image_directory_stays_as_it_came(engine: LocalEngine) -> None:
    load(engine, docker_manifests.saved(NAME, APP))
    entries = repository(engine, prefix="")
    (target,) = targets(entries)
    assert target["digest"] == archives.digest(manifest(APP))
    assert target["mediaType"] == MANIFEST


@pytest.mark.parametrize(
    ("docker", "content", "expected"),
    [
        (LAYER, b"", OCI_LAYER),
        (f"{LAYER}.gzip", GZIP(b"x"), f"{OCI_LAYER}+gzip"),
        (f"{LAYER}.zstd", ZSTD, f"{OCI_LAYER}+zstd"),
        (LAYER, GZIP(b"x"), f"{OCI_LAYER}+gzip"),
        (LAYER, ZSTD + bytes(8), f"{OCI_LAYER}+zstd"),
        (f"{LAYER}.gzip+encrypted", b"?", f"{OCI_LAYER}+gzip+encrypted"),
        ("application/x-own", b"own", "application/x-own"),
        (
            docker_manifests.FOREIGN,
            b"",
            "application/vnd.oci.image.layer.nondistributable.v1.tar",
        ),
        (
            f"{docker_manifests.FOREIGN}.gzip",
            None,
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        ),
    ],
)
def test_layers_have_ocis_media_types(docker: str, content: bytes | None, expected: str) -> None:
    ref = descriptor(content or b"elsewhere", docker, urls=["https://example.com/layer"])
    config = descriptor(APP.config, docker_manifests.CONFIG)
    blob = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [ref]}
    data = archives.to_json(blob)
    held = Memory(data, APP.config, *([content] if content is not None else []))
    shown = shown_of(held, descriptor(data, MANIFEST))
    (layer,) = shown["layers"]
    assert layer == ref | {"mediaType": expected}
    assert shown["config"] == config | {"mediaType": OCI_CONFIG}


@pytest.mark.parametrize(
    ("media_type", "config", "expected"),
    [
        ("application/octet-stream", APP.config, OCI_CONFIG),
        ("text/html", APP.config, OCI_CONFIG),
        ("", APP.config, OCI_CONFIG),
        ("application/octet-stream", b"{}", "application/octet-stream"),
        ("application/octet-stream", b"no JSON", "application/octet-stream"),
        ("application/vnd.docker.plugin.v1+json", b"{}", "application/vnd.docker.plugin.v1+json"),
        ("application/octet-stream", None, "application/octet-stream"),
    ],
)
def test_a_config_is_an_images_by_what_is_in_it(
    media_type: str, config: bytes | None, expected: str
) -> None:
    blob = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(config or b"absent", media_type),
        "layers": [descriptor(layer, f"{LAYER}.gzip") for layer in APP.layers],
    }
    data = archives.to_json(blob)
    held = Memory(data, *([config] if config is not None else []))
    assert shown_of(held, descriptor(data, MANIFEST))["config"]["mediaType"] == expected


def test_a_list_is_an_index_of_what_its_manifests_become(engine: LocalEngine) -> None:
    images = (APP, ARM)
    target = manifest_list(*(member(manifest(image), image) for image in images))
    blobs = [b for i in images for b in (manifest(i), i.config, *map(GZIP, i.layers))]
    load(engine, archive(NAME, target, LIST, blobs))
    entries = repository(engine)
    (shown,) = targets(entries)
    assert shown["mediaType"] == OCI_INDEX
    assert document(engine, entries, shown["digest"]) == {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [member(i.manifest(gzipped=True), i, OCI_MANIFEST) for i in (APP, ARM)],
    }
    assert {
        document(engine, entries, archives.digest(i.manifest(True)))["mediaType"]
        for i in (APP, ARM)
    } == {OCI_MANIFEST}
    narrowed = repository(engine, CombinedView((platforms.parse("linux/arm64"),)))
    assert targets(narrowed) == targets(entries), "the same whichever platforms are shown"
    assert f"blobs/sha256/{archives.digest(APP.manifest(True))[7:]}" not in narrowed


def test_a_manifest_that_is_not_stored_stays_in_the_index(engine: LocalEngine) -> None:
    absent = member(manifest(ARM), ARM)
    target = manifest_list(absent, member(manifest(APP), APP))
    blobs = [manifest(APP), APP.config, *map(GZIP, APP.layers)]
    load(engine, archive(NAME, target, LIST, blobs))
    entries = repository(engine)
    shown = document(engine, entries, targets(entries)[0]["digest"])["manifests"]
    assert shown == [absent, member(APP.manifest(True), APP, OCI_MANIFEST)]


def test_attestations_refer_to_what_is_shown(engine: LocalEngine) -> None:
    statement = b'{"_type":"https://in-toto.io/Statement/v0.1"}'
    attestation = archives.to_json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(b"{}", OCI_CONFIG),
            "layers": [descriptor(statement, "application/vnd.in-toto+json")],
        }
    )
    annotations = {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": archives.digest(manifest(APP)),
    }
    unknown = {"architecture": "unknown", "os": "unknown"}
    attested = descriptor(attestation, OCI_MANIFEST, annotations=annotations, platform=unknown)
    target = manifest_list(attested, member(manifest(APP), APP), media_type=OCI_INDEX)
    blobs = [manifest(APP), APP.config, *map(GZIP, APP.layers), attestation, b"{}", statement]
    load(engine, archive(NAME, target, OCI_INDEX, blobs))
    entries = repository(engine)
    first, second = document(engine, entries, targets(entries)[0]["digest"])["manifests"]
    assert second["digest"] == archives.digest(APP.manifest(gzipped=True))
    assert first["digest"] == archives.digest(attestation), "it is OCI's already"
    assert first["annotations"]["vnd.docker.reference.digest"] == second["digest"]
    assert document(engine, entries, first["digest"]) == json.loads(attestation)


def test_what_is_ocis_stays(engine: LocalEngine) -> None:
    load(engine, archives.multi_platform(NAME, [APP, ARM]))
    images = engine.images.all()
    entries = repository(engine)
    assert [target["digest"] for target in targets(entries)] == [images[0].target.digest]
    assert all(
        type(entry.content) is not bytes for path, entry in entries.items() if "blobs/" in path
    )


def test_one_that_is_stored_both_ways_is_there_once(engine: LocalEngine) -> None:
    load(engine, docker_manifests.saved(NAME, APP))
    load(engine, archives.oci_archive((APP, "docker.io/library/app:2"), gzipped=True))
    entries = repository(engine)
    first, second = targets(entries)
    assert first["digest"] == second["digest"] == archives.digest(APP.manifest(gzipped=True))
    stored = entries[f"blobs/sha256/{first['digest'][7:]}"].content
    assert stored == first["digest"], "the blob of the store"


def test_untagged_images_keep_their_names(engine: LocalEngine) -> None:
    original = archives.digest(manifest(APP))
    entry = descriptor(manifest(APP), MANIFEST)
    blobs = [manifest(APP), APP.config, *map(GZIP, APP.layers)]
    load(engine, archives.tar(archives.oci_members([entry], blobs)))
    load(engine, archives.oci_archive((APP, None), gzipped=True))
    entries = repository(engine, prefix="sha256:")
    shown = {
        t["annotations"]["org.opencontainers.image.ref.name"]: t["digest"] for t in targets(entries)
    }
    made = archives.digest(APP.manifest(gzipped=True))
    assert shown == {original[7:]: made, made[7:]: made}


def test_the_layout_of_docker_save_is_ocis_anyway(engine: LocalEngine) -> None:
    load(engine, docker_manifests.saved(NAME, APP))
    (target,) = targets(repository(engine, DockerView()))
    assert target["mediaType"] == OCI_MANIFEST


def nested(depth: int) -> tuple[tuple[Entry, ...], Memory]:
    """A layout whose index has so many indexes below one another, the last of them empty."""
    documents = [archives.to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []})]
    for _ in range(depth):
        below = {"manifests": [descriptor(documents[-1], OCI_INDEX)]}
        documents.append(archives.to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, **below}))
    shown = Entry.file("index.json", 0o644, 1, documents[-1])
    return (Entry.directory("blobs", 1), shown), Memory(*documents[:-1])


def test_an_empty_index_is_the_last_that_may_be_nested() -> None:
    entries, blobs = nested(MAX_DEPTH + 1)
    assert with_oci_manifests(entries, blobs) == entries
    with pytest.raises(LimitExceeded, match="nested indexes"):
        with_oci_manifests(*nested(MAX_DEPTH + 2))

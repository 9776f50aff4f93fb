"""What an archive has to hold, and what is an image: by its documents, not by their media types."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.archive.import_options import ImportOptions
from engine.archive.loaded import Loaded
from engine.errors import (
    BrokenArchive,
    DigestMismatch,
    InvalidDocument,
    MissingMember,
    NotAnImage,
    NotExportable,
    SizeMismatch,
    UnreadableLayer,
)
from engine.filetree.merged import MergedImage
from engine.layouts import combined, docker_save
from engine.spec.oci import Platform
from tests import archives
from tests.archives import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    ImageParts,
    descriptor,
    oci_members,
    tar,
    to_json,
)
from tests.local_engine import LocalEngine

NAME, REF = "io.containerd.image.name", "org.opencontainers.image.ref.name"
APP = ImageParts(layers=[archives.layer("app")])
ARM = ImageParts(layers=[archives.layer("arm")], architecture="arm64")
OTHER = ImageParts(layers=[archives.layer("other")])


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    with LocalEngine(tmp_path / "store") as opened:
        yield opened


def load(engine: LocalEngine, archive: bytes, options: ImportOptions | None = None) -> Loaded:
    with engine.begin_import(options) as session:
        session.feed(archive)
        return session.finish()


def problems(engine: LocalEngine) -> list[object]:
    return [*engine.check(), *engine.check_layers()]


def listed(engine: LocalEngine) -> dict[str, str]:
    """The digest of every image, by its name."""
    return {image.familiar: image.target.digest for image in engine.images.all()}


def manifest(
    config: bytes, config_type: str | None, layers: list[tuple[bytes, str]], **more: Any
) -> bytes:
    described = descriptor(config, config_type or "")
    if config_type is None:
        del described["mediaType"]
    return to_json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": described,
            "layers": [descriptor(data, media_type) for data, media_type in layers],
            **more,
        }
    )


def entry(document: bytes, name: str = "", media_type: str = OCI_MANIFEST) -> dict[str, Any]:
    annotations = {NAME: f"docker.io/library/{name}"} if name else {}
    return descriptor(document, media_type, annotations=annotations)


def index(*entries: dict[str, Any]) -> bytes:
    return to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries)})


def archive(entries: list[dict[str, Any]], *blobs: bytes) -> bytes:
    return tar(oci_members(entries, blobs))


# -- image or artifact ------------------------------------------------------------------------

GZIP = f"{OCI_LAYER}+gzip"
LAYER = APP.layers[0]
ODD_TYPES = (
    "application/octet-stream",
    "application/json",
    "text/html",
    "application/vnd.docker.container.image.v1+json",
    "",
    None,
)


@pytest.mark.parametrize("config_type", ODD_TYPES)
def test_an_image_whatever_its_config_is_called(
    engine: LocalEngine, config_type: str | None
) -> None:
    blob = archives.compressed(LAYER)
    document = manifest(APP.config, config_type, [(blob, GZIP)])
    (image,) = load(engine, archive([entry(document, "app:1")], document, APP.config, blob)).images
    assert (image.id, image.platforms) == (APP.id, ("linux/amd64",))
    assert image.target == archives.digest(document)
    assert engine.details("app:1").config.rootfs.diff_ids == (archives.digest(LAYER),)
    entries = combined.layout(engine.images.all(), engine.content, combined.Options())
    (item,) = json.loads(next(e.content for e in entries if e.path == "manifest.json"))  # type: ignore[arg-type]  # a document's content is bytes
    assert item["Config"] == f"blobs/sha256/{APP.id[7:]}"
    assert problems(engine) == []


@pytest.mark.parametrize("config_type", ODD_TYPES)
def test_its_diff_ids_are_checked(engine: LocalEngine, config_type: str | None) -> None:
    wrong = archives.layer("wrong")
    document = manifest(APP.config, config_type, [(wrong, OCI_LAYER)])
    with pytest.raises(DigestMismatch, match=archives.digest(wrong)[7:]):
        load(engine, archive([entry(document, "app:1")], document, APP.config, wrong))
    document = manifest(APP.config, config_type, [(LAYER, OCI_LAYER), (LAYER, OCI_LAYER)])
    with pytest.raises(InvalidDocument, match="found 2 layers"):
        load(engine, archive([entry(document, "app:1")], document, APP.config, LAYER))
    assert engine.images.count() == 0


STATEMENT = b'{"_type":"https://in-toto.io/Statement/v0.1"}'
IN_TOTO = "application/vnd.in-toto+json"


def config_of(os: str, architecture: str, *layers: bytes) -> bytes:
    rootfs = {"type": "layers", "diff_ids": [archives.digest(layer) for layer in layers]}
    return to_json({"os": os, "architecture": architecture, "rootfs": rootfs, "config": {}})


ARTIFACTS: dict[str, tuple[bytes, str, list[tuple[bytes, str]], dict[str, Any], str]] = {
    "helm": (
        b'{"name":"chart","version":"1.0.0","apiVersion":"v2"}',
        "application/vnd.cncf.helm.config.v1+json",
        [(archives.compressed(LAYER), "application/vnd.cncf.helm.chart.content.v1.tar+gzip")],
        {},
        "application/vnd.cncf.helm.config.v1+json",
    ),
    "wasm": (
        b'{"architecture":"wasm","os":"wasip1","layerDigests":["sha256:00"]}',
        "application/vnd.wasm.config.v0+json",
        [(b"\0asm", "application/wasm")],
        {},
        "application/vnd.wasm.config.v0+json",
    ),
    "model": (
        to_json({"config": {}, "rootfs": {"type": "rootfs", "diff_ids": [archives.digest(b"G")]}}),
        "application/vnd.docker.ai.model.config.v0.1+json",
        [(b"GGUF", "application/vnd.docker.ai.gguf.v3")],
        {},
        "application/vnd.docker.ai.model.config.v0.1+json",
    ),
    "plugin": (
        to_json({"rootfs": {"type": "layers", "diff_ids": [archives.digest(LAYER)]}, "env": []}),
        "application/vnd.docker.plugin.v1+json",
        [(LAYER, OCI_LAYER)],
        {},
        "application/vnd.docker.plugin.v1+json",
    ),
    "ORAS": (
        b"{}",
        "application/vnd.oci.empty.v1+json",
        [(LAYER, OCI_LAYER)],
        {"artifactType": "application/vnd.example"},
        "application/vnd.example",
    ),
    "in-toto": (
        config_of("unknown", "unknown", STATEMENT),
        OCI_CONFIG,
        [(STATEMENT, IN_TOTO)],
        {},
        IN_TOTO,
    ),
    "in-toto, empty config": (b"{}", OCI_CONFIG, [(STATEMENT, IN_TOTO)], {}, IN_TOTO),
    "signature": (
        config_of("", "", b"{}"),
        OCI_CONFIG,
        [(b"{}", "application/vnd.dev.cosign.simplesigning.v1+json")],
        {},
        "application/vnd.dev.cosign.simplesigning.v1+json",
    ),
    "no JSON": (b"\x7fELF", "application/octet-stream", [(LAYER, OCI_LAYER)], {}, "octet-stream"),
}


@pytest.mark.parametrize("name", ARTIFACTS)
def test_an_artifact_stays_one(engine: LocalEngine, name: str) -> None:
    config, config_type, layers, more, artifact_type = ARTIFACTS[name]
    document = manifest(config, config_type, layers, **more)
    blobs = [data for data, _ in layers]
    (loaded,) = load(engine, archive([entry(document, "a:1")], document, config, *blobs)).images
    assert (loaded.id, loaded.platforms) == ("", ())
    (summary,) = engine.images.manifests(loaded.target)
    assert (summary.config, summary.platform) == ("", "")
    assert summary.size == len(document) + len(config) + sum(map(len, blobs))
    with pytest.raises(NotAnImage, match=re.escape(artifact_type)):
        engine.details("a:1")
    platform = Platform(architecture="amd64", os="linux")
    narrowed = combined.Options(required=(platform,))
    with pytest.raises(NotAnImage, match=re.escape(artifact_type)):
        combined.layout(engine.images.all(), engine.content, narrowed)
    with pytest.raises(NotAnImage, match=re.escape(artifact_type)):
        docker_save.layout(engine.images.all(), engine.content, len, docker_save.Options())
    assert problems(engine) == []


def test_an_artifact_has_none_of_the_platforms_that_are_asked_for(engine: LocalEngine) -> None:
    config, config_type, layers, _, _ = ARTIFACTS["helm"]
    chart = manifest(config, config_type, layers)
    options = ImportOptions(platforms=(Platform(architecture="amd64", os="linux"),))
    blobs = [chart, config, layers[0][0]]
    with pytest.raises(NotAnImage, match="helm"):
        load(engine, archive([entry(chart, "a:1")], *blobs), options)
    entries = [entry(chart, "a:1"), entry(APP.manifest(), "app:1")]
    load(engine, archive(entries, *blobs, *APP.blobs()), options)
    assert sorted(listed(engine)) == ["a:1", "app:1"]


# -- what stands beside an image --------------------------------------------------------------

CACHED = archives.compressed(archives.layer("cached"))
CACHE_CONFIG = b'{"layers":[],"records":[]}'
CACHE = index(
    descriptor(CACHED, GZIP), descriptor(CACHE_CONFIG, "application/vnd.buildkit.cacheconfig.v0")
)
EMPTY = index()
ATTESTED = config_of("unknown", "unknown", STATEMENT)
ATTESTATION = manifest(ATTESTED, OCI_CONFIG, [(STATEMENT, IN_TOTO)])
SBOM = manifest(
    b"{}",
    "application/vnd.oci.empty.v1+json",
    [(b'{"spdx":1}', "text/spdx+json")],
    artifactType="text/spdx+json",
    subject=descriptor(APP.manifest(), OCI_MANIFEST),
)


def attests(image: bytes) -> dict[str, Any]:
    annotations = {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": archives.digest(image),
    }
    return descriptor(ATTESTATION, OCI_MANIFEST, annotations=annotations)


BESIDE: dict[str, tuple[dict[str, Any], list[bytes]]] = {
    "attestation": (attests(APP.manifest()), [ATTESTATION, ATTESTED, STATEMENT]),
    "cache": (descriptor(CACHE, OCI_INDEX), [CACHE, CACHED, CACHE_CONFIG]),
    "empty index": (descriptor(EMPTY, OCI_INDEX), [EMPTY]),
    "SBOM": (descriptor(SBOM, OCI_MANIFEST), [SBOM, b"{}", b'{"spdx":1}']),
}


@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.parametrize("first", [False, True])
def test_what_stands_beside_an_image_comes_with_it(
    engine: LocalEngine, name: str, first: bool
) -> None:
    beside, blobs = BESIDE[name]
    entries = [entry(APP.manifest(), "app:1"), beside]
    loaded = load(engine, archive(entries[:: -1 if first else 1], *APP.blobs(), *blobs))
    assert listed(engine) == {
        "app:1": archives.digest(APP.manifest()),
        beside["digest"]: beside["digest"],
    }
    assert loaded.left_out == ()
    engine.collector().collect()
    assert engine.content.sizes(map(archives.digest, blobs)).keys() == {
        *map(archives.digest, blobs)
    }
    assert problems(engine) == []


@pytest.mark.parametrize("name", ["attestation", "cache", "SBOM"])
def test_what_is_incomplete_costs_itself_and_is_told(engine: LocalEngine, name: str) -> None:
    beside, blobs = BESIDE[name]
    entries = [beside, entry(APP.manifest(), "app:1")]
    loaded = load(engine, archive(entries, *APP.blobs(), *blobs[:-1]))
    assert list(listed(engine)) == ["app:1"]
    (left_out,) = loaded.left_out
    assert left_out.name == beside["digest"]
    assert archives.digest(blobs[-1])[7:] in left_out.reason
    assert problems(engine) == []


def test_an_image_that_is_incomplete_costs_itself_and_is_told(engine: LocalEngine) -> None:
    entries = [entry(OTHER.manifest(), "other:1"), entry(APP.manifest(), "app:1")]
    part = [OTHER.manifest(), OTHER.config]
    loaded = load(engine, archive(entries, *APP.blobs(), *part))
    assert list(listed(engine)) == ["app:1"]
    assert [one.name for one in loaded.left_out] == ["docker.io/library/other:1"]
    assert not engine.content.exists(archives.digest(OTHER.config))


def test_what_is_wrong_is_not_left_out(engine: LocalEngine) -> None:
    wrong = manifest(OTHER.config, OCI_CONFIG, [(LAYER, OCI_LAYER)])
    entries = [entry(wrong, "other:1"), entry(APP.manifest(), "app:1")]
    with pytest.raises(DigestMismatch):
        load(engine, archive(entries, *APP.blobs(), wrong, OTHER.config))
    assert engine.images.count() == 0


def test_what_may_have_come_after_a_cut_end_is_not_left_out(engine: LocalEngine) -> None:
    entries = [entry(APP.manifest(), "app:1"), entry(OTHER.manifest(), "other:1")]
    members = oci_members(entries, [*APP.blobs(), OTHER.manifest(), OTHER.config])
    cut = tar(members).rstrip(b"\0")
    cut += bytes(-len(cut) % 512)
    with pytest.raises(MissingMember, match="the archive is truncated"):
        load(engine, cut)
    assert engine.images.count() == 0


@pytest.mark.parametrize("name", ["cache", "empty index"])
def test_an_archive_needs_an_image_or_an_artifact(engine: LocalEngine, name: str) -> None:
    beside, blobs = BESIDE[name]
    with pytest.raises(InvalidDocument, match="names no image"):
        load(engine, archive([beside], *blobs))


@pytest.mark.parametrize("media_type", ["application/vnd.oci.descriptor.v1+json", ""])
def test_an_entry_that_is_no_manifest_is_told(engine: LocalEngine, media_type: str) -> None:
    strange = descriptor(b"{}", media_type, annotations={REF: "docker.io/x/y:1"})
    loaded = load(engine, archive([strange, entry(APP.manifest(), "app:1")], *APP.blobs(), b"{}"))
    (left_out,) = loaded.left_out
    assert left_out.name == "docker.io/x/y:1"
    assert (media_type or "not given") in left_out.reason
    with pytest.raises(BrokenArchive, match="names no image") as raised:
        load(engine, archive([strange], b"{}"))
    assert (media_type or "not given") in str(raised.value)


def platforms_index() -> bytes:
    entries = [
        descriptor(
            parts.manifest(), OCI_MANIFEST, platform={"os": "linux", "architecture": architecture}
        )
        for parts, architecture in ((APP, "amd64"), (ARM, "arm64"))
    ]
    return index(*entries, attests(APP.manifest()))


MULTI = platforms_index()
OF_MULTI = [MULTI, *APP.blobs(), *ARM.blobs(), ATTESTATION, ATTESTED, STATEMENT]


@pytest.mark.parametrize("name", ["multi:1", ""])
@pytest.mark.parametrize("narrowed", [False, True])
def test_what_is_part_of_an_index_is_no_image_of_its_own(
    engine: LocalEngine, name: str, narrowed: bool
) -> None:
    entries = [
        entry(ARM.manifest()),
        entry(MULTI, name, OCI_INDEX),
        entry(APP.manifest()),
        attests(APP.manifest()),
        attests(APP.manifest()),
    ]
    wanted = (Platform(architecture="arm64", os="linux"),) if narrowed else ()
    loaded = load(engine, archive(entries, *OF_MULTI), ImportOptions(platforms=wanted))
    assert list(listed(engine).values()) == [archives.digest(MULTI)]
    assert loaded.left_out == ()


def test_what_is_part_of_an_index_keeps_a_name_of_its_own(engine: LocalEngine) -> None:
    entries = [entry(MULTI, "multi:1", OCI_INDEX), entry(ARM.manifest(), "arm:1")]
    load(engine, archive(entries, *OF_MULTI))
    assert sorted(listed(engine)) == ["arm:1", "multi:1"]


def test_a_missing_part_is_told_once(engine: LocalEngine) -> None:
    entries = [entry(MULTI, "multi:1", OCI_INDEX), entry(ARM.manifest()), entry(APP.manifest())]
    present = [blob for blob in OF_MULTI if blob not in (ARM.manifest(), ARM.layers[0])]
    (image,) = (loaded := load(engine, archive(entries, *present))).images
    assert image.missing_platforms == ("linux/arm64",)
    assert loaded.left_out == ()


# -- manifest.json beside index.json ----------------------------------------------------------


def item(parts: ImageParts, *tags: str) -> dict[str, Any]:
    paths = [f"blobs/sha256/{archives.digest(data)[7:]}" for data in (parts.config, *parts.layers)]
    return {"Config": paths[0], "RepoTags": list(tags) or None, "Layers": paths[1:]}


def both(entries: Any, items: Any, *blobs: bytes) -> bytes:
    members = dict(oci_members([], blobs))
    members["index.json"] = to_json({"schemaVersion": 2, "manifests": entries})
    members["manifest.json"] = to_json(items)
    return tar(members.items())


@pytest.mark.parametrize("entries", [None, []])
def test_images_that_only_manifest_json_names(engine: LocalEngine, entries: Any) -> None:
    items = [item(APP, "app:1"), item(OTHER)]
    loaded = load(engine, both(entries, items, APP.config, LAYER, OTHER.config, *OTHER.layers))
    assert [image.id for image in loaded.images] == [APP.id, OTHER.id]
    assert "app:1" in listed(engine)


def test_images_that_index_json_forgot(engine: LocalEngine) -> None:
    entries = [entry(APP.manifest())]
    items = [item(APP), item(OTHER, "other:1")]
    loaded = load(engine, both(entries, items, *APP.blobs(), OTHER.config, *OTHER.layers))
    assert [image.id for image in loaded.images] == [APP.id, OTHER.id]
    assert listed(engine).keys() == {archives.digest(APP.manifest()), "other:1"}


def test_a_platform_that_is_not_wanted_does_not_come_by_manifest_json(engine: LocalEngine) -> None:
    entries = [entry(MULTI, "multi:1", OCI_INDEX)]
    options = ImportOptions(platforms=(Platform(architecture="arm64", os="linux"),))
    load(engine, both(entries, [item(APP, "multi:1")], *OF_MULTI), options)
    assert listed(engine) == {"multi:1": archives.digest(MULTI)}
    assert not engine.content.exists(APP.id)


def test_manifest_json_gives_what_index_json_cannot(engine: LocalEngine) -> None:
    gzipped = [OTHER.manifest(gzipped=True), OTHER.config, *OTHER.layers]
    entries = [entry(APP.manifest(), "app:1"), entry(gzipped[0], "other:1")]
    items = [item(APP, "app:1"), item(OTHER, "other:1")]
    loaded = load(engine, both(entries, items, *APP.blobs(), *gzipped))
    assert [image.id for image in loaded.images] == [APP.id, OTHER.id]
    assert sorted(listed(engine)) == ["app:1", "other:1"]
    assert loaded.left_out == ()


@pytest.mark.parametrize("items", [None, [], [item(OTHER, "other:1")], [item(OTHER, "UPPER")], {}])
def test_a_bad_manifest_json_costs_itself(engine: LocalEngine, items: Any) -> None:
    loaded = load(engine, both([entry(APP.manifest())], items, *APP.blobs()))
    assert list(listed(engine)) == [archives.digest(APP.manifest())]
    assert len(loaded.left_out) == bool(items or items == {})


# -- what cannot be verified ------------------------------------------------------------------

NOISE = bytes(range(256)) * 8
UNREADABLE = (
    f"{OCI_LAYER}+gzip+encrypted",
    f"{OCI_LAYER}+encrypted",
    "application/vnd.docker.image.rootfs.diff.tar.gzip+encrypted",
    f"{OCI_LAYER}+br",
    "application/vnd.example.layer",
)


def test_a_blob_of_two_layer_types_is_told_by_each_of_them(engine: LocalEngine) -> None:
    for n, media_type in enumerate(UNREADABLE[-2:]):
        document = manifest(APP.config, OCI_CONFIG, [(NOISE, media_type)])
        load(engine, archive([entry(document, f"app:{n}")], document, APP.config, NOISE))
    told = {one.images: one.reason for one in engine.unverified_layers()}
    assert UNREADABLE[-2] in told["app:0",]
    assert UNREADABLE[-1] in told["app:1",]


@pytest.mark.parametrize("media_type", UNREADABLE)
def test_a_layer_that_cannot_be_verified(engine: LocalEngine, media_type: str) -> None:
    document = manifest(APP.config, OCI_CONFIG, [(NOISE, media_type)])
    load(engine, archive([entry(document, "app:1")], document, APP.config, NOISE))
    assert engine.content.info(archives.digest(NOISE)).labels == {}
    assert problems(engine) == []
    (unverified,) = engine.unverified_layers()
    assert (unverified.digest, unverified.images) == (archives.digest(NOISE), ("app:1",))
    with pytest.raises(NotExportable, match=archives.digest(NOISE)):
        docker_save.layout(engine.images.all(), engine.content, len, docker_save.Options())
    with pytest.raises(UnreadableLayer, match=archives.digest(NOISE)):
        _ = MergedImage(engine.layers, engine.details("app:1").manifest.manifest).tree


@pytest.mark.parametrize("media_type", [OCI_LAYER, GZIP, f"{OCI_LAYER}+zstd"])
def test_a_layer_that_can_be_verified_is(engine: LocalEngine, media_type: str) -> None:
    document = manifest(APP.config, OCI_CONFIG, [(NOISE, media_type)])
    with pytest.raises(DigestMismatch):
        load(engine, archive([entry(document, "app:1")], document, APP.config, NOISE))


def test_a_blob_that_is_too_long_has_the_wrong_size(engine: LocalEngine) -> None:
    members = dict(oci_members([entry(APP.manifest(), "app:1")], APP.blobs()))
    for blob in APP.blobs():
        path = f"blobs/sha256/{archives.digest(blob)[7:]}"
        longer = {**members, path: blob + b"\n"}
        with pytest.raises(SizeMismatch, match=f"{path}.*expected {len(blob)}, found") as raised:
            load(engine, tar(longer.items()))
        assert raised.value.found == len(blob) + 1


# -- configs ----------------------------------------------------------------------------------

CONFIGS: dict[str, dict[str, Any]] = {
    "User": {"config": {"User": 1234}},
    "Env": {"config": {"Env": "A=b"}},
    "Labels": {"config": {"Labels": {"a": 1}}},
    "ExposedPorts": {"config": {"ExposedPorts": ["80/tcp"]}},
    "Interval": {"config": {"Healthcheck": {"Interval": "30s"}}},
    r"history\[0\].created": {"history": [{"created": "x"}]},
    "created_by": {"history": [{"created_by": ["a"]}]},
    "created": {"created": "yesterday"},
    "created: not": {"created": ""},
}


@pytest.mark.parametrize("culprit", CONFIGS)
@pytest.mark.parametrize("kind", ["docker", "oci"])
def test_a_config_that_docker_could_not_read(engine: LocalEngine, culprit: str, kind: str) -> None:
    parts = ImageParts(extra=CONFIGS[culprit])
    made = {
        "docker": archives.docker_archive((parts, ["app:1"])),
        "oci": archives.oci_archive((parts, "docker.io/library/app:1")),
    }
    with pytest.raises(InvalidDocument, match=culprit):
        load(engine, made[kind])


@pytest.mark.parametrize(
    "extra",
    [
        {"config": {"Cmd": "sh", "Entrypoint": "sh", "Unknown": 5, "Volumes": {"/a": None}}},
        {"config": None, "history": None, "created": None},
        {"history": [{"created": None, "comment": None}]},
    ],
)
def test_a_config_that_docker_reads(engine: LocalEngine, extra: dict[str, Any]) -> None:
    parts = ImageParts(extra=extra)
    load(engine, archives.oci_archive((parts, "docker.io/library/app:1")))
    assert engine.details("app:1").manifest.manifest.config.digest == parts.id

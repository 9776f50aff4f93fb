"""Loading: which archives become which images, and what is left when they don't."""

import bz2
import errno
import gzip
import io
import json
import lzma
import os
import random
import tarfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.archive import archive_documents, pooled_layers
from engine.archive.import_options import ImportOptions
from engine.archive.loaded import Loaded
from engine.content.protocols import ReaderAt
from engine.errors import (
    BrokenArchive,
    ContentMismatch,
    DigestMismatch,
    EngineError,
    InvalidDocument,
    LimitExceeded,
    MissingMember,
    SizeMismatch,
    StoreError,
)
from engine.hashing.updates import Hashing
from engine.layers.diff_ids import Uncompressed, measure
from engine.limits import Limits
from engine.spec import docker as spec_docker
from engine.spec import oci as spec_oci
from engine.tar.header_encoder import Header
from engine.tar.sparse_encoder import encode_sparse
from tests import archives
from tests.archives import ImageParts, descriptor, link, tar, to_json
from tests.local_engine import LocalEngine
from tests.tar import raw_tar

APP = ImageParts(layers=[archives.layer("a"), archives.layer("b")])
BIG = ImageParts(layers=[archives.layer("big", os.urandom(200_000)), archives.layer("b")])


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    with LocalEngine(tmp_path / "store") as opened:
        yield opened


LIMITS = Limits()


def load(
    engine: LocalEngine, archive: bytes, step: int = 1 << 16, limits: Limits = LIMITS
) -> Loaded:
    with engine.begin_import(ImportOptions(limits=limits)) as session:
        for offset in range(0, len(archive), step):
            session.feed(memoryview(archive)[offset : offset + step])
        return session.finish()


def picture(engine: LocalEngine) -> object:
    """Every row and every file of a store."""
    tables = ("blobs", "images", "targets", "members", "manifests", "leases", "lease_resources")
    rows = [engine.database.read(f"SELECT * FROM {table}") for table in tables]
    paths = sorted(engine.path.rglob("*"))
    files = [(str(p), p.stat().st_size) for p in paths if "imgfs.db" not in p.name]
    return rows, files


def ids(engine: LocalEngine) -> dict[str, str]:
    """Familiar name → image ID of everything stored."""
    return {
        image.familiar: engine.images.manifests(image.target.digest)[0].config
        for image in engine.images.all()
    }


def docker(items: Any, *members: tuple[str, bytes] | tarfile.TarInfo) -> bytes:
    """A docker archive of these members whose manifest.json has these items."""
    return tar([*members, ("manifest.json", to_json(items))])


PLAIN = archives.layer()
ONE = ImageParts(layers=[PLAIN])
CONFIG = ("c.json", ONE.config)


def item(**more: Any) -> dict[str, Any]:
    return {"Config": "c.json", "RepoTags": ["app:1"], "Layers": ["l.tar"], **more}


def sharing(count: int) -> bytes:
    """An OCI archive of as many manifests over one config."""
    blobs: list[bytes] = []
    for number in range(count):
        document = json.loads(ONE.manifest()) | {"annotations": {"n": f"{number}"}}
        blobs.append(to_json(document))
    annotations = [{"io.containerd.image.name": f"docker.io/library/a:{n}"} for n in range(count)]
    entries = [
        descriptor(blob, archives.OCI_MANIFEST, annotations=named)
        for blob, named in zip(blobs, annotations, strict=True)
    ]
    return tar(archives.oci_members(entries, [*ONE.blobs(), *blobs]))


def spelled(count: int) -> bytes:
    """A docker archive of as many items, each with another path to one config."""
    items = [item(Config="./" * n + "c.json", RepoTags=[f"a:{n}"]) for n in range(count)]
    return docker(items, CONFIG, ("l.tar", PLAIN))


@pytest.mark.parametrize("make", [sharing, spelled])
def test_a_config_of_many_images_is_read_once(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch, make: Callable[[int], bytes]
) -> None:
    parsed: list[str] = []
    parse = spec_oci.parse_config

    def counted(data: bytes, subject: str) -> spec_oci.ImageConfig:
        parsed.append(subject)
        return parse(data, subject)

    monkeypatch.setattr(spec_oci, "parse_config", counted)
    monkeypatch.setattr(spec_docker, "parse_config", counted)
    assert len(load(engine, make(20)).images) == 20
    assert len(parsed) < 5


def test_the_documents_of_a_load_are_limited(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_documents, "DOCUMENT_BYTES", 20_000)
    load(engine, sharing(5))
    with pytest.raises(LimitExceeded, match="bytes of documents: limit 20000"):
        load(engine, sharing(50))


def test_what_a_load_keeps_of_documents_is_limited(engine: LocalEngine) -> None:
    limits = Limits(max_document_bytes=20_000)
    load(engine, sharing(5), limits=limits)
    with pytest.raises(LimitExceeded, match="manifests and configs name: limit 20000"):
        load(engine, sharing(50), limits=limits)
    assert len(load(engine, sharing(50)).images) == 50


DOCKER_ARCHIVES = {
    "flat names": docker([item()], CONFIG, ("l.tar", PLAIN)),
    "gzip layer": docker([item()], CONFIG, ("l.tar", archives.compressed(PLAIN))),
    "symlinked layer": docker(
        [item()], CONFIG, ("x/layer.tar", PLAIN), link("l.tar", "x/layer.tar")
    ),
    "chain of symlinks": docker(
        [item(Layers=["a/layer.tar"])],
        CONFIG,
        link("a/layer.tar", "../b/layer.tar"),
        link("b/layer.tar", "../c/layer.tar"),
        ("c/layer.tar", PLAIN),
    ),
    "hard-linked layer": docker(
        [item()], CONFIG, ("x.tar", PLAIN), link("l.tar", "x.tar", tarfile.LNKTYPE)
    ),
    "go-containerregistry": archives.crane_archive((ONE, ["app:1"])),
    "go-containerregistry, legacy": archives.legacy_crane_archive(ONE, "app", "1"),
    "./ names": tar(
        [("./c.json", ONE.config), ("./l.tar", PLAIN), ("./manifest.json", to_json([item()]))]
    ),
    "absolute names": tar(
        [("/c.json", ONE.config), ("/l.tar", PLAIN), ("/manifest.json", to_json([item()]))]
    ),
    "./ in manifest.json": docker(
        [item(Config="./c.json", Layers=["./l.tar"])], CONFIG, ("l.tar", PLAIN)
    ),
    "lower-case keys": docker(
        [{"config": "c.json", "repoTags": ["app:1"], "layers": ["l.tar"]}], CONFIG, ("l.tar", PLAIN)
    ),
    "text behind the array": tar(
        [CONFIG, ("l.tar", PLAIN), ("manifest.json", to_json([item()]) + b" garbage")]
    ),
    "two manifest.json, the last counts": tar(
        [
            CONFIG,
            ("l.tar", PLAIN),
            ("manifest.json", to_json([item(RepoTags=["old:1"])])),
            ("manifest.json", to_json([item()])),
        ]
    ),
    "manifest.json a symlink": tar(
        [CONFIG, ("l.tar", PLAIN), ("m", to_json([item()])), link("manifest.json", "m")]
    ),
    "manifest.json a hard link": tar(
        [
            CONFIG,
            ("l.tar", PLAIN),
            ("m", to_json([item()])),
            link("manifest.json", "m", tarfile.LNKTYPE),
        ]
    ),
    "members that nobody needs": docker(
        [item()], CONFIG, ("l.tar", PLAIN), ("README", b"x" * 100_000), link("dangling", "nowhere")
    ),
    "a tag without its part": docker([item(RepoTags=["app:1", "app:1"])], CONFIG, ("l.tar", PLAIN)),
}


@pytest.mark.parametrize("name", DOCKER_ARCHIVES)
def test_docker_archives(engine: LocalEngine, name: str) -> None:
    loaded = load(engine, DOCKER_ARCHIVES[name])
    assert [image.names for image in loaded.images] == [("docker.io/library/app:1",)]
    assert loaded.images[0].id == ONE.id
    assert ids(engine) == {"app:1": ONE.id}


def test_the_manifest_that_is_made_is_ocis(engine: LocalEngine) -> None:
    loaded = load(engine, DOCKER_ARCHIVES["gzip layer"])
    with engine.content.open(loaded.images[0].target) as reader:
        manifest = reader.pread(reader.size, 0)
    blob = archives.compressed(PLAIN)
    assert manifest == to_json(
        {
            "schemaVersion": 2,
            "mediaType": archives.OCI_MANIFEST,
            "config": descriptor(ONE.config, archives.OCI_CONFIG),
            "layers": [descriptor(blob, f"{archives.OCI_LAYER}+gzip")],
        }
    )
    info = engine.content.info(loaded.images[0].target)
    assert info.labels == {
        "containerd.io/gc.ref.content.0": ONE.id,
        "containerd.io/gc.ref.content.1": archives.digest(blob),
    }


def test_several_images_share_what_they_share(engine: LocalEngine) -> None:
    other = ImageParts(layers=[APP.layers[0], archives.layer("c")])
    load(engine, archives.docker_archive((APP, ["app:1", "app:2"]), (other, ["other:1"])))
    assert ids(engine) == {"app:1": APP.id, "app:2": APP.id, "other:1": other.id}
    assert len(list(engine.content.walk())) == 7


def test_an_image_without_a_name_is_untagged(engine: LocalEngine) -> None:
    (image,) = load(engine, archives.docker_archive((APP, None))).images
    assert image.names == ()
    assert [i.name for i in engine.images.all()] == [image.target]


def test_loading_again_changes_no_blob(engine: LocalEngine) -> None:
    archive = archives.oci_archive((BIG, "docker.io/library/big:1"))
    assert load(engine, archive).new_blobs == 4
    again = load(engine, archive)
    assert (again.new_blobs, again.new_bytes) == (0, 0)


def test_a_tag_moves_and_the_old_image_stays(engine: LocalEngine) -> None:
    load(engine, archives.docker_archive((APP, ["app:1"])))
    load(engine, archives.docker_archive((ONE, ["app:1"])))
    names = ids(engine)
    assert names.pop("app:1") == ONE.id
    assert list(names.values()) == [APP.id]


def test_a_layer_that_the_store_has_need_not_be_sent(engine: LocalEngine) -> None:
    load(engine, DOCKER_ARCHIVES["flat names"])
    load(engine, docker([item(RepoTags=["again:1"])], CONFIG))
    assert set(ids(engine)) == {"app:1", "again:1"}


def test_a_layer_may_be_a_sparse_member(engine: LocalEngine) -> None:
    stored = PLAIN.rstrip(b"\0")
    header = Header("l.tar", mode=0o644, size=len(PLAIN), mtime=0)
    sparse = encode_sparse(header, [(0, len(stored))]) + raw_tar.padded(stored)
    load(engine, sparse + docker([item()], CONFIG))
    assert ids(engine) == {"app:1": ONE.id}


def test_a_foreign_layer_is_kept_as_its_descriptor(engine: LocalEngine) -> None:
    foreign = archives.layer("windows")
    parts = ImageParts(layers=[foreign, PLAIN])
    source: dict[str, Any] = {
        "mediaType": FOREIGN,
        "size": 1234,
        "digest": archives.digest(b"elsewhere"),
        "urls": ["https://example.com/layer"],
    }
    sources = {archives.digest(foreign): source}
    archive = docker(
        [item(Layers=["foreign.tar", "l.tar"], LayerSources=sources)],
        ("c.json", parts.config),
        ("l.tar", PLAIN),
    )
    (image,) = load(engine, archive).images
    layers = engine.graph(engine.images.all()[0]).images[0].manifest.layers
    assert (layers[0].digest, layers[0].urls) == (source["digest"], tuple(source["urls"]))
    assert image.id == parts.id


@pytest.mark.parametrize(
    "compress", [gzip.compress, bz2.compress, lzma.compress], ids=["gzip", "bzip2", "xz"]
)
@pytest.mark.parametrize("step", [1, 1000, 1 << 20])
def test_outer_compression(
    engine: LocalEngine, compress: Callable[[bytes], bytes], step: int
) -> None:
    load(engine, compress(archives.docker_archive((APP, ["app:1"]))), step)
    assert ids(engine) == {"app:1": APP.id}


# -- OCI --------------------------------------------------------------------------------------


def entry(annotations: dict[str, str] | None = None, parts: ImageParts = APP) -> dict[str, Any]:
    return descriptor(parts.manifest(), archives.OCI_MANIFEST, annotations=annotations or {})


def oci(*entries: dict[str, Any], blobs: list[bytes] | None = None) -> bytes:
    return tar(archives.oci_members(entries, APP.blobs() if blobs is None else blobs))


REF = "org.opencontainers.image.ref.name"
NAME = "io.containerd.image.name"


@pytest.mark.parametrize(
    ("annotations", "name"),
    [
        ({NAME: "docker.io/library/app:1"}, "app:1"),
        ({NAME: "docker.io/library/app:1", REF: "other"}, "app:1"),
        ({REF: "ghcr.io/org/app:2"}, "ghcr.io/org/app:2"),
        ({REF: "app:3"}, "app:3"),
        ({REF: "org/app"}, "org/app:latest"),
        ({REF: "latest"}, None),
        ({REF: "UPPER/CASE!"}, None),
        ({NAME: "UPPER"}, None),
        ({}, None),
    ],
)
def test_oci_names(engine: LocalEngine, annotations: dict[str, str], name: str | None) -> None:
    load(engine, oci(entry(annotations)))
    target = archives.digest(APP.manifest())
    assert ids(engine) == {name or target: APP.id}


def test_oci_keeps_the_manifest_and_its_digest(engine: LocalEngine) -> None:
    (image,) = load(engine, archives.oci_archive((APP, "docker.io/x/app:1"), gzipped=True)).images
    assert image.target == archives.digest(APP.manifest(gzipped=True))
    layer = archives.digest(archives.compressed(APP.layers[0]))
    assert engine.content.info(layer).labels == uncompressed_labels(APP.layers[0])


def uncompressed_labels(layer: bytes) -> dict[str, str]:
    return {
        "containerd.io/uncompressed": archives.digest(layer),
        "imgfs.uncompressed.size": str(len(layer)),
    }


@pytest.mark.parametrize("size", [100, 200_000])
def test_what_a_layer_is_when_it_is_uncompressed_is_learnt(engine: LocalEngine, size: int) -> None:
    layer = archives.layer(content=random.Random(size).randbytes(size))
    archive = archives.oci_archive((ImageParts((layer,)), NAME), gzipped=True)
    load(engine, archive)
    stored = archives.digest(archives.compressed(layer))
    assert engine.content.info(stored).labels == uncompressed_labels(layer)
    engine.content.update(stored, dict.fromkeys(uncompressed_labels(layer), ""))
    load(engine, archive)
    assert engine.content.info(stored).labels == uncompressed_labels(layer)


def test_index_json_wins_over_manifest_json(engine: LocalEngine) -> None:
    members = archives.oci_members([entry({REF: "x/oci:1"})], APP.blobs())
    manifest = to_json([item(RepoTags=["x/oci:1", "x/docker:1"])])
    load(engine, tar([*members, ("manifest.json", manifest), CONFIG, ("l.tar", PLAIN)]))
    assert ids(engine) == {"x/oci:1": APP.id, "x/docker:1": ONE.id}


def test_a_name_that_only_manifest_json_knows(engine: LocalEngine) -> None:
    members = archives.oci_members([entry()], APP.blobs())
    config = f"blobs/sha256/{APP.id[7:]}"
    layers = [f"blobs/sha256/{archives.digest(data)[7:]}" for data in APP.layers]
    manifest = to_json([item(Config=config, Layers=layers)])
    load(engine, tar([*members, ("manifest.json", manifest)]))
    assert ids(engine) == {"app:1": APP.id}


def test_a_name_that_manifest_json_knows_beside_one_that_index_json_knows(
    engine: LocalEngine,
) -> None:
    members = archives.oci_members(
        [entry(), entry({REF: "x/big:1"}, BIG)], [*APP.blobs(), *BIG.blobs()]
    )
    config = f"blobs/sha256/{APP.id[7:]}"
    layers = [f"blobs/sha256/{archives.digest(data)[7:]}" for data in APP.layers]
    manifest = to_json([item(Config=config, Layers=layers, RepoTags=["app:1", "x/big:1"])])
    load(engine, tar([*members, ("manifest.json", manifest)]))
    assert ids(engine) == {"app:1": APP.id, "x/big:1": BIG.id}


@pytest.mark.parametrize(
    "name", [archives.digest(APP.manifest()), f"docker.io/library/app@{archives.digest(b'other')}"]
)
def test_a_name_that_is_another_images_digest_names_nothing(engine: LocalEngine, name: str) -> None:
    (image,) = load(engine, oci(entry({NAME: name}), blobs=APP.blobs())).images
    assert image.names == ()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_documents_may_be_links(engine: LocalEngine, kind: bytes) -> None:
    members = archives.oci_members([entry({REF: "x/app:1"})], APP.blobs())
    moved = [(name if "/" in name else f"real-{name}", data) for name, data in members]
    links = [link(name, f"real-{name}", kind) for name in ("index.json", "oci-layout")]
    load(engine, tar([*moved, *links]))
    assert ids(engine) == {"x/app:1": APP.id}


def test_an_index_may_lack_platforms(engine: LocalEngine) -> None:
    arm = ImageParts(layers=[archives.layer("arm")], architecture="arm64")
    absent = ImageParts(layers=[archives.layer("s390x")], architecture="s390x")
    archive = archives.multi_platform("docker.io/library/multi:1", [APP, arm], [absent])
    (image,) = load(engine, archive).images
    assert image.platforms == ("linux/amd64", "linux/arm64")


@pytest.mark.parametrize("lost", range(3))
def test_what_is_recorded_of_a_platform_in_parts_is_what_is_stored(
    engine: LocalEngine, lost: int
) -> None:
    arm = ImageParts(layers=[archives.layer("arm"), archives.layer("lib")], architecture="arm64")
    parts = [blob for n, blob in enumerate(arm.blobs()[1:]) if n != lost]
    archive = archives.multi_platform("docker.io/library/multi:1", [APP], [arm])
    more = [(f"blobs/sha256/{archives.digest(blob)[7:]}", blob) for blob in parts]
    more.append((f"blobs/sha256/{archives.digest(arm.manifest())[7:]}", arm.manifest()))
    (image,) = load(engine, archives.extended(archive, more)).images
    assert image.missing_platforms == ("linux/arm64",)
    assert sorted(image.missing) == sorted(map(archives.digest, arm.blobs()[1:]))
    assert list(engine.check()) == []


def test_the_missing_platform_may_come_later(engine: LocalEngine) -> None:
    arm = ImageParts(layers=[archives.layer("arm")], architecture="arm64")
    load(engine, archives.multi_platform("docker.io/library/multi:1", [APP], [arm]))
    first = engine.images.target(engine.images.all()[0].target.digest).revision
    load(engine, archives.multi_platform("docker.io/library/multi:1", [APP, arm]))
    (image,) = engine.images.all()
    assert [m.platform for m in engine.images.manifests(image.target.digest)] == [
        "linux/amd64",
        "linux/arm64",
    ]
    assert engine.images.target(image.target.digest).revision != first


def test_the_missing_platform_may_come_with_another_image(engine: LocalEngine) -> None:
    arm = ImageParts(layers=[archives.layer("arm")], architecture="arm64")
    load(engine, archives.multi_platform("docker.io/library/multi:1", [APP], [arm]))
    target = engine.images.all()[0].target.digest
    first = engine.images.target(target).revision
    load(engine, archives.oci_archive((arm, "docker.io/library/arm:1")))
    assert [m.platform for m in engine.images.manifests(target)] == ["linux/amd64", "linux/arm64"]
    assert engine.images.target(target).revision != first
    layer = archives.digest(arm.layers[0])
    assert engine.images.links([layer]) == {layer: 2}


MEANT = ImageParts(architecture="arm64", layers=[archives.layer("other")])
FALSE_CHILDREN = {
    "size": descriptor(MEANT.manifest(), archives.OCI_MANIFEST) | {"size": 7},
    "type": descriptor(MEANT.layers[0], archives.OCI_MANIFEST),
}


@pytest.mark.parametrize("what", FALSE_CHILDREN)
def test_an_index_that_lies_about_another_image_does_not_keep_it_out(
    engine: LocalEngine, what: str
) -> None:
    children = [descriptor(APP.manifest(), archives.OCI_MANIFEST), FALSE_CHILDREN[what]]
    lying = to_json({"schemaVersion": 2, "mediaType": archives.OCI_INDEX, "manifests": children})
    name = {"annotations": {"io.containerd.image.name": "docker.io/library/lying:1"}}
    entry = descriptor(lying, archives.OCI_INDEX) | name
    load(engine, tar(archives.oci_members([entry], [lying, *APP.blobs()])))
    recorded = engine.images.summary(archives.digest(lying))
    load(engine, archives.oci_archive((MEANT, "docker.io/library/other:1")))
    assert ids(engine) == {"lying:1": APP.id, "other:1": MEANT.id}
    assert engine.images.summary(archives.digest(lying)) == recorded
    assert {problem.images for problem in engine.check()} == {("lying:1",)}


@pytest.mark.parametrize(
    "fault", [OSError(errno.EMFILE, os.strerror(errno.EMFILE)), StoreError("store", "is gone")]
)
def test_another_image_that_cannot_be_read_just_now(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    """What was recorded of it would not be what there is, for good."""
    children = [descriptor(one.manifest(), archives.OCI_MANIFEST) for one in (APP, MEANT)]
    index = to_json({"schemaVersion": 2, "mediaType": archives.OCI_INDEX, "manifests": children})
    name = {"annotations": {"io.containerd.image.name": "docker.io/library/multi:1"}}
    entry = descriptor(index, archives.OCI_INDEX) | name
    load(engine, tar(archives.oci_members([entry], [index, *APP.blobs()])))
    before, read = picture(engine), engine.content.open

    def refuses(digest: str) -> ReaderAt:
        if digest == archives.digest(index):
            raise fault
        return read(digest)

    other = archives.oci_archive((MEANT, "docker.io/library/other:1"))
    with monkeypatch.context() as patch:
        patch.setattr(engine.content, "open", refuses)
        with pytest.raises(type(fault)):
            load(engine, other)
    assert picture(engine) == before
    load(engine, other)
    assert list(engine.check()) == []


def test_a_damaged_blob_that_nobody_refers_to_is_no_matter(engine: LocalEngine) -> None:
    load(engine, archives.oci_archive((BIG, "docker.io/library/big:1")))
    big = f"blobs/sha256/{archives.digest(BIG.layers[0])[7:]}"
    load(engine, tar([*MEMBERS, (big, BIG.layers[0][::-1])]))
    assert ids(engine)["app:1"] == APP.id


def test_many_names_of_one_image(engine: LocalEngine) -> None:
    names = [f"docker.io/library/app:{number}" for number in range(300)]
    images = load(engine, archives.oci_archive(*((APP, name) for name in names))).images
    assert [name for image in images for name in image.names] == names
    assert engine.images.count() == len(names)


def test_a_nested_index(engine: LocalEngine) -> None:
    inner = to_json({"schemaVersion": 2, "manifests": [entry()]})
    outer = to_json({"schemaVersion": 2, "manifests": [descriptor(inner, archives.OCI_INDEX)]})
    named = descriptor(outer, archives.OCI_INDEX, annotations={REF: "app:1"})
    load(engine, oci(named, blobs=[outer, inner, *APP.blobs()]))
    assert ids(engine) == {"app:1": APP.id}


def test_what_is_no_image_beside_one_is_left_out(engine: LocalEngine) -> None:
    other = descriptor(b"<x/>", "application/xml")
    load(engine, oci(other, entry({REF: "app:1"}), blobs=[b"<x/>", *APP.blobs()]))
    assert ids(engine) == {"app:1": APP.id}


# -- docker before 1.10 -----------------------------------------------------------------------


def legacy(chain: list[tuple[str, str]], top: str) -> bytes:
    members = []
    for v1_id, parent in chain:
        config: dict[str, Any] = {
            "id": v1_id,
            "created": "2014-01-01T00:00:00Z",
            "docker_version": "1.9.0",
        }
        config |= {"parent": parent} if parent else {}
        config |= {"architecture": "amd64", "os": "linux", "config": {}}
        members += [(f"{v1_id}/VERSION", b"1.0"), (f"{v1_id}/json", to_json(config))]
        members.append((f"{v1_id}/layer.tar", archives.layer(v1_id)))
    return tar([*members, ("repositories", to_json({"app": {"1": top}}))])


def test_an_archive_of_docker_before_1_10(engine: LocalEngine) -> None:
    load(engine, legacy([("b" * 64, "a" * 64), ("a" * 64, "")], "b" * 64))
    details = engine.details("app:1")
    wanted = [archives.digest(archives.layer(name * 64)) for name in "ab"]
    assert list(details.config.rootfs.diff_ids) == wanted
    assert json.loads(details.raw_config)["architecture"] == "amd64"


@pytest.mark.parametrize(
    ("archive", "culprit"),
    [
        (legacy([("a", "b"), ("b", "a")], "a"), "loop"),
        (legacy([("a", "")], "nope"), "nope/json"),
        (legacy([("a", "gone")], "a"), "gone/json"),
        (legacy([("a", "")], "../../etc"), "../../etc"),
    ],
)
def test_a_bad_chain_of_parents(engine: LocalEngine, archive: bytes, culprit: str) -> None:
    with pytest.raises(BrokenArchive, match=culprit):
        load(engine, archive)


# -- what is refused --------------------------------------------------------------------------


def without(archive: bytes, part: str) -> bytes:
    members = []
    with tarfile.open(fileobj=io.BytesIO(archive)) as source:
        for info in source:
            data = source.extractfile(info)
            assert data is not None
            if part not in info.name:
                members.append((info.name, data.read()))
    return tar(members)


def changed(members: list[tuple[str, bytes]], part: str) -> bytes:
    return tar([(name, data[::-1] if part in name else data) for name, data in members])


LAYER = archives.digest(APP.layers[0])[7:]
MEMBERS = archives.oci_members([entry({REF: "app:1"})], APP.blobs())
ARTIFACT = to_json(
    {
        "schemaVersion": 2,
        "mediaType": archives.OCI_MANIFEST,
        "config": descriptor(b"{}", "application/vnd.oci.empty.v1+json"),
        "layers": [descriptor(PLAIN, "application/octet-stream")],
    }
)
ATTESTED = to_json(
    {
        "schemaVersion": 2,
        "manifests": [
            entry(),
            entry({"vnd.docker.reference.type": "attestation-manifest"}, ONE),
        ],
    }
)
BIG_ONE = ImageParts(layers=BIG.layers[:1])
BIG_GZIP = archives.compressed(BIG.layers[0])
NO_DIFF_ID = ONE.config.replace(archives.digest(PLAIN).encode(), b"notadigest")
NO_HEX = ONE.config.replace(archives.digest(PLAIN).encode(), b"sha256:zz")
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"


def foreign_layer(**source: Any) -> bytes:
    """An archive without its layer, of which it has this descriptor."""
    sources = {archives.digest(PLAIN): {"mediaType": FOREIGN, **source}}
    return docker([item(LayerSources=sources)], CONFIG)


BROKEN: dict[str, tuple[bytes, type[EngineError], str]] = {
    "nothing": (b"", BrokenArchive, "empty"),
    "zeros": (bytes(10240), BrokenArchive, "empty"),
    "no tar": (b"hello, world\n" * 1000, BrokenArchive, "is not a tar"),
    "short": (b"hi", BrokenArchive, "is not a tar archive but text"),
    "short noise": (b"\x05\x06", BrokenArchive, "truncated"),
    "no image": (tar([("README", b"hi")]), BrokenArchive, "manifest.json"),
    "manifest.json null": (tar([("manifest.json", b"null")]), InvalidDocument, "names no image"),
    "manifest.json []": (tar([("manifest.json", b"[]")]), InvalidDocument, "names no image"),
    "manifest.json no JSON": (tar([("manifest.json", b"[{")]), InvalidDocument, "manifest.json"),
    "no config": (docker([item()], ("l.tar", PLAIN)), MissingMember, "c.json"),
    "config no JSON": (
        docker([item()], ("c.json", b"xx"), ("l.tar", PLAIN)),
        InvalidDocument,
        "c.json",
    ),
    "no layer": (docker([item()], CONFIG), MissingMember, "l.tar"),
    "no layer, diff ID no hex": (
        docker([item()], ("c.json", NO_HEX)),
        MissingMember,
        "l.tar",
    ),
    "foreign layer, digest no hex": (
        foreign_layer(digest="sha256:zz", size=1),
        InvalidDocument,
        "manifest.json: .*sha256:zz",
    ),
    "foreign layer without a digest": (
        foreign_layer(size=1),
        InvalidDocument,
        "manifest.json: .*digest",
    ),
    "foreign layer of negative size": (
        foreign_layer(digest=archives.digest(PLAIN), size=-1),
        InvalidDocument,
        "manifest.json: .*negative size",
    ),
    "layer outside": (
        docker([item(Layers=["../l.tar"])], CONFIG, ("l.tar", PLAIN)),
        BrokenArchive,
        "leaves",
    ),
    "layer a fifo": (
        docker([item()], CONFIG, link("l.tar", "", tarfile.FIFOTYPE)),
        BrokenArchive,
        "fifo",
    ),
    "layer a loop": (docker([item()], CONFIG, link("l.tar", "l.tar")), BrokenArchive, "link"),
    "layer a link out": (
        docker([item()], CONFIG, link("l.tar", "../../etc/x")),
        BrokenArchive,
        "leaves",
    ),
    "layer wrong": (
        docker([item()], CONFIG, ("l.tar", archives.layer("other"))),
        DigestMismatch,
        "l.tar",
    ),
    "gzip layer cut": (
        docker([item()], CONFIG, ("l.tar", archives.compressed(PLAIN)[:-4])),
        BrokenArchive,
        "l.tar",
    ),
    "big gzip layer cut": (
        docker([item(Config="b.json")], ("b.json", BIG_ONE.config), ("l.tar", BIG_GZIP[:-4])),
        BrokenArchive,
        "l.tar: is a truncated gzip",
    ),
    "no Config": (docker([item(Config="")], ("l.tar", PLAIN)), InvalidDocument, "no Config"),
    "diff ID no digest": (
        docker([item()], ("c.json", NO_DIFF_ID), ("l.tar", PLAIN)),
        InvalidDocument,
        "diff ID 0 of .*app:1",
    ),
    "digest as name": (
        docker([item(RepoTags=[APP.id])], CONFIG, ("l.tar", PLAIN)),
        BrokenArchive,
        "no image is called sha256",
    ),
    "too few layers": (docker([item(Layers=[])], CONFIG), InvalidDocument, "found 0 layers"),
    "bad tag": (
        docker([item(RepoTags=["UPPER"])], CONFIG, ("l.tar", PLAIN)),
        BrokenArchive,
        "UPPER",
    ),
    "digest as tag": (
        docker([item(RepoTags=[f"app@{ONE.id}"])], CONFIG, ("l.tar", PLAIN)),
        BrokenArchive,
        "found a digest",
    ),
    "no oci-layout": (tar(MEMBERS[:-1]), BrokenArchive, "oci-layout"),
    "no index.json": (without(tar(MEMBERS), "index.json"), BrokenArchive, "index.json"),
    "layout 2.0.0": (
        tar([*MEMBERS[:-1], ("oci-layout", b'{"imageLayoutVersion":"2.0.0"}')]),
        BrokenArchive,
        "found 2.0.0",
    ),
    "no manifest blob": (
        without(tar(MEMBERS), archives.digest(APP.manifest())[7:]),
        BrokenArchive,
        archives.digest(APP.manifest())[7:],
    ),
    "no config blob": (without(tar(MEMBERS), APP.id[7:]), BrokenArchive, APP.id[7:]),
    "no layer blob": (without(tar(MEMBERS), LAYER), BrokenArchive, LAYER),
    "wrong layer blob": (changed(MEMBERS, LAYER), DigestMismatch, f"blobs/sha256/{LAYER}"),
    "wrong size": (
        oci({**entry({REF: "app:1"}), "size": 1}),
        SizeMismatch,
        archives.digest(APP.manifest()),
    ),
    "empty index": (oci(), BrokenArchive, "names no image"),
    "index without images": (
        oci(
            descriptor(b'{"schemaVersion":2,"manifests":[]}', archives.OCI_INDEX),
            blobs=[b'{"schemaVersion":2,"manifests":[]}'],
        ),
        InvalidDocument,
        "names no image",
    ),
    "artifact without its layer": (
        oci(descriptor(ARTIFACT, archives.OCI_MANIFEST), blobs=[ARTIFACT, b"{}"]),
        BrokenArchive,
        archives.digest(PLAIN)[7:],
    ),
    "attestation alone": (
        oci(descriptor(ATTESTED, archives.OCI_INDEX), blobs=[ATTESTED, *ONE.blobs()]),
        BrokenArchive,
        archives.digest(APP.manifest())[7:],
    ),
    "schema 1": (
        oci(
            descriptor(b'{"schemaVersion":1,"fsLayers":[]}', archives.OCI_MANIFEST),
            blobs=[b'{"schemaVersion":1,"fsLayers":[]}'],
        ),
        InvalidDocument,
        "schema 1",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_refusal_names_the_culprit_and_changes_nothing(engine: LocalEngine, name: str) -> None:
    archive, kind, culprit = BROKEN[name]
    load(engine, archives.docker_archive((BIG, ["before:1"])))
    before = picture(engine)
    with pytest.raises(kind, match=culprit) as raised:
        load(engine, archive)
    assert picture(engine) == before
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("cut", [1, 600, 5000, 12_000, 150_000])
def test_a_truncated_archive(engine: LocalEngine, cut: int) -> None:
    archive = archives.docker_archive((BIG, ["big:1"]))
    before = picture(engine)
    with pytest.raises((BrokenArchive, ContentMismatch)):
        load(engine, archive[:cut])
    assert picture(engine) == before


def test_a_cut_archive_is_no_other_archive(engine: LocalEngine) -> None:
    """By `manifest.json` alone the image would have another digest."""
    members = archives.oci_members([entry()], APP.blobs())
    paths = [f"blobs/sha256/{archives.digest(data)[7:]}" for data in (APP.config, *APP.layers)]
    items = [{"Config": paths[0], "RepoTags": ["app:1"], "Layers": paths[1:]}]
    layout = members.pop()
    whole = tar([*members, ("manifest.json", to_json(items)), layout])
    with tarfile.open(fileobj=io.BytesIO(whole)) as opened:
        cut = opened.getmember("oci-layout").offset
    with pytest.raises(MissingMember, match="the archive is truncated"):
        load(engine, whole[:cut])
    load(engine, whole)
    assert ids(engine) == {"app:1": APP.id}


WHOLE = {
    "docker": archives.docker_archive((APP, ["app:1"])),
    "oci": archives.oci_archive((APP, "docker.io/library/app:1")),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_an_archive_cut_between_members(engine: LocalEngine, kind: str) -> None:
    archive = WHOLE[kind]
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        last = tar.getmembers()[-1].offset
        end = tar.offset
    with pytest.raises(MissingMember, match="the archive is truncated"):
        load(engine, archive[:last])
    with pytest.raises(MissingMember) as raised:
        load(engine, archive[:last] + bytes(1024))
    assert "truncated" not in str(raised.value)
    load(engine, archive[:end])
    assert ids(engine) == {"app:1": APP.id}


@pytest.mark.parametrize("blob", BIG.blobs(), ids=len)
def test_a_blob_that_is_there_is_checked_all_the_same(engine: LocalEngine, blob: bytes) -> None:
    load(engine, archives.oci_archive((BIG, "docker.io/library/big:1")))
    before = picture(engine)
    name = archives.digest(blob)[7:]
    members = archives.oci_members([entry(parts=BIG)], BIG.blobs())
    with pytest.raises(DigestMismatch, match=name):
        load(engine, changed(members, name))
    assert picture(engine) == before


def test_a_blob_whose_file_was_lost_is_healed_by_loading_again(engine: LocalEngine) -> None:
    archive = archives.oci_archive((BIG, "docker.io/library/big:1"))
    load(engine, archive)
    digest = archives.digest(BIG.layers[0])
    (engine.path / "blobs" / "sha256" / digest[7:]).unlink()
    load(engine, archive)
    with engine.content.open(digest) as reader:
        assert reader.pread(reader.size, 0) == BIG.layers[0]


def test_finish_in_the_middle_says_so_and_spoils_nothing(engine: LocalEngine) -> None:
    archive = archives.docker_archive((BIG, ["big:1"]))
    with engine.begin_import() as session:
        session.feed(archive[:100_000])
        with pytest.raises(BrokenArchive, match="truncated"):
            session.finish()
        session.feed(archive[100_000:])
        assert session.finish() is session.finish()
    assert ids(engine) == {"big:1": BIG.id}


def test_limits(engine: LocalEngine) -> None:
    archive = archives.docker_archive((APP, ["app:1"]))
    for limits in (Limits(max_archive_bytes=len(archive) - 1), Limits(max_members=2)):
        options = ImportOptions(limits=limits)
        with engine.begin_import(options) as session, pytest.raises(LimitExceeded):
            session.feed(archive)
    assert engine.images.count() == 0


def test_memory_does_not_grow_with_the_archive(engine: LocalEngine) -> None:
    parts = ImageParts(layers=[archives.layer("big", bytes(60_000_000))])
    archive = archives.docker_archive((parts, ["big:1"]))
    tracemalloc.start()
    try:
        load(engine, archive, 1 << 20)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000


def test_many_members_told_twice_take_no_square_time(engine: LocalEngine) -> None:
    """In square time, the second telling would take some 50 times as long as the first."""
    members = [raw_tar.member(b"n%d" % i, b"%d" % i) for i in range(50_000)]
    spent = []
    with engine.begin_import() as session:
        for told in (members, members[::-1]):
            before = time.process_time()
            session.feed(b"".join(told))
            spent.append(time.process_time() - before)
    assert spent[1] < 10 * spent[0]


def test_a_document_that_comes_again_is_told(engine: LocalEngine) -> None:
    """Two archives that `tar -A` has made one: the later `manifest.json` counts, as in docker."""
    other = ImageParts(layers=[archives.layer("other")])
    first, second = (
        archives.docker_archive((image, [n])) for image, n in ((APP, "a"), (other, "b"))
    )
    loaded = load(engine, archives.extended(first, archives.members(second)))
    assert ids(engine) == {"b:latest": other.id}
    assert [one.name for one in loaded.left_out] == ["manifest.json"]
    assert "twice" in loaded.left_out[0].reason


def test_a_document_that_comes_again_unchanged_is_no_matter(engine: LocalEngine) -> None:
    archive = archives.docker_archive((APP, ["a"]))
    assert load(engine, archives.extended(archive, archives.members(archive))).left_out == ()


def test_bytes_under_two_names_stay_when_one_name_is_told_again(engine: LocalEngine) -> None:
    image = ImageParts()
    path = archives.digest(image.layers[0])[7:] + "/layer.tar"
    item = {"Config": "c.json", "RepoTags": ["app:1"], "Layers": [path]}
    copies = [
        ("c.json", image.config),
        ("copy", image.config),
        ("copy", b"other"),
        ("copy", b"more"),
    ]
    members = [*copies, (path, image.layers[0]), ("manifest.json", to_json([item]))]
    load(engine, tar(members))
    assert ids(engine) == {"app:1": image.id}


def test_a_layer_of_many_images_is_decompressed_once(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []

    def counted(
        reader: ReaderAt, name: str, algorithm: str, tell: Callable[[int], None]
    ) -> Hashing[Uncompressed]:
        measured.append(name)
        return measure(reader, name, algorithm, tell)

    monkeypatch.setattr(pooled_layers, "measure", counted)
    named = [(ImageParts(extra={"author": str(i)}), f"docker.io/a/b:{i}") for i in range(5)]
    load(engine, archives.oci_archive(*named, gzipped=True))
    assert len(measured) == 1

"""The layers of an archive: how they may be compressed, and what they have to be."""

import bz2
import gzip
import lzma
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import lz4.frame
import pytest

from engine.archive.import_options import ImportOptions
from engine.archive.loaded import Loaded
from engine.compression.options import Compression
from engine.content.blobs import read_blob
from engine.errors import BrokenArchive, DigestMismatch, EngineError, LimitExceeded
from engine.limits import Limits
from engine.spec import oci
from tests import archives
from tests.archives import OCI_LAYER, OCI_MANIFEST, ImageParts, descriptor, tar, to_json
from tests.local_engine import LocalEngine

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Pack = Callable[[bytes], bytes]


def lzma_alone(data: bytes) -> bytes:
    return lzma.compress(data, format=lzma.FORMAT_ALONE)


FOREIGN: dict[str, Pack] = {
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "lzma": lzma_alone,
    "lz4": lz4.frame.compress,
}
SMALL = archives.layer()
BIG = archives.layer("big", os.urandom(150_000))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    with LocalEngine(tmp_path / "store") as engine:
        yield engine


def load(engine: LocalEngine, archive: bytes, options: ImportOptions | None = None) -> Loaded:
    with engine.begin_import(options or ImportOptions()) as session:
        session.feed(archive)
        return session.finish()


def docker(parts: ImageParts, *layers: bytes) -> bytes:
    """A docker archive of an image whose layers are stored as these bytes."""
    paths = [f"{n}/layer.tar" for n in range(len(layers))]
    items = [{"Config": "c.json", "RepoTags": ["app:1"], "Layers": paths}]
    members = [("c.json", parts.config), *zip(paths, layers, strict=True)]
    return tar([*members, ("manifest.json", to_json(items))])


def stored_layers(engine: LocalEngine) -> list[oci.Descriptor]:
    target = engine.images.get("docker.io/library/app:1").target
    data = read_blob(engine.content, target.digest)
    return list(oci.parse_manifest(data, "app:1").layers)


@pytest.mark.parametrize("pack", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("layer", [SMALL, BIG], ids=["small", "big"])
def test_a_layer_that_oci_has_no_media_type_for_is_stored_plain(
    engine: LocalEngine, pack: Pack, layer: bytes
) -> None:
    parts = ImageParts(layers=[layer, layer, SMALL])
    loaded = load(engine, docker(parts, pack(layer), gzip.compress(layer), SMALL))
    assert loaded.images[0].id == parts.id
    first, second, third = stored_layers(engine)
    assert (first.media_type, first.digest) == (OCI_LAYER, archives.digest(layer))
    assert read_blob(engine.content, first.digest) == layer
    assert second.media_type == f"{OCI_LAYER}+gzip"
    assert third.digest == archives.digest(SMALL)
    assert not list((engine.path / "ingest").iterdir())


@pytest.mark.parametrize("pack", FOREIGN.values(), ids=FOREIGN)
def test_it_is_compressed_anew_on_request(engine: LocalEngine, pack: Pack) -> None:
    options = ImportOptions(compression=Compression("gzip"))
    load(engine, docker(ImageParts(layers=[BIG]), pack(BIG)), options)
    (layer,) = stored_layers(engine)
    assert layer.media_type == f"{OCI_LAYER}+gzip"
    assert gzip.decompress(read_blob(engine.content, layer.digest)) == BIG


@pytest.mark.parametrize("pack", FOREIGN.values(), ids=FOREIGN)
def test_so_it_is_in_archives_of_docker_before_1_10(engine: LocalEngine, pack: Pack) -> None:
    members = [
        ("v/json", b'{"id":"v"}'),
        ("v/layer.tar", pack(SMALL)),
        ("repositories", b'{"app":{"1":"v"}}'),
    ]
    load(engine, tar(members))
    assert [layer.digest for layer in stored_layers(engine)] == [archives.digest(SMALL)]


@pytest.mark.parametrize("pack", FOREIGN.values(), ids=FOREIGN)
def test_its_diff_id_is_checked(engine: LocalEngine, pack: Pack) -> None:
    archive = docker(ImageParts(layers=[BIG]), pack(SMALL))
    with pytest.raises(DigestMismatch, match=archives.digest(SMALL)):
        load(engine, archive)
    cut = pack(BIG)[:-100]
    with pytest.raises(BrokenArchive, match=r"0/layer\.tar: is a truncated"):
        load(engine, docker(ImageParts(layers=[BIG]), cut))
    with pytest.raises(LimitExceeded, match="expanded bytes"):
        load(
            engine,
            docker(ImageParts(layers=[BIG]), pack(BIG)),
            ImportOptions(Limits(max_expanded_bytes=100_000)),
        )
    assert not engine.images.all()
    assert not list((engine.path / "ingest").iterdir())


def of_oci(parts: ImageParts, layer: bytes, media_type: str) -> bytes:
    manifest = to_json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(parts.config, archives.OCI_CONFIG),
            "layers": [descriptor(layer, media_type)],
        }
    )
    entry = descriptor(manifest, OCI_MANIFEST)
    return tar(archives.oci_members([entry], [manifest, parts.config, layer]))


@pytest.mark.parametrize("name", FOREIGN)
def test_in_oci_archives_it_is_refused_by_name(engine: LocalEngine, name: str) -> None:
    archive = of_oci(ImageParts(layers=[SMALL]), FOREIGN[name](SMALL), OCI_LAYER)
    with pytest.raises(BrokenArchive, match=f"layer 0 of .* is compressed with {name}: expected"):
        load(engine, archive)


NO_TARS = {
    "text": (b"no layer at all\n", "is not a tar archive but text (no layer at all)"),
    "noise": (bytes(range(255, 0, -1)) * 40 + b"\xff", "is not a tar archive"),
    "zip": (b"PK\x03\x04" + b"\x07" * 600, "is not a tar archive but a zip archive"),
    "a header that is cut": (SMALL[:300], "is not a tar archive"),
}
PACKS: dict[str, tuple[Pack, str]] = {
    "plain": (bytes, OCI_LAYER),
    "gzip": (gzip.compress, f"{OCI_LAYER}+gzip"),
    "zstd": (zstd.compress, f"{OCI_LAYER}+zstd"),
}


@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize("name", NO_TARS)
def test_a_layer_that_is_no_tar_is_refused(engine: LocalEngine, name: str, pack: str) -> None:
    data, says = NO_TARS[name]
    compress, media_type = PACKS[pack]
    parts = ImageParts(layers=[data])
    for archive in (docker(parts, compress(data)), of_oci(parts, compress(data), media_type)):
        with pytest.raises(EngineError) as raised:
            load(engine, archive)
        assert str(raised.value).startswith("layer 0 of ")
        assert says in str(raised.value)
    assert not engine.images.all()


@pytest.mark.parametrize("data", [b"", bytes(1024), bytes(10), SMALL[:-9000]])
def test_a_layer_of_nothing_is_a_layer(engine: LocalEngine, data: bytes) -> None:
    assert load(engine, docker(ImageParts(layers=[data]), data)).images


def test_more_small_files_than_are_kept_in_memory(engine: LocalEngine) -> None:
    junk = [(f"junk/{n}", b"%d" % n + bytes(60_000)) for n in range(300)]
    layers = [archives.layer(f"{n}", os.urandom(20_000)) for n in range(3)]
    parts = ImageParts(layers=layers)
    paths = [f"{n}.tar" for n in range(3)]
    items = [{"Config": "c.json", "RepoTags": ["app:1"], "Layers": paths}]
    members = [*junk, *zip(paths, layers, strict=True), ("c.json", parts.config)]
    loaded = load(engine, tar([*members, ("manifest.json", to_json(items))]))
    assert loaded.images[0].id == parts.id
    for layer, data in zip(stored_layers(engine), layers, strict=True):
        assert read_blob(engine.content, layer.digest) == data
    assert not list((engine.path / "ingest").iterdir())

"""The merged root of a stored image: its tree, what is left out, and its files."""

import gzip
import lzma
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from engine.errors import BrokenArchive, InvalidInput, NotFound, UnreadableLayer
from engine.filetree.merged import MergedImage, layer_changes, merged_root
from engine.layers.layer import Layers
from engine.spec.oci import Manifest
from engine.stores.local.store import LocalStore
from tests.filetree.layers import directory, file, hardlink, layer, stored, symlink
from tests.filetree.sparse import LAYER, SPARSE_CONTENT
from tests.filetree.tables import placed, shown, stacked
from tests.tar.raw_tar import END

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LAYERS = [
    layer(directory("d"), file("d/a", "one"), file("gone", "1"), file("kept", "k" * 3_000_000)),
    layer(file("d/a", "two"), file(".wh.gone"), hardlink("d/b", "kept")),
    LAYER,
    layer(symlink("s", "d/a"), file("last", "3")),
]
COMPRESSED = {
    "none": LAYERS,
    "gzip": [gzip.compress(data, mtime=0) for data in LAYERS],
    "zstd": [zstd.compress(data) for data in LAYERS],
    "mixed": [LAYERS[0], gzip.compress(LAYERS[1], mtime=0), zstd.compress(LAYERS[2]), LAYERS[3]],
}


class Stored:
    """A store, and images in it."""

    def __init__(self, store: LocalStore) -> None:
        self.store = store
        self.layers = Layers(store.content, store.tables, store.directory)

    def manifest(self, layers: Sequence[bytes], media_type: str = "") -> Manifest:
        found = stored(self.store, layers)
        media_type = media_type or "application/vnd.oci.image.layer.v1.tar"
        changed = [msgspec.structs.replace(one, media_type=media_type) for one in found.layers]
        return msgspec.structs.replace(found, layers=tuple(changed))

    def image(self, layers: Sequence[bytes]) -> MergedImage:
        return MergedImage(self.layers, self.manifest(layers))


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Stored]:
    with LocalStore.create(tmp_path / "store") as store:
        images = Stored(store)
        yield images
        images.layers.close()


@pytest.mark.parametrize("layers", COMPRESSED.values(), ids=COMPRESSED)
def test_files_are_read_out_of_their_layers(images: Stored, layers: list[bytes]) -> None:
    merged = images.image(layers)
    expected = {
        "d/a": b"two",
        "d/b": b"k" * 3_000_000,
        "kept": b"k" * 3_000_000,
        "last": b"3",
        "sparse": SPARSE_CONTENT,
        "empty": b"",
        "first": b"x" * 1000,
        "l" * 200: b"long",
    }
    assert {p for p, entry in merged.tree.items() if entry.kind == "file"} == set(expected)
    assert {path: b"".join(merged.read(path)) for path in expected} == expected
    assert max(map(len, merged.read("kept"))) <= 1 << 20


def test_an_image_without_layers_is_an_empty_directory(images: Stored) -> None:
    assert [path for path, _ in images.image([]).tree.items()] == [""]
    assert shown(merged_root(images.layers, images.manifest([]))) == ["/"]


def test_the_same_layer_may_come_twice(images: Stored) -> None:
    merged = images.image([LAYERS[0], LAYERS[1], LAYERS[0]])
    assert b"".join(merged.read("d/a")) == b"one"


def test_what_is_no_file_is_not_read(images: Stored) -> None:
    merged = images.image(LAYERS)
    with pytest.raises(NotFound, match="file gone: not found"):
        merged.read("gone")
    with pytest.raises(InvalidInput, match="d: is a dir and not a file"):
        merged.read("d")
    with pytest.raises(InvalidInput, match="s: is a symlink and not a file"):
        merged.read("s")


GZIPPED = gzip.compress(LAYERS[2], mtime=0)
BROKEN = {
    "damaged gzip": (GZIPPED[:30] + bytes(20) + GZIPPED[50:], "is a damaged gzip stream"),
    "truncated gzip": (GZIPPED[:-20], "truncated"),
    "no tar": (b"x" * 5000, "is not a tar archive"),
    "xz, which no layer may be": (
        lzma.compress(LAYERS[2]).ljust(1024, b"\0"),
        "is not a tar archive",
    ),
    "a bad member": (layer(hardlink("b", "a")), "is a hard link of what is not there: a"),
}


@pytest.mark.parametrize(("data", "reason"), BROKEN.values(), ids=BROKEN)
def test_names_the_layer_that_is_broken(images: Stored, data: bytes, reason: str) -> None:
    manifest = images.manifest([LAYERS[0], data, LAYERS[3]])
    broken = manifest.layers[1].digest
    with pytest.raises(BrokenArchive, match=f"layer {broken}: .*{reason}"):
        _ = MergedImage(images.layers, manifest).tree
    root = merged_root(images.layers, manifest)
    assert [one.layer for one in root.left_out] == [1]
    assert reason in root.left_out[0].reason
    assert root.find(b"kept") is not None
    assert root.find(b"last") is not None


def test_a_missing_layer_is_not_found(images: Stored) -> None:
    manifest = images.manifest(LAYERS)
    images.store.content.delete(manifest.layers[1].digest)
    with pytest.raises(NotFound):
        _ = MergedImage(images.layers, manifest).tree
    root = merged_root(images.layers, manifest)
    assert [(one.layer, one.path, one.reason) for one in root.left_out] == [
        (1, b"", "is not in the store")
    ]
    assert root.find(b"gone") is not None


def test_an_encrypted_layer_is_left_out(images: Stored) -> None:
    manifest = images.manifest([b"x" * 2000], "application/vnd.oci.image.layer.v1.tar+encrypted")
    with pytest.raises(UnreadableLayer, match="is encrypted"):
        _ = MergedImage(images.layers, manifest).tree
    (found,) = merged_root(images.layers, manifest).left_out
    assert found.reason == "is encrypted"


def test_the_changes_of_each_layer(images: Stored) -> None:
    manifest = images.manifest([*LAYERS[:2], b"x" * 2000])
    changes = layer_changes(images.layers, manifest)
    assert shown(changes[1]) == ["/", "d/", "d/a=1.0", "d/b=0.3", "gone=whiteout", "kept=0.3"]
    assert shown(changes[2]) == ["/"]
    assert stacked(changes) == placed(merged_root(images.layers, manifest))


def test_a_root_is_made_without_reading_its_layers(images: Stored) -> None:
    manifest = images.manifest(COMPRESSED["gzip"])
    expected = shown(merged_root(images.layers, manifest))
    for one in manifest.layers:
        path = images.store.content.path(one.digest)  # type: ignore[arg-type]  # a valid digest
        path.chmod(0o600)
        path.write_bytes(bytes(one.size))
    fresh = Layers(images.store.content, images.store.tables, images.store.directory)
    assert shown(merged_root(fresh, manifest)) == expected
    fresh.close()


def test_a_layer_that_is_only_an_end_is_empty(images: Stored) -> None:
    assert len(images.image([END, b""]).tree) == 1


def test_no_table_is_loaded_behind_a_limit(images: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.filetree.tree_builder.MAX_NODES", 2)
    manifest = images.manifest([layer(file("a"), file("b"), file("c")), layer(file("d"))])
    tree = merged_root(images.layers, manifest)
    assert {(one.layer, one.path, one.reason) for one in tree.left_out} == {
        (number, b"", "is too large: the root has more than 2 entries") for number in (0, 1)
    }
    assert images.layers.stored_table(manifest.layers[0].digest) is not None
    assert images.layers.stored_table(manifest.layers[1].digest) is None

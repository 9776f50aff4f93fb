import gzip
import hashlib
import io
import lzma
import sys
import threading
from collections.abc import Mapping, Sequence

import pytest

from engine.closing import Closing
from engine.errors import BrokenArchive, DigestMismatch, InvalidInput, LimitExceeded, NotFound
from engine.filetree.applier import Applier
from engine.filetree.merged import MergedImage
from engine.limits import Limits
from engine.spec.oci import Descriptor, Manifest
from tests.filetree.layers import directory, file, hardlink, layer, symlink
from tests.filetree.test_layer_files import LAYER, SPARSE_CONTENT
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


class Blob(Closing):
    """A blob that counts what is read of it."""

    def __init__(self, data: bytes, count: list[int]) -> None:
        self.size = len(data)
        self._data = io.BytesIO(data)
        self._count = count

    def pread(self, length: int, offset: int) -> bytes:
        self._data.seek(offset)
        data = self._data.read(length)
        self._count.append(len(data))
        return data

    def fileno(self) -> None:
        """Return None: it is in memory."""

    def close(self) -> None:
        self._data.close()


class Blobs:
    def __init__(self, blobs: Mapping[str, bytes]) -> None:
        self.blobs = dict(blobs)
        self.opened: list[str] = []
        self.reads: list[int] = []

    def open(self, digest: str) -> Blob:
        if digest not in self.blobs:
            raise NotFound("blob", digest)
        self.opened.append(digest)
        return Blob(self.blobs[digest], self.reads)


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def image(layers: Sequence[bytes], limits: Limits | None = None) -> tuple[MergedImage, Blobs]:
    descriptors = tuple(Descriptor("any", digest(data), len(data)) for data in layers)
    blobs = Blobs({digest(data): data for data in layers})
    manifest = Manifest(
        schema_version=2, config=Descriptor("any", digest(b"{}"), 2), layers=descriptors
    )
    return MergedImage(blobs, manifest, limits), blobs


COMPRESSED = {
    "none": LAYERS,
    "gzip": [gzip.compress(data, mtime=0) for data in LAYERS],
    "zstd": [zstd.compress(data) for data in LAYERS],
    "mixed": [LAYERS[0], gzip.compress(LAYERS[1], mtime=0), zstd.compress(LAYERS[2]), LAYERS[3]],
}


@pytest.mark.parametrize("layers", COMPRESSED.values(), ids=COMPRESSED)
def test_files_are_read_out_of_their_layers(layers: list[bytes]) -> None:
    merged, _ = image(layers)
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


def test_an_image_without_layers_is_an_empty_directory() -> None:
    assert [path for path, _ in image([])[0].tree.items()] == [""]


def test_the_same_layer_may_come_twice() -> None:
    merged, _ = image([LAYERS[0], LAYERS[1], LAYERS[0]])
    assert b"".join(merged.read("d/a")) == b"one"


def test_the_index_is_made_once_and_when_it_is_asked_for() -> None:
    merged, blobs = image(LAYERS)
    assert blobs.opened == []
    trees = []
    threads = [threading.Thread(target=lambda: trees.append(merged.tree)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [tree is trees[0] for tree in trees] == [True] * 4
    assert blobs.opened == [digest(data) for data in LAYERS]


def test_a_file_of_an_uncompressed_layer_is_read_from_where_it_is() -> None:
    merged, blobs = image([layer(file("big", "x" * 5_000_000), file("small", "1"))])
    _ = merged.tree
    blobs.reads.clear()
    assert b"".join(merged.read("small")) == b"1"
    assert sum(blobs.reads) < 100_000


def test_reading_may_stop_anywhere() -> None:
    merged, blobs = image([gzip.compress(LAYERS[0], mtime=0)])
    pieces = merged.read("kept")
    assert next(pieces)
    pieces.close()  # type: ignore[attr-defined]  # a generator
    assert len(blobs.opened) == 2


def test_what_is_no_file_is_not_read() -> None:
    merged, _ = image(LAYERS)
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
    "a bad member": (layer(hardlink("b", "a")), "b: is a hard link of what is not there: a"),
}


@pytest.mark.parametrize(("data", "reason"), BROKEN.values(), ids=BROKEN)
def test_names_the_layer_that_is_broken(data: bytes, reason: str) -> None:
    merged, _ = image([LAYERS[0], data])
    with pytest.raises(BrokenArchive, match=f"layer {digest(data)}: .*{reason}"):
        _ = merged.tree


def test_a_missing_layer_is_not_found() -> None:
    merged, blobs = image(LAYERS)
    del blobs.blobs[digest(LAYERS[1])]
    with pytest.raises(NotFound):
        _ = merged.tree
    blobs.blobs[digest(LAYERS[1])] = LAYERS[1]
    assert "last" in merged.tree


def test_a_layer_that_has_changed_is_noticed() -> None:
    merged, blobs = image([layer(file("f", "before"))])
    _ = merged.tree
    (name,) = blobs.blobs
    blobs.blobs[name] = layer(file("f", "behind"))
    with pytest.raises(DigestMismatch, match="f: unexpected digest"):
        list(merged.read("f"))


def test_limits_hold() -> None:
    with pytest.raises(LimitExceeded):
        _ = image(LAYERS, Limits(max_members=1))[0].tree
    _, blobs = image(LAYERS)
    manifest = Manifest(
        schema_version=2,
        config=Descriptor("any", digest(b"{}"), 2),
        layers=(Descriptor("any", digest(LAYERS[0]), len(LAYERS[0])),),
    )
    with pytest.raises(LimitExceeded):
        _ = MergedImage(blobs, manifest, applier=lambda: Applier(max_bytes=1000)).tree


def test_a_layer_that_is_only_an_end_is_empty() -> None:
    assert len(image([END, b""])[0].tree) == 1

"""Archives that expand: around the archive and in its layers, by every compression."""

import bz2
import gzip
import lzma
import random
import sys
from collections.abc import Callable, Iterable
from functools import partial

import lz4.frame

from engine.errors import BrokenArchive, DigestMismatch, LimitExceeded
from tests.archives import ImageParts
from tests.hostile.case import Case, docker, item, whole
from tests.tar import raw_tar

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = bytes(1 << 20)
EXPANDED = 128
LIMITED = ("--limit", f"max_expanded_bytes={50 << 20}")

Pack = Callable[[bytes], bytes]
PACKS: dict[str, Pack] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "zstd": zstd.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "lzma": partial(lzma.compress, format=lzma.FORMAT_ALONE),
    "lz4": partial(lz4.frame.compress, content_checksum=True),
}


def _around(pack: Pack) -> Iterable[bytes]:
    """An archive with a large member that nobody wants, as streams one behind the other."""
    yield pack(raw_tar.header(b"zeros", EXPANDED << 20))
    piece = pack(MIB)
    for _ in range(EXPANDED):
        yield piece
    yield pack(docker())


def _layer(pack: Pack) -> Iterable[bytes]:
    """A layer that is not what its diff ID says, as is known at its end."""
    yield docker(("b.tar", pack(MIB) * EXPANDED), items=[item(Layers=["b.tar"])])


def _many_layers() -> Iterable[bytes]:
    """Layers none of which is much alone."""
    blobs = [gzip.compress(MIB * 10 + bytes([n]), mtime=0) for n in range(8)]
    parts = ImageParts(layers=[MIB * 10 + bytes([n]) for n in range(8)])
    names = [f"{n}.tar" for n in range(8)]
    members = zip(names, blobs, strict=True)
    yield docker(*members, items=[item(Layers=names)], config=parts.config)


def _wide_zstd(window_log: int) -> bytes:
    """A frame that wants a window of that size, and fills it."""
    header = raw_tar.header(b"zeros", EXPANDED << 20)
    frame = b"\x28\xb5\x2f\xfd\x00" + bytes([(window_log - 10) << 3])
    pieces = [_raw_block(header)]
    pieces += [_zeros_block(128 << 10)] * (EXPANDED * 8)
    pieces.append(_raw_block(docker(), last=True))
    return frame + b"".join(pieces)


def _raw_block(data: bytes, last: bool = False) -> bytes:
    return (len(data) << 3 | last).to_bytes(3, "little") + data


def _zeros_block(size: int) -> bytes:
    return (size << 3 | 2).to_bytes(3, "little") + b"\0"


def _wide_xz() -> bytes:
    data = lzma.compress(b"x", filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 4096}])
    return data.replace(b"\x21\x01\x00", b"\x21\x01\x25")


BOMBS = [
    *(Case(f"{name} around an archive", partial(_around, pack)) for name, pack in PACKS.items()),
    *(
        Case(
            f"{name} around an archive, over the limit",
            partial(_around, pack),
            LimitExceeded,
            "expanded",
            LIMITED,
        )
        for name, pack in PACKS.items()
    ),
    *(
        Case(f"{name} in a layer", partial(_layer, pack), DigestMismatch, "unexpected digest")
        for name, pack in PACKS.items()
    ),
    *(
        Case(
            f"{name} in a layer, over the limit",
            partial(_layer, PACKS[name]),
            LimitExceeded,
            "expanded",
            LIMITED,
        )
        for name in PACKS
    ),
    Case("many layers, over the limit together", _many_layers, LimitExceeded, "expanded", LIMITED),
    Case(
        "gzip in gzip",
        whole(
            lambda: gzip.compress(gzip.compress(docker(("r", random.Random(1).randbytes(2000)))))
        ),
        BrokenArchive,
        "not a tar",
    ),
    Case("100,000 gzip streams", lambda: [gzip.compress(b"") * 100_000, gzip.compress(docker())]),
    Case(
        "a gzip header without end",
        lambda: [b"\x1f\x8b\x08\x08" + bytes(6), *[b"n" * (1 << 20)] * 50],
        BrokenArchive,
        "header has no end",
    ),
    Case("zstd with a window of 64 MiB", whole(lambda: _wide_zstd(26))),
    Case("zstd with a window of 2 GiB", whole(lambda: _wide_zstd(31)), BrokenArchive, "2048 MiB"),
    Case("xz with a dictionary of 1 GiB", whole(_wide_xz), BrokenArchive, "damaged xz"),
    Case(
        "garbage behind a gzip stream",
        lambda: [gzip.compress(docker()), b"\x1b[2J" * 10],
        BrokenArchive,
        "garbage behind",
    ),
]

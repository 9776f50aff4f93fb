"""Archives whose tar is hostile: names, links, headers and sizes."""

import tarfile
from collections.abc import Iterable, Iterator

from engine.errors import (
    BrokenArchive,
    DigestMismatch,
    InvalidDocument,
    LimitExceeded,
    MissingMember,
)
from tests import archives
from tests.archives import link, tar, to_json
from tests.hostile.case import (
    CONFIG,
    LAYER,
    PLAIN,
    Case,
    behind,
    docker,
    item,
    whole,
)
from tests.tar import raw_tar

HARD = tarfile.LNKTYPE
MANY = 20_000


def _wanting(path: str) -> bytes:
    return docker(items=[item(Config=path)])


def _size(field: bytes) -> bytes:
    return behind(raw_tar.header(b"odd", field))


def _chain(steps: int) -> bytes:
    links = [link(f"{n}", f"{n + 1}") for n in range(steps)]
    return docker(*links, (f"{steps}", PLAIN), items=[item(Layers=["0"])])


def _gnu_sparse(size: int, *segments: tuple[int, int], stored: bytes = b"abc") -> bytes:
    tail = bytearray(167)
    for number, (start, length) in enumerate(segments):
        tail[41 + 24 * number : 65 + 24 * number] = b"%011o\0%011o\0" % (start, length)
    tail[138:150] = raw_tar.base256(size, 12)
    header = raw_tar.header(b"s", len(stored), b"S", magic=raw_tar.GNU, tail=bytes(tail))
    return header + raw_tar.padded(stored)


def _pax_sparse(records: dict[str, object], stored: bytes = b"abc") -> bytes:
    named = {f"GNU.sparse.{key}": value for key, value in records.items()}
    return behind(raw_tar.pax(named), raw_tar.member(b"s", stored))


def _sparse_map_without_end() -> Iterator[bytes]:
    """An old GNU map of a million blocks."""
    tail = bytearray(167)
    tail[137] = 1
    tail[138:150] = raw_tar.base256(1 << 62, 12)
    yield raw_tar.header(b"s", 0, b"S", magic=raw_tar.GNU, tail=bytes(tail))
    piece = b"".join(b"%011o\0%011o\0" % (n, 0) for n in range(21)) + b"\1"
    block = raw_tar.padded(piece)
    for _ in range(2000):
        yield block * 500


def _long_name(flag: bytes, size: int) -> Iterable[bytes]:
    return [behind(raw_tar.member(b"././@LongLink", b"n" * size, flag, magic=raw_tar.GNU))]


def _headers(count: int, flag: bytes) -> Iterator[bytes]:
    """Very many extended headers before one member."""
    header = raw_tar.pax({"comment": "x" * 100, "SCHILY.xattr.user.a": "y" * 100}, flag)
    for _ in range(count // 1000):
        yield header * 1000
    yield docker()


def _records(count: int) -> Iterator[bytes]:
    """A header of as many records as fit in one, each of them kept."""
    records = b"".join(raw_tar.record(f"SCHILY.xattr.{n}", "") for n in range(count))
    yield behind(raw_tar.pax(records), raw_tar.member(b"f"))


def _xattrs_everywhere() -> Iterator[bytes]:
    """Very many members with very many attributes each."""
    records = b"".join(raw_tar.record(f"SCHILY.xattr.{n}", "") for n in range(4_000))
    for number in range(20):
        yield raw_tar.pax(records) + raw_tar.member(b"%d" % number)
    yield docker()


def _members(count: int, length: int = 0, data: bytes = b"") -> Iterator[bytes]:
    for number in range(count):
        name = b"%08d" % number
        if length:
            name += b"/" + b"n" * (length - len(name) - 1)
            yield raw_tar.member(b"././@LongLink", name, b"L", magic=raw_tar.GNU)
            name = b"n"
        yield raw_tar.member(name, data and data + b"%d" % number)
    yield docker()


def _links(count: int) -> Iterator[bytes]:
    for number in range(count):
        yield raw_tar.header(b"%d" % number, flag=b"2", linkname=b"%d" % (number + 1))
    yield docker(items=[item(Layers=["0"])])


_NAMES = [
    Case("path leaves", whole(lambda: docker(("../../evil", b"x"), ("a/../../../b", b"x")))),
    Case("path leaves, wanted", whole(lambda: _wanting("../../l.tar")), BrokenArchive, "leaves"),
    Case("absolute name", whole(lambda: docker(("/etc/passwd", b"x")))),
    Case("absolute name, wanted", whole(lambda: _wanting("/etc/passwd")), MissingMember, "passwd"),
    Case(
        "config leaves", whole(lambda: docker(items=[item(Config="../c")])), BrokenArchive, "../c"
    ),
    Case("NUL in a path", whole(lambda: _wanting("l.tar\0/x")), MissingMember, r"l.tar\x00/x"),
    Case("name is no UTF-8", whole(lambda: behind(raw_tar.member(b"\xff\xfe\x1b[2J", b"x")))),
    Case(
        "escapes in a path", whole(lambda: _wanting("\x1b[2J\n\u202e")), MissingMember, r"\x1b[2J\n"
    ),
    Case("name is empty", whole(lambda: behind(raw_tar.member(b"", b"x")))),
    Case("name of 1 MB", lambda: _long_name(b"L", 1 << 20), LimitExceeded, "bytes of a name"),
    Case("link of 1 MB", lambda: _long_name(b"K", 1 << 20), LimitExceeded, "bytes of a name"),
    Case("path of 1 MB, wanted", whole(lambda: _wanting("n" * (1 << 20))), MissingMember, "nnn…"),
    Case("10,000 directories deep", whole(lambda: _deep_name(10_000))),
    Case(
        "100,000 directories deep",
        whole(lambda: _deep_name(100_000)),
        LimitExceeded,
        "bytes of a name",
    ),
]


def _deep_name(depth: int) -> bytes:
    return behind(raw_tar.pax({"path": "d/" * depth + "f"}), raw_tar.member(b"x", b"y"))


_LINKS = [
    Case("symlink leaves", whole(lambda: docker(link("s", "../../../etc/passwd")))),
    Case(
        "symlink leaves, wanted",
        whole(lambda: docker(link("s", "../../etc/passwd"), items=[item(Layers=["s"])])),
        BrokenArchive,
        "symlink that leaves",
    ),
    Case(
        "symlink is absolute, wanted",
        whole(lambda: docker(link("s", "/etc/passwd"), items=[item(Config="s")])),
        MissingMember,
        "s: is missing",
    ),
    Case(
        "hard link leaves, wanted",
        whole(lambda: docker(link("h", "../etc/passwd", HARD), items=[item(Layers=["h"])])),
        BrokenArchive,
        "hardlink that leaves",
    ),
    Case(
        "hard link of nothing",
        whole(lambda: docker(link("h", "nothing", HARD), items=[item(Config="h")])),
        MissingMember,
        "h: is missing",
    ),
    Case(
        "symlink as a directory of a later member",
        whole(
            lambda: docker(link("d", "/tmp"), ("d/l.tar", PLAIN), items=[item(Layers=["d/l.tar"])])
        ),
    ),
    Case(
        "cycle of symlinks",
        whole(lambda: docker(link("a", "b"), link("b", "a"), items=[item(Layers=["a"])])),
        BrokenArchive,
        "needs more than 40 steps",
    ),
    Case(
        "cycle of hard links",
        whole(
            lambda: docker(link("a", "b", HARD), link("b", "a", HARD), items=[item(Layers=["a"])])
        ),
        BrokenArchive,
        "needs more than 40 steps",
    ),
    Case("40 symlinks", whole(lambda: _chain(39))),
    Case("41 symlinks", whole(lambda: _chain(41)), BrokenArchive, "needs more than 40 steps"),
    Case("very many symlinks", lambda: _links(10_000), BrokenArchive, "needs more than 40 steps"),
    Case(
        "manifest.json a symlink to /etc",
        whole(lambda: tar([CONFIG, LAYER, link("manifest.json", "/etc/passwd")])),
        MissingMember,
        "manifest.json",
    ),
]

_DEVICES = [
    Case(
        f"{noun}, wanted",
        whole(lambda kind=kind: docker(link("d", "", kind), items=[item(Layers=["d"])])),  # type: ignore[misc]  # mypy infers no type for a lambda with defaults
        BrokenArchive,
        f"found a {noun}",
    )
    for noun, kind in (
        ("character device", tarfile.CHRTYPE),
        ("block device", tarfile.BLKTYPE),
        ("fifo", tarfile.FIFOTYPE),
    )
] + [
    Case("devices that nobody wants", whole(lambda: docker(link("dev/sda", "", tarfile.BLKTYPE)))),
    Case(
        "directory, wanted", whole(lambda: _wanting_a_directory()), MissingMember, "l: is missing"
    ),
]


def _wanting_a_directory() -> bytes:
    return docker(link("l", "", tarfile.DIRTYPE), items=[item(Config="l")])


_DUPLICATES = [
    Case(
        "duplicate layer, the last is another",
        whole(lambda: docker(("l.tar", archives.layer("other")))),
        DigestMismatch,
        "unexpected digest",
    ),
    Case(
        "duplicate layer, the last is right",
        whole(lambda: tar([("l.tar", b"x")])[:1024] + docker()),
    ),
    Case(
        "duplicate config, the last is another",
        whole(lambda: docker(("c.json", b'{"rootfs":{"diff_ids":[]}}'))),
        InvalidDocument,
        "0 diff IDs",
    ),
    Case(
        "duplicate manifest.json, the last is empty",
        whole(lambda: docker(("manifest.json", to_json([item()])), items=[])),
        InvalidDocument,
        "names no image",
    ),
    Case(
        "a link in the place of a file",
        whole(lambda: docker(link("l.tar", "../x"))),
        BrokenArchive,
        "leaves",
    ),
]

_SIZES = [
    Case(
        "the size is short",
        whole(lambda: _size(b"%011o\0" % 0)[:512] + b"data".ljust(512, b"!") + docker()),
        BrokenArchive,
        "damaged header",
    ),
    Case(
        "the size is long",
        whole(lambda: _size(b"%011o\0" % (1 << 30))),
        BrokenArchive,
        "odd: is truncated",
    ),
    Case(
        "the size is negative",
        whole(lambda: _size(raw_tar.base256(-1, 12))),
        BrokenArchive,
        "negative",
    ),
    Case(
        "the size is huge",
        whole(lambda: _size(raw_tar.base256(1 << 62, 12))),
        BrokenArchive,
        "odd: is truncated",
    ),
    Case(
        "the size needs 95 bits",
        whole(lambda: _size(b"\x80" + b"\xff" * 11)),
        BrokenArchive,
        "more than 64 bits",
    ),
    Case("the size is all ones", whole(lambda: _size(b"\xff" * 12)), BrokenArchive, "negative"),
    Case(
        "the size is no octal", whole(lambda: _size(b"99999999999\0")), BrokenArchive, "octal size"
    ),
    Case("the size is junk", whole(lambda: _size(b"\x1b[2Jxx\n")), BrokenArchive, "octal size"),
    Case(
        "the size has a sign", whole(lambda: _size(b"-0000000001\0")), BrokenArchive, "octal size"
    ),
    Case(
        "the size in PAX is negative",
        whole(lambda: behind(raw_tar.pax({"size": -1}), raw_tar.member(b"f"))),
        BrokenArchive,
        "negative",
    ),
    Case(
        "the size in PAX is huge",
        whole(lambda: behind(raw_tar.pax({"size": "9" * 40}), raw_tar.member(b"f"))),
        BrokenArchive,
        "expected a number",
    ),
    Case(
        "the size in PAX is junk",
        whole(lambda: behind(raw_tar.pax({"size": "0x10"}), raw_tar.member(b"f"))),
        BrokenArchive,
        "expected a number",
    ),
    Case(
        "the size of a PAX header is huge",
        whole(lambda: behind(raw_tar.header(b"x", raw_tar.base256(1 << 62, 12), b"x"))),
        LimitExceeded,
        "bytes of a PAX header",
    ),
    Case(
        "the size of a symlink",
        whole(lambda: behind(raw_tar.header(b"s", 1 << 20, b"2", linkname=b"x"))),
    ),
    Case(
        "time is huge",
        whole(lambda: behind(raw_tar.member(b"f", mtime=raw_tar.base256(1 << 62, 12)))),
    ),
    Case(
        "checksum is wrong",
        whole(lambda: behind(raw_tar.member(b"f", checksum=b"0000000\0"))),
        BrokenArchive,
        "not a tar",
    ),
]

_SPARSE = [
    Case(
        "sparse, of 8 EiB",
        whole(lambda: behind(_gnu_sparse((1 << 63) - 1, (0, 3)))),
        LimitExceeded,
        "expanded bytes",
    ),
    Case(
        "sparse, segments overlap",
        whole(lambda: behind(_gnu_sparse(100, (0, 2), (1, 1)))),
        BrokenArchive,
        "bad sparse map",
    ),
    Case(
        "sparse, segments leave",
        whole(lambda: behind(_gnu_sparse(2, (0, 3)))),
        BrokenArchive,
        "bad sparse map",
    ),
    Case(
        "sparse, more data than segments",
        whole(lambda: behind(_gnu_sparse(100, (0, 1)))),
        BrokenArchive,
        "more data",
    ),
    Case(
        "sparse, less data than segments",
        whole(lambda: behind(_gnu_sparse(100, (0, 9)))),
        BrokenArchive,
        "less data",
    ),
    Case(
        "sparse, size is negative",
        whole(lambda: behind(_gnu_sparse(-1))),
        BrokenArchive,
        "the size is -1",
    ),
    Case(
        "sparse, a map without end",
        _sparse_map_without_end,
        LimitExceeded,
        "bytes of its sparse map",
    ),
    Case(
        "sparse in PAX, of 8 EiB",
        whole(lambda: _pax_sparse({"size": (1 << 63) - 1, "numblocks": 1, "map": "0,3"})),
        LimitExceeded,
        "expanded bytes",
    ),
    Case(
        "sparse in PAX, blocks that are not there",
        whole(lambda: _pax_sparse({"size": 9, "numblocks": 10**18, "map": "0,3"})),
        BrokenArchive,
        "bad sparse map",
    ),
    Case(
        "sparse in PAX, of no known version",
        whole(lambda: _pax_sparse({"major": 9, "minor": 9, "realsize": 9})),
        BrokenArchive,
        "not known: 9.9",
    ),
    Case(
        "sparse in PAX, a map without end",
        whole(
            lambda: _pax_sparse(
                {"major": 1, "minor": 0, "realsize": 1 << 30},
                b"9" * 18 + b"\n" + b"1\n" * (1 << 20),
            )
        ),
        LimitExceeded,
        "sparse",
    ),
]

_PAX = [
    Case(
        "PAX header of 64 MiB",
        whole(lambda: behind(raw_tar.pax({"comment": "x" * (64 << 20)}))),
        LimitExceeded,
        "bytes of a PAX header",
    ),
    Case("PAX header of very many records", lambda: _records(40_000)),
    Case("very many PAX headers", lambda: _headers(20_000, b"x")),
    Case("very many global PAX headers", lambda: _headers(20_000, b"g")),
    Case("very many attributes", _xattrs_everywhere),
    Case(
        "PAX record whose length lies",
        whole(lambda: behind(raw_tar.pax(b"99999 path=x\n"))),
        BrokenArchive,
        "bad PAX header",
    ),
    Case(
        "PAX record without a key",
        whole(lambda: behind(raw_tar.pax(b"5 =x\n"))),
        BrokenArchive,
        "bad PAX header",
    ),
    Case(
        "PAX path with a NUL",
        whole(lambda: behind(raw_tar.pax(raw_tar.record("path", "a\0b")))),
        BrokenArchive,
        "NUL",
    ),
    Case(
        "PAX header without a member",
        whole(lambda: raw_tar.pax({"path": "x"})),
        BrokenArchive,
        "truncated",
    ),
]

_MANY = [
    Case("very many members", lambda: _members(MANY)),
    Case("200,000 files", lambda: _members(200_000, data=b"x" * 60)),
    Case(
        "very many small files",
        lambda: _members(MANY, data=b"x" * 20),
        LimitExceeded,
        "members: limit 10000",
        ("--limit", "max_members=10000"),
    ),
    Case("very many long names", lambda: _members(2000, 60_000), LimitExceeded, "table of members"),
    Case("a tar in a tar in a tar", whole(lambda: _nested())),
]


def _nested() -> bytes:
    inner = docker()
    for _ in range(100):
        inner = tar([("inner.tar", inner)])
    return docker(("inner.tar", inner))


TARS = [*_NAMES, *_LINKS, *_DEVICES, *_DUPLICATES, *_SIZES, *_SPARSE, *_PAX, *_MANY]

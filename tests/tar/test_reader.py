import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import BrokenArchive, EngineError, LimitExceeded
from engine.limits import Limits
from engine.tar.member import Member
from engine.tar.reader import MemberData, MemberEnd, MemberHole, MemberStart, TarReader
from engine.tar.sparse import zeros
from tests.tar.raw_tar import END, GNU, USTAR, V7, base256, header, member, padded, pax, record

ArchiveImage = list[tuple[Member, bytes]]


def pieces(data: bytes, size: int) -> Iterator[memoryview]:
    view = memoryview(data)
    return (view[start : start + size] for start in range(0, len(view), size))


def events_to_members(reader: TarReader, parts: Iterable[memoryview], found: ArchiveImage) -> None:
    """Put what is complete into `found`, which an error leaves as it was by then."""
    begun: list[Member] = []
    data: list[bytes] = []
    for part in parts:
        for event in reader.feed(part):
            match event:
                case MemberStart(started):
                    assert not begun
                    begun, data = [started], []
                case MemberData(view):
                    assert begun
                    assert 0 < len(view) <= 1 << 20
                    data.append(bytes(view))
                case MemberHole(size):
                    assert begun
                    assert size > 0
                    data.extend(map(bytes, zeros(size)))
                case MemberEnd():
                    found.append((begun.pop(), b"".join(data)))


def read(data: bytes, size: int = 1 << 20, limits: Limits | None = None) -> ArchiveImage:
    reader = TarReader(limits or Limits())
    found: ArchiveImage = []
    events_to_members(reader, pieces(data, size), found)
    reader.finish()
    assert reader.members == len(found)
    assert all(m.size == len(content) for m, content in found if m.kind != "other")
    return found


def names(data: bytes) -> list[str]:
    return [found.name for found, _ in read(data)]


def only(data: bytes) -> tuple[Member, bytes]:
    (found,) = read(data)
    return found


# -- what other writers write -------------------------------------------------------------------

TARFILE_KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.CONTTYPE: "file",
    tarfile.GNUTYPE_SPARSE: "file",
    tarfile.LNKTYPE: "hardlink",
    tarfile.SYMTYPE: "symlink",
    tarfile.CHRTYPE: "character device",
    tarfile.BLKTYPE: "block device",
    tarfile.DIRTYPE: "dir",
    tarfile.FIFOTYPE: "fifo",
}


def as_tarfile_reads(data: bytes) -> ArchiveImage:
    found: ArchiveImage = []
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for info in archive:
            kind = TARFILE_KINDS[info.type]
            file = archive.extractfile(info) if kind == "file" else None
            content = file.read() if file else b""
            mtime = Decimal(info.pax_headers.get("mtime", info.mtime))
            found.append(
                (
                    Member(
                        info.name,
                        kind,
                        len(content),
                        info.linkname,
                        info.mode,
                        int(mtime * 10**9),
                        info.uid,
                        info.gid,
                        (info.devmajor, info.devminor) if info.isdev() else (0, 0),
                    ),
                    content,
                )
            )
    return found


def same(ours: ArchiveImage, theirs: ArchiveImage) -> None:
    """Equal, but for the slash behind a directory, which tarfile takes away."""
    stripped = [
        (m if m.kind != "dir" else Member(m.name.rstrip("/"), *_rest(m)), content)
        for m, content in ours
    ]
    assert stripped == theirs


def _rest(m: Member) -> tuple[Any, ...]:
    return (m.kind, m.size, m.linkname, m.mode, m.mtime_ns, m.uid, m.gid, m.device)


def info(name: str, kind: bytes = tarfile.REGTYPE, **fields: Any) -> tarfile.TarInfo:
    result = tarfile.TarInfo(name)
    result.type = kind
    for key, value in fields.items():
        setattr(result, key, value)
    return result


MEMBERS: list[tuple[tarfile.TarInfo, bytes]] = [
    (info("dir", tarfile.DIRTYPE, mode=0o755), b""),
    (info("dir/empty"), b""),
    (info("dir/block", mode=0o600, uid=1000, gid=100, mtime=1700000000), b"b" * 512),
    (info("./dir/odd"), b"o" * 700),
    (info("to", tarfile.SYMTYPE, linkname="dir/odd"), b""),
    (info("hard", tarfile.LNKTYPE, linkname="dir/odd"), b""),
    (info("pipe", tarfile.FIFOTYPE), b""),
    (info("null", tarfile.CHRTYPE, devmajor=1, devminor=3), b""),
    (info("disk", tarfile.BLKTYPE, devmajor=8, devminor=1), b""),
    (info("contiguous", tarfile.CONTTYPE), b"7"),
    (info("deep/" + "n" * 99), b"prefix"),
]
LONG: list[tuple[tarfile.TarInfo, bytes]] = [
    (info("l/" * 200 + "file"), b"long"),
    (info("link", tarfile.SYMTYPE, linkname="t/" * 150), b""),
    (info("both/" * 60 + "x", tarfile.LNKTYPE, linkname="t/" * 150 + "x"), b""),
    (info("später", uid=3_000_000, mtime=1700000000), "größer".encode()),
    (info("raw\udcff"), b"not UTF-8"),
    (info("old", mtime=-5), b"before the epoch"),
]


def tarball(members: Sequence[tuple[tarfile.TarInfo, bytes]], format_: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format_, errors="surrogateescape") as archive:
        for one, content in members:
            one.size = len(content)
            archive.addfile(one, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize(
    ("format_", "members"),
    [
        (tarfile.USTAR_FORMAT, MEMBERS),
        (tarfile.GNU_FORMAT, MEMBERS + LONG),
        (tarfile.PAX_FORMAT, MEMBERS + LONG),
    ],
    ids=["ustar", "gnu", "pax"],
)
@pytest.mark.parametrize("size", [1, 511, 512, 1000, 1 << 20])
def test_reads_what_tarfile_writes(
    format_: int, members: list[tuple[tarfile.TarInfo, bytes]], size: int
) -> None:
    data = tarball(members, format_)
    same(read(data, size), as_tarfile_reads(data))


HOLES: list[tuple[str, int, Sequence[int]]] = [
    ("holes", 3 << 20, range(4096, 3 << 20, 64 << 10)),
    ("all hole", 1 << 20, ()),
    ("hole at the end", 100_000, (0,)),
    ("hole at the start", 100_000, (99_990,)),
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of every sort, with holes where `tar --sparse` looks for them."""
    root = tmp_path_factory.mktemp("tree")
    (root / "dir").mkdir()
    (root / "dir" / "file").write_bytes(b"content" * 300)
    (root / "empty").touch()
    (root / "link").symlink_to("dir/file")
    os.link(root / "dir" / "file", root / "hard")
    os.mkfifo(root / "pipe")
    for name, size, positions in HOLES:
        with (root / name).open("wb") as file:
            file.truncate(size)
            for position in positions:
                file.seek(position)
                file.write(b"data")
    return root


def gnu_tar(tree: Path, *options: str) -> bytes:
    tar = shutil.which("tar")
    version = subprocess.run([tar or "false", "--version"], capture_output=True, check=False).stdout
    if b"GNU tar" not in version:
        pytest.skip("needs GNU tar")
    command = [str(tar), "-C", str(tree), "--sort=name", *options, "-cf", "-", "."]
    return subprocess.run(command, capture_output=True, check=True).stdout


def long_names(tree: Path) -> None:
    deep = tree / ("d" * 90) / ("e" * 90)
    deep.mkdir(parents=True, exist_ok=True)
    (deep / "später").write_bytes(b"deep")
    if not (tree / "far").is_symlink():
        (tree / "far").symlink_to("t" * 150)


@pytest.mark.parametrize("format_", ["v7", "ustar", "oldgnu", "gnu", "pax"])
def test_reads_what_gnu_tar_writes(tree: Path, format_: str) -> None:
    has_no_pipes = ["--exclude=./pipe"] if format_ == "v7" else []
    data = gnu_tar(tree, f"--format={format_}", *has_no_pipes)
    same(read(data), as_tarfile_reads(data))


@pytest.mark.parametrize("size", [1000, 1 << 20])
@pytest.mark.parametrize(
    "options",
    [
        ["--format=oldgnu"],
        ["--format=gnu"],
        ["--format=pax", "--sparse-version=0.0"],
        ["--format=pax", "--sparse-version=0.1"],
        ["--format=pax", "--sparse-version=1.0"],
        ["--format=pax", "--pax-option=globexthdr.name=g,mtime=123"],
    ],
    ids=" ".join,
)
def test_expands_the_sparse_members_of_gnu_tar(tree: Path, options: list[str], size: int) -> None:
    long_names(tree)
    data = gnu_tar(tree, *options, "--sparse", "--hole-detection=raw")
    assert len(data) < 2 << 20
    found = read(data, size)
    same(found, as_tarfile_reads(data))
    contents = {m.name: content for m, content in found if m.kind == "file"}
    for name, _, _ in HOLES:
        assert contents[f"./{name}"] == (tree / name).read_bytes()


def test_takes_the_records_of_a_global_header_for_all_members_that_follow() -> None:
    data = (
        member(b"before")
        + pax({"mtime": "123.9", "uid": 7, "path": "every", "size": 99}, b"g")
        + member(b"one", b"1")
        + pax({"uid": 8})
        + member(b"two", b"2")
        + member(b"three", b"3")
    )
    found = [m for m, _ in read(data + END)]
    assert [m.name for m in found] == ["before", "one", "two", "three"]
    assert [m.mtime_ns // 10**9 for m in found] == [0, 123, 123, 123]
    assert [m.uid for m in found] == [0, 7, 8, 7]


# -- headers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "name", "kind"),
    [
        (b"0", b"f", "file"),
        (b"\0", b"f", "file"),
        (b"7", b"f", "file"),
        (b"\0", b"f/", "dir"),
        (b"0", b"f/", "file"),
        (b"5", b"f", "dir"),
        (b"V", b"f", "other"),
        (b"M", b"f", "other"),
        (b"D", b"f", "other"),
        (b"A", b"f", "other"),
    ],
)
def test_the_type_flag_tells_the_kind(flag: bytes, name: bytes, kind: str) -> None:
    found, _ = only(header(name, 0, flag) + END)
    assert found.kind == kind


def test_the_data_of_other_members_is_skipped() -> None:
    data = member(b"volume", b"v" * 1000, b"M") + member(b"file", b"f") + END
    (other, nothing), (file, content) = read(data)
    assert (other.kind, other.size, nothing) == ("other", 1000, b"")
    assert (file.name, content) == ("file", b"f")


@pytest.mark.parametrize("flag", [b"1", b"2", b"3", b"4", b"5", b"6"])
def test_only_files_have_data_whatever_the_size_says(flag: bytes) -> None:
    data = header(b"thing", 5000, flag, linkname=b"to") + member(b"next", b"n") + END
    assert [(m.name, m.size) for m, _ in read(data)] == [("thing", 0), ("next", 1)]


@pytest.mark.parametrize(
    ("magic", "name"),
    [(USTAR, "p/f"), (V7, "f"), (b"ustar\0  ", "f"), (GNU, "f")],
    ids=["ustar", "v7", "unknown version", "gnu"],
)
def test_only_ustar_has_a_prefix(magic: bytes, name: str) -> None:
    prefix = b"00000000001\0" if magic == GNU else b"p"
    assert names(header(b"f", magic=magic, prefix=prefix) + END) == [name]


def test_the_prefix_of_star_is_shorter() -> None:
    tail = b"p" * 131 + b"00000000000\0" * 2 + bytes(8) + b"tar\0"
    assert names(header(b"f", tail=tail) + END) == ["p" * 131 + "/f"]


def test_takes_the_prefix_that_go_once_put_into_gnu_headers() -> None:
    assert names(header(b"f", magic=GNU, prefix=b"some/dir") + END) == ["some/dir/f"]
    assert names(header(b"f", magic=GNU, prefix=b"s\xe4") + END) == ["f"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"0000012\0", 10),
        (b"     12 ", 10),
        (b"12      ", 10),
        (b"\0\x0012\0\0\0\0", 10),
        (b"12\x0099\0\0\0", 10),
        (b"00000012", 10),
        (bytes(8), 0),
        (b" " * 8, 0),
        (base256(3_000_000_000, 8), 3_000_000_000),
        (base256(-2, 8), -2),
    ],
)
def test_numbers(field: bytes, value: int) -> None:
    assert only(header(b"f", uid=field) + END)[0].uid == value


@pytest.mark.parametrize("size", [0, 1, 8**11 - 1, 8**11, 1 << 62])
def test_sizes_of_any_magnitude(size: int) -> None:
    field = b"%011o\0" % size if size < 8**11 else base256(size, 12)
    reader = TarReader(Limits())
    start, *_ = reader.feed(memoryview(header(b"f", field)))
    assert isinstance(start, MemberStart)
    assert start.member.size == size


def test_a_checksum_over_signed_bytes_is_right_too() -> None:
    block = bytearray(header("größe".encode()))
    signed = sum(byte - 256 * (byte > 127) for byte in block[:148] + block[156:]) + 8 * 32
    block[148:156] = b"%06o\0 " % signed
    assert names(bytes(block) + END) == ["größe"]


# -- extended headers ---------------------------------------------------------------------------


def test_pax_records_replace_the_fields_of_the_header() -> None:
    records = {
        "path": "p" * 200,
        "linkpath": "l" * 200,
        "uid": 5_000_000_000,
        "gid": 6,
        "mtime": "-1.5",
        "comment": "no matter",
    }
    found, _ = only(pax(records) + header(b"short", flag=b"2", linkname=b"to") + END)
    expected = Member("p" * 200, "symlink", 0, "l" * 200, 0o644, -1_500_000_000, 5_000_000_000, 6)
    assert found == expected


def test_the_size_of_a_pax_record_holds() -> None:
    data = pax({"size": 3}) + header(b"f", 0) + padded(b"abc") + END
    assert only(data)[1] == b"abc"


def test_empty_pax_records_say_nothing() -> None:
    records = {"path": "", "size": "", "mtime": "", "uid": ""}
    found, content = only(pax(records) + member(b"f", b"x", mtime=b"00000000012\0") + END)
    assert (found.name, found.mtime_ns, content) == ("f", 10_000_000_000, b"x")


TIMES = {
    "0": 0,
    "1.5": 1_500_000_000,
    "-1.5": -1_500_000_000,
    "-0.25": -250_000_000,
    "7.": 7_000_000_000,
    "1.000000001": 1_000_000_001,
    "1.0000000019": 1_000_000_001,
    "-1.0000000001": -1_000_000_000,
}


@pytest.mark.parametrize(("text", "expected"), TIMES.items())
def test_a_pax_time_has_nanoseconds(text: str, expected: int) -> None:
    assert only(pax({"mtime": text}) + member(b"f") + END)[0].mtime_ns == expected


XATTRS = {
    "as star and Go write them": (
        record("SCHILY.xattr.user.a", b"\0\xff=\n") + record("SCHILY.xattr.b", b""),
        {"user.a": b"\0\xff=\n", "b": b""},
    ),
    "as libarchive writes them": (
        record("LIBARCHIVE.xattr.user.a%3db", b"AP8") + record("LIBARCHIVE.xattr.c", b"eA=="),
        {"user.a=b": b"\0\xff", "c": b"x"},
    ),
    "both ways": (
        record("SCHILY.xattr.user.a", b"star") + record("LIBARCHIVE.xattr.user.a", b"AP8"),
        {"user.a": b"star"},
    ),
    "not base64": (record("LIBARCHIVE.xattr.user.a", b"!") + record("comment", b"x"), {}),
    "a name that is not UTF-8": (record(b"SCHILY.xattr.user.\xff", b"x"), {"user.\udcff": b"x"}),
}


@pytest.mark.parametrize(("records", "expected"), XATTRS.values(), ids=XATTRS)
def test_extended_attributes(records: bytes, expected: dict[str, bytes]) -> None:
    first, second = (m for m, _ in read(pax(records) + member(b"f") + member(b"g") + END))
    assert (first.xattrs, second.xattrs) == (expected, {})


def test_a_global_header_has_no_extended_attributes() -> None:
    records = record("SCHILY.xattr.user.a", b"x")
    assert only(pax(records, b"g") + member(b"f") + END)[0].xattrs == {}


def test_an_old_sparse_member_has_extended_attributes() -> None:
    found, _ = only(pax(record("SCHILY.xattr.user.a", b"x")) + SPARSE["gnu"] + END)
    assert found.xattrs == {"user.a": b"x"}


DEVICES = {
    "octal": (USTAR, b"0000010\0" + b"0000003\0", (8, 3)),
    "base-256": (GNU, base256(1 << 32, 8) + base256(300, 8), (1 << 32, 300)),
    "empty": (USTAR, bytes(16), (0, 0)),
    "none in v7": (V7, b"garbage!" * 2, (0, 0)),
}


@pytest.mark.parametrize(("magic", "devices", "expected"), DEVICES.values(), ids=DEVICES)
@pytest.mark.parametrize("flag", [b"3", b"4"])
def test_device_numbers(
    flag: bytes, magic: bytes, devices: bytes, expected: tuple[int, int]
) -> None:
    found, _ = only(header(b"dev", flag=flag, magic=magic, devices=devices) + END)
    assert found.device == expected


def test_only_devices_have_device_numbers() -> None:
    assert only(header(b"f", devices=b"garbage!" * 2) + END)[0].device == (0, 0)


def test_refuses_device_numbers_that_are_none() -> None:
    with pytest.raises(BrokenArchive, match="dev: has a bad header: expected an octal device"):
        read(header(b"dev", flag=b"3", devices=b"garbage!" * 2) + END)


@pytest.mark.parametrize("size", [1, 512, 1000, 1 << 20])
def test_tells_where_the_headers_of_a_member_begin(size: int) -> None:
    parts = [
        pax({"mtime": "1"}, b"g"),
        pax({"path": "long"}) + member(b"a", b"x" * 600),
        member(b"././@LongLink", b"gnu\0", b"L", magic=GNU) + pax(b"") + member(b"b"),
        header(b"d", flag=b"5"),
        SPARSE["gnu"],
    ]
    data = b"".join(parts) + END
    expected = [sum(map(len, parts[:count])) for count in range(1, len(parts))]
    reader = TarReader(Limits())
    starts = (e for p in pieces(data, size) for e in reader.feed(p) if isinstance(e, MemberStart))
    assert [reader.offset for _ in starts] == expected
    alone = [read(data[offset:])[0] for offset in expected]
    assert [(m.name, content) for m, content in alone] == [(m.name, c) for m, c in read(data)]


def test_extended_headers_hold_for_one_member() -> None:
    data = pax({"path": "long"}) + member(b"a") + member(b"b") + END
    assert names(data) == ["long", "b"]


def test_a_gnu_name_wins_over_a_pax_path() -> None:
    gnu = member(b"././@LongLink", b"gnu\0", b"L", magic=GNU)
    assert names(gnu + pax({"path": "pax"}) + member(b"a") + END) == ["gnu"]
    assert names(pax({"path": "pax"}) + gnu + member(b"a") + member(b"b") + END) == ["gnu", "b"]


def test_empty_extended_headers_say_nothing() -> None:
    gnu = member(b"././@LongLink", b"", b"L", magic=GNU)
    assert names(gnu + pax(b"") + member(b"a") + END) == ["a"]


BAD_RECORDS = {
    "no length": b"path=x\n",
    "no space": b"10",
    "length too long": b"99 path=x\n",
    "length too short": b"3 path=x\n",
    "length of nothing": b"2 \n",
    "zero length": b"0 path=x\n",
    "negative length": b"-9 path=x\n",
    "length beyond all bounds": b"9" * 400 + b" a=b\n",
    "no newline": b"10 path=x..",
    "no equals sign": b"9 path..\n",
    "no key": record(b"", b"x"),
    "NUL in a key": record(b"a\0b", b"x"),
    "NUL in a path": record(b"path", b"a\0b"),
    "NUL in a link": record(b"linkpath", b"a\0b"),
    "size is no number": record(b"size", b"1x"),
    "size with an underscore": record(b"size", b"1_0"),
    "size in foreign digits": record(b"size", "٣"),
    "negative size": record(b"size", b"-1"),
    "size beyond 64 bits": record(b"size", b"9223372036854775808"),
    "owner is no number": record(b"uid", b"root"),
    "time is no number": record(b"mtime", b"now"),
    "second sparse offset": record(b"GNU.sparse.offset", b"1") * 2,
    "sparse length first": record(b"GNU.sparse.numbytes", b"1"),
    "comma in a sparse offset": record(b"GNU.sparse.offset", b"1,2"),
}


@pytest.mark.parametrize("records", BAD_RECORDS.values(), ids=BAD_RECORDS)
def test_refuses_bad_pax_records(records: bytes) -> None:
    with pytest.raises(BrokenArchive, match="bad PAX header"):
        read(pax(records) + member(b"file", b"x") + END)


# -- sparse members -----------------------------------------------------------------------------


def gnu_entries(*numbers: int) -> bytes:
    return b"".join(b"%011o\0" % number for number in numbers)


def gnu_sparse(
    name: bytes, size: int, stored: bytes, *numbers: int, extended: bool = False
) -> bytes:
    tail = bytes(41) + gnu_entries(*numbers).ljust(96, b"\0") + bytes([extended])
    return header(name, len(stored), b"S", magic=GNU, tail=tail + b"%011o\0" % size)


def sparse_10(name: str, size: int, stored: bytes, **more: Any) -> bytes:
    records = {"major": 1, "minor": 0, "name": name, "realsize": size} | more
    return pax({f"GNU.sparse.{k}": v for k, v in records.items()}) + member(b"x", stored)


SPARSE = {
    "gnu": gnu_sparse(b"f", 20, b"abcd", 2, 3, 10, 1) + padded(b"abcd"),
    "gnu, map goes on": gnu_sparse(b"f", 20, b"abcd", extended=True)
    + gnu_entries().ljust(504, b"\0")
    + b"\1".ljust(8, b"\0")
    + gnu_entries(2, 3, 10, 1, 20, 0).ljust(512, b"\0")
    + padded(b"abcd"),
    "pax 0.0": pax(
        record("GNU.sparse.size", "20")
        + record("GNU.sparse.numblocks", "2")
        + record("GNU.sparse.offset", "2")
        + record("GNU.sparse.numbytes", "3")
        + record("GNU.sparse.offset", "10")
        + record("GNU.sparse.numbytes", "1")
    )
    + member(b"f", b"abcd"),
    "pax 0.1": pax(
        {
            "GNU.sparse.size": 20,
            "GNU.sparse.numblocks": 2,
            "GNU.sparse.map": "2,3,10,1",
            "GNU.sparse.name": "f",
        }
    )
    + member(b"x", b"abcd"),
    "pax 1.0": sparse_10("f", 20, padded(b"2\n2\n3\n10\n1\n") + b"abcd"),
    "pax 1.0, long map": sparse_10(
        "f", 20, padded(b"402\n" + b"0\n0\n" * 400 + b"2\n3\n10\n1\n") + b"abcd"
    ),
}


@pytest.mark.parametrize("data", SPARSE.values(), ids=SPARSE)
@pytest.mark.parametrize("size", [1, 513, 1 << 20])
def test_expands_sparse_members(data: bytes, size: int) -> None:
    (found, content), (after, _) = read(data + member(b"next") + END, size)
    assert (found.name, found.kind, found.size, after.name) == ("f", "file", 20, "next")
    assert content == b"\0\0abc\0\0\0\0\0d".ljust(20, b"\0")


@pytest.mark.parametrize("data", SPARSE.values(), ids=SPARSE)
def test_a_hole_is_one_number(data: bytes) -> None:
    events = list(TarReader(Limits()).feed(memoryview(data + END)))
    parts = [
        event.size if isinstance(event, MemberHole) else bytes(event.data)
        for event in events
        if isinstance(event, MemberHole | MemberData)
    ]
    assert parts == [2, b"abc", 5, b"d", 9]


def test_a_sparse_member_may_be_all_hole() -> None:
    size = (3 << 20) + 5
    assert only(gnu_sparse(b"f", size, b"") + END)[1] == bytes(size)
    assert only(sparse_10("f", size, padded(b"0\n")) + END)[1] == bytes(size)
    assert only(gnu_sparse(b"f", 0, b"") + END)[1] == b""


def with_map(text: str, count: int, stored: bytes = b"abcd") -> bytes:
    records = {"GNU.sparse.size": 20, "GNU.sparse.numblocks": count, "GNU.sparse.map": text}
    return pax(records) + member(b"f", stored)


BAD_SPARSE = {
    "segments overlap": with_map("0,3,2,1", 2),
    "segments out of order": with_map("10,1,2,3", 2),
    "segment behind the end": with_map("18,4", 1),
    "segment beyond 64 bits": with_map("9223372036854775807,9223372036854775807", 1),
    "odd map": with_map("0,3,4", 1),
    "fewer segments than said": with_map("0,4", 2),
    "map of no numbers": with_map("a,b", 1),
    "map of foreign digits": with_map("٣,1", 1),
    "map that is not UTF-8": pax(record(b"GNU.sparse.map", b"\xc2,1")) + member(b"f"),
    "negative segment": with_map("-1,4", 1),
    "more data than the map": with_map("0,3", 1),
    "less data than the map": with_map("0,5", 1),
    "no realsize, segment behind the end": pax({"GNU.sparse.numblocks": 1, "GNU.sparse.map": "9,4"})
    + member(b"f", b"abcd"),
    "negative size": sparse_10("f", -1, padded(b"0\n")),
    "size is no number": sparse_10("f", 0, padded(b"0\n"), realsize="x"),
    "unknown version": sparse_10("f", 20, padded(b"0\n"), major=2),
    "1.0 without a map": sparse_10("f", 20, b""),
    "1.0 map ends early": sparse_10("f", 20, padded(b"2\n0\n1\n")),
    "1.0 map shorter than a block": sparse_10("f", 20, b"1\n0\n1\n"),
    "1.0 map of no numbers": sparse_10("f", 20, padded(b"one\n")),
    "1.0 map of an endless number": sparse_10("f", 20, b"9" * 2000),
    "1.0 map with an empty line": sparse_10("f", 20, padded(b"1\n\n1\n")),
    "1.0 map of more than all numbers": sparse_10("f", 20, padded(b"9999999999999999999\n1\n")),
    "gnu flag in ustar": header(b"f", 0, b"S"),
    "gnu segment behind the end": gnu_sparse(b"f", 20, b"abcd", 18, 4) + padded(b"abcd"),
    "gnu junk in the map": header(b"f", 0, b"S", magic=GNU, tail=bytes(41) + b"junk"),
    "gnu more data than the map": gnu_sparse(b"f", 20, b"abcd", 0, 3) + padded(b"abcd"),
    "gnu negative size": header(b"f", 0, b"S", magic=GNU, tail=bytes(138) + base256(-5, 12)),
}


@pytest.mark.parametrize("data", BAD_SPARSE.values(), ids=BAD_SPARSE)
def test_refuses_bad_sparse_members(data: bytes) -> None:
    with pytest.raises(BrokenArchive) as caught:
        read(data + END)
    assert caught.value.member == "f"


# -- what must be refused -----------------------------------------------------------------------

HOSTILE = {
    "text": (b"this is no archive at all" * 100, "", "not a tar archive"),
    "wrong checksum": (header(b"f", checksum=b"000001\0 "), "", "not a tar archive"),
    "junk for a checksum": (header(b"f", checksum=b"checksum"), "", "not a tar archive"),
    "garbage behind a member": (
        member(b"first", b"x") + b"g" * 512,
        "",
        "damaged header behind first",
    ),
    "junk for a size": (header(b"f", b"12345678xyz\0"), "f", "octal size"),
    "eight in a size": (header(b"f", b"00000000008\0"), "f", "octal size"),
    "sign in a size": (header(b"f", b"-0000000001\0"), "f", "octal size"),
    "underscore in a size": (header(b"f", b"0_000000001\0"), "f", "octal size"),
    "prefix in a size": (header(b"f", b"0o000000001\0"), "f", "octal size"),
    "space in a size": (header(b"f", b"0000 000001\0"), "f", "octal size"),
    "negative size": (header(b"f", base256(-1, 12)), "f", "negative"),
    "size of 2^63": (header(b"f", base256(1 << 63, 12)), "f", "64 bits"),
    "size of 2^90": (header(b"f", base256(1 << 90, 12)), "f", "64 bits"),
    "junk for a mode": (header(b"f", mode=b"rw-r--r-"), "f", "octal mode"),
    "junk for an owner": (header(b"f", uid=b"root\0\0\0\0"), "f", "octal owner"),
    "junk for a group": (header(b"f", gid=b"root\0\0\0\0"), "f", "octal group"),
    "junk for a time": (header(b"f", mtime=b"yesterday\0\0\0"), "f", "octal time"),
    "one block of zeros": (
        member(b"first") + bytes(512) + member(b"second"),
        "",
        "single block of zeros behind first",
    ),
}


@pytest.mark.parametrize(("data", "culprit", "reason"), HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_refuses_what_is_malformed(data: bytes, culprit: str, reason: str, size: int) -> None:
    with pytest.raises(BrokenArchive, match=reason) as caught:
        read(data + END, size)
    assert caught.value.member == culprit


def test_the_error_tells_both_checksums() -> None:
    expected = sum(header(b"f")[:148] + header(b"f")[156:]) + 8 * 32
    with pytest.raises(BrokenArchive, match=f"expected the checksum {expected}, found 1$"):
        read(header(b"f", checksum=b"000001\0 "))


GNU_LONG_MAP = gnu_sparse(b"f", 99, b"", extended=True) + (
    gnu_entries(*range(10)).ljust(504, b"\0") + b"\1".ljust(8, b"\0")
)

LIMITED = {
    "members": (Limits(max_members=2), member(b"f") * 3),
    "gnu name": (Limits(max_name_bytes=99), member(b"L", b"n" * 100, b"L", magic=GNU)),
    "gnu link": (Limits(max_name_bytes=99), member(b"K", b"n" * 100, b"K", magic=GNU)),
    "pax path": (Limits(max_name_bytes=99), pax({"path": "ä" * 50}) + member(b"f")),
    "pax link": (Limits(max_name_bytes=99), pax({"linkpath": "ä" * 50}) + member(b"f")),
    "pax header": (Limits(max_header_bytes=99), pax({"comment": "c" * 99}) + member(b"f")),
    "global header": (Limits(max_header_bytes=99), pax({"comment": "c" * 99}, b"g") + member(b"f")),
    "huge header": (Limits(), header(b"x", base256(1 << 62, 12), b"x")),
    "huge name": (Limits(), header(b"L", base256(1 << 62, 12), b"L")),
    "gnu map": (Limits(max_header_bytes=99), GNU_LONG_MAP),
    "pax map": (Limits(max_header_bytes=600), SPARSE["pax 1.0, long map"]),
    "sparse name": (Limits(max_name_bytes=99), sparse_10("f" * 100, 0, padded(b"0\n"))),
    "sparse size": (Limits(max_expanded_bytes=19), SPARSE["gnu"]),
    "pax sparse size": (Limits(), sparse_10("f", 1 << 62, padded(b"0\n"))),
}


@pytest.mark.parametrize(("limits", "data"), LIMITED.values(), ids=LIMITED)
def test_refuses_more_than_the_limits(limits: Limits, data: bytes) -> None:
    with pytest.raises(LimitExceeded):
        read(data + END, limits=limits)


def test_just_as_much_as_the_limits_is_taken() -> None:
    limits = Limits(max_members=2, max_name_bytes=100, max_expanded_bytes=20)
    data = pax({"path": "ä" * 50}) + member(b"f") + SPARSE["gnu"] + END
    assert len(read(data, limits=limits)) == 2


# -- where an archive ends ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "end",
    [b"", bytes(512), END, bytes(10240), END + b"anything", END + member(b"more")],
    ids=["none", "one block", "two blocks", "a record", "garbage", "another archive"],
)
def test_an_archive_ends_with_its_bytes_or_with_two_zero_blocks(end: bytes) -> None:
    assert names(member(b"f", b"x") + end) == ["f"]


@pytest.mark.parametrize("data", [b"", bytes(512), END, bytes(10240)])
def test_an_empty_archive_has_no_members(data: bytes) -> None:
    assert read(data) == []


def test_the_padding_of_the_last_member_may_be_missing() -> None:
    assert only(header(b"f", 3) + b"abc")[1] == b"abc"
    assert only(header(b"f", 3) + b"abc" + bytes(5))[1] == b"abc"


TRUNCATED = {
    "in the data": (header(b"f", 9) + b"12345", "f", "4 bytes of it are missing"),
    "before the data": (header(b"f", 9), "f", "9 bytes of it are missing"),
    "in the first header": (header(b"f")[:100], "", "within a header$"),
    "in a later header": (member(b"f") + header(b"g")[:511], "", "within a header behind f"),
    "in the zero blocks": (member(b"f") + bytes(700), "", "within a header behind f"),
    "in a long name": (header(b"L", 600, b"L") + b"n" * 550, "", "within a header"),
    "behind a long name": (member(b"L", b"name", b"L"), "", "within a header"),
    "behind an empty long name": (member(b"L", b"", b"L"), "", "within a header"),
    "behind a pax header": (pax({"comment": "c"}) + END, "", "within a header"),
    "in a gnu map": (gnu_sparse(b"f", 9, b"12345", extended=True), "f", "parts of its header"),
    "in a pax map": (sparse_10("f", 9, bytes(513))[:-1024], "f", "missing"),
}


@pytest.mark.parametrize(("data", "culprit", "reason"), TRUNCATED.values(), ids=TRUNCATED)
def test_a_truncated_archive_is_refused_at_its_end(data: bytes, culprit: str, reason: str) -> None:
    reader = TarReader(Limits())
    events_to_members(reader, pieces(data, 1 << 20), [])
    assert not reader.at_boundary
    with pytest.raises(BrokenArchive, match=f"is truncated.*{reason}") as caught:
        reader.finish()
    assert caught.value.member == culprit


def test_finish_does_not_spoil_what_follows() -> None:
    data = pax({"path": "a" * 300}) + member(b"f", b"x" * 1000) + SPARSE["pax 1.0"] + END
    reader = TarReader(Limits())
    found: list[Member] = []
    for position in range(len(data)):
        try:
            reader.finish()
        except BrokenArchive:
            assert not reader.at_boundary
        else:
            assert reader.at_boundary
        events = reader.feed(memoryview(data)[position : position + 1])
        found += [event.member for event in events if isinstance(event, MemberStart)]
    assert found == [m for m, _ in read(data)]


def test_tells_where_it_is() -> None:
    reader = TarReader(Limits())
    data = member(b"f", b"x" * 600) + END
    seen = []
    for part in pieces(data, 256):
        list(reader.feed(part))
        seen.append((reader.current, reader.at_boundary, reader.ended))
    assert seen[0] == ("", False, False)
    assert seen[1:4] == [("f", False, False)] * 3
    assert seen[4] == ("", True, False)
    assert seen[-1] == ("", True, True)
    assert reader.members == 1


# -- data ---------------------------------------------------------------------------------------


def test_data_is_not_copied() -> None:
    data = member(b"f", b"x" * 5000) + END
    views = [
        e.data for e in TarReader(Limits()).feed(memoryview(data)) if isinstance(e, MemberData)
    ]
    assert [len(view) for view in views] == [5000]
    assert views[0].obj is data


@given(
    members=st.lists(
        st.tuples(
            st.text(st.characters(min_codepoint=1, codec="utf-8"), min_size=1, max_size=120).filter(
                lambda name: name.strip("/") != ""
            ),
            st.binary(max_size=2000),
        ),
        max_size=5,
    ),
    cuts=st.lists(st.integers(1, 3000), min_size=1, max_size=20),
    format_=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_any_members_come_back_however_they_are_cut(
    members: list[tuple[str, bytes]], cuts: list[int], format_: int
) -> None:
    files = [(info(name.rstrip("/")), content) for name, content in members]
    data = memoryview(tarball(files, format_))
    parts: list[memoryview] = []
    while data:
        size = cuts[len(parts) % len(cuts)]
        parts.append(data[:size])
        data = data[size:]
    reader = TarReader(Limits())
    found: ArchiveImage = []
    events_to_members(reader, parts, found)
    reader.finish()
    assert [(m.name, content) for m, content in found] == [(i.name, c) for i, c in files]


@given(
    block=st.sampled_from(
        [member(b"f", b"x" * 20), pax({"path": "p", "size": 2}), *SPARSE.values()]
    ),
    damage=st.lists(st.tuples(st.integers(0, 2047), st.integers(0, 255)), max_size=6),
    right=st.booleans(),
)
def test_damage_never_gives_anything_but_our_errors(
    block: bytes, damage: list[tuple[int, int]], right: bool
) -> None:
    data = bytearray(block + member(b"next") + END)
    for position, value in damage:
        data[position % len(data)] = value
    if right:
        data[148:156] = b" " * 8
        data[148:156] = b"%06o\0 " % sum(data[:512])
    limits = Limits(max_expanded_bytes=1 << 20)
    outcomes = {size: outcome(bytes(data), size, limits) for size in (1, 700, 1 << 20)}
    assert outcomes[1] == outcomes[700] == outcomes[1 << 20]


def outcome(data: bytes, size: int, limits: Limits) -> ArchiveImage | str:
    try:
        return read(data, size, limits)
    except EngineError as error:
        return str(error)

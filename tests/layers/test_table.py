"""The table of a layer holds what tarfile reads, and comes back from its stored form."""

import io
import posixpath
import tarfile
import tracemalloc
import zlib
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.compression.checksum import FileChecksum
from engine.errors import BrokenArchive
from engine.layers import table_codec
from engine.layers.table import CHUNK, LayerTable
from engine.layers.table_builder import TableBuilder
from engine.limits import Limits
from engine.tar import header_encoder as encode
from engine.tar.header_encoder import Header
from engine.tar.sparse_encoder import encode_sparse
from tests.filetree.layers import Member, directory, file, hardlink, layer, member, symlink
from tests.tar.test_sparse_encoder import maps, sparse_tar

_KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.DIRTYPE: "dir",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hardlink",
    tarfile.FIFOTYPE: "fifo",
    tarfile.CHRTYPE: "character device",
    tarfile.BLKTYPE: "block device",
}
_NAMES = st.text(st.sampled_from("ab./é\udc80 "), min_size=1, max_size=120).filter(
    lambda name: name.strip("/")
)
_NUMBERS = st.integers(0, 1 << 40)
_TIMES = st.from_regex(r"-?[0-9]{1,11}(\.[0-9]{0,12})?", fullmatch=True)


@st.composite
def members(draw: st.DrawFn) -> Member:
    kind = draw(st.sampled_from(sorted(_KINDS)))
    content = draw(st.binary(max_size=2000)) if kind == tarfile.REGTYPE else b""
    return member(
        draw(_NAMES),
        kind,
        content,
        draw(_NAMES) if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else "",
        mode=draw(st.integers(0, 0o7777)),
        uid=draw(_NUMBERS),
        gid=draw(_NUMBERS),
        mtime=draw(st.integers(-(1 << 32), 1 << 33)),
    )


def built(data: bytes, piece: int = 1 << 20, limits: Limits | None = None) -> LayerTable:
    builder = TableBuilder(limits or Limits())
    for start in range(0, len(data), piece):
        builder.feed(memoryview(data)[start : start + piece])
    return builder.result("none", ())


def shown(table: LayerTable) -> list[tuple[object, ...]]:
    entries = [table.entry(index) for index in range(len(table))]
    return [
        (
            entry.path,
            entry.attributes.kind,
            entry.attributes.mode,
            entry.attributes.uid,
            entry.attributes.gid,
            entry.mtime_ns,
            entry.size,
            entry.link,
        )
        for entry in entries
    ]


def clean(name: str) -> bytes:
    return posixpath.normpath(f"/{name}").lstrip("/").encode("utf-8", "surrogateescape")


def expected(data: bytes) -> list[tuple[object, ...]]:
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as archive:
        return [
            (
                clean(one.name),
                _KINDS[one.type],
                one.mode,
                one.uid,
                one.gid,
                int(one.mtime) * 1_000_000_000,
                one.size if one.isreg() else 0,
                clean(one.linkname)
                if one.islnk()
                else one.linkname.encode(errors="surrogateescape"),
            )
            for one in archive
        ]


@pytest.mark.parametrize("format_", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@given(found=st.lists(members(), max_size=20), piece=st.integers(1, 3000) | st.just(1 << 20))
def test_a_table_holds_what_tarfile_reads(found: list[Member], piece: int, format_: int) -> None:
    data = layer(*found, format_=format_)
    table = built(data, piece)
    assert not table.damage
    assert shown(table) == expected(data)
    contents = [data[e.start : e.start + e.size] for e in map(table.entry, range(len(table)))]
    assert contents == [content for _, content in found]


@given(st.lists(st.tuples(members(), st.none() | _TIMES), max_size=8))
def test_extended_times_are_read_alike_quickly_and_slowly(
    drawn: list[tuple[Member, str | None]],
) -> None:
    for (info, _), time in drawn:
        if time is not None:
            info.pax_headers = {"mtime": time}
    found = [member for member, _ in drawn]
    data = layer(*found)
    quick, slow = built(data), built(data, tarfile.BLOCKSIZE - 1)
    assert not quick.damage
    assert table_codec.dump(quick) == table_codec.dump(slow)


@given(st.lists(members(), max_size=20))
def test_a_table_comes_back_from_its_stored_form(found: list[Member]) -> None:
    table = built(layer(*found))
    stored = table_codec.dump(table)
    again = table_codec.load(stored)
    assert again is not None
    assert [again.entry(n) for n in range(len(again))] == [
        table.entry(n) for n in range(len(table))
    ]
    assert table_codec.dump(again) == stored


@given(st.lists(members(), min_size=1, max_size=3), st.data())
def test_a_changed_header_is_the_same_however_it_is_read(
    found: list[Member], draw: st.DataObject
) -> None:
    """Headers that arrive in parts are read by `TarReader`."""
    data = bytearray(layer(*found, format_=tarfile.GNU_FORMAT))
    start = draw.draw(st.integers(0, len(data) // 512 - 1)) * 512
    data[start + draw.draw(st.integers(0, 511))] = draw.draw(st.integers(0, 255))
    field = slice(start + 148, start + 156)
    if draw.draw(st.booleans()):
        data[field] = b" " * 8
        data[field] = b"%06o\0 " % sum(data[start : start + 512])
    limits = Limits(max_members=draw.draw(st.integers(1, 4)), max_name_bytes=110)
    whole, parts = built(bytes(data), 1 << 20, limits), built(bytes(data), 500, limits)
    assert whole.damage == parts.damage
    assert shown(whole) == shown(parts)
    assert whole.file_checksums == parts.file_checksums


def test_attributes_and_digests() -> None:
    info, content = file("f", "content", mode=0o4755)
    info.pax_headers = {
        "SCHILY.xattr.user.a": "1",
        "SCHILY.xattr.trusted.overlay.opaque": "y",
        "mtime": "12.000000034",
    }
    device = member("dev", tarfile.CHRTYPE, devmajor=5, devminor=1)
    table = built(layer((info, content), device, file("empty")))
    first, second, third = (table.entry(n) for n in range(3))
    assert dict(first.attributes.xattrs) == {"user.a": b"1"}
    assert first.attributes.mode == 0o4755
    assert first.mtime_ns == 12_000_000_034
    assert first.checksum == zlib.crc32(b"content") << 32 | zlib.adler32(b"content")
    assert second.attributes.device == (5, 1)
    assert second.checksum == third.checksum == 0


def xattrs_of(records: Mapping[str, str]) -> dict[str, bytes]:
    table = built(layer(member("f", records=records)))
    assert not table.damage
    return dict(table.entry(0).attributes.xattrs)


def test_attributes_that_no_file_can_have_are_left_out() -> None:
    kept = {
        "user.a": "1",
        "trusted.a": "",
        "security.capability": "x",
        "system.posix_acl_access": "x",
        "user." + "n" * 250: "x",
        "user." + "ü" * 125: "x",
        "user.large": "v" * 65_536,
    }
    odd = {
        "user.": "x",
        "security.": "x",
        "a": "x",
        "other.a": "x",
        ".a": "x",
        "user": "x",
        "user." + "n" * 251: "x",
        "user." + "ü" * 126: "x",
        "user.too large": "v" * 65_537,
    }
    records = {f"SCHILY.xattr.{name}": value for name, value in {**odd, **kept}.items()}
    records["LIBARCHIVE.xattr.user.a%00b"] = "eA"
    assert xattrs_of(records) == {name: value.encode() for name, value in kept.items()}


def test_no_more_attributes_are_kept_than_can_be_listed() -> None:
    names = [f"user.{n:0200}" for n in range(400)]
    kept = xattrs_of({f"SCHILY.xattr.{name}": "x" for name in [*names, "user.a"]})
    assert list(kept) == [*names[: len(kept) - 1], "user.a"]
    assert 65_000 < sum(len(name) + 1 for name in kept) <= 65_536


def test_attributes_that_are_left_out_are_not_kept_in_memory() -> None:
    records = {"SCHILY.xattr.user.overlay.x": "v" * 60_000}
    data = layer(*(member(f"{n}", records=records, uid=n) for n in range(100)))
    builder = TableBuilder(Limits())
    tracemalloc.start()
    try:
        builder.feed(memoryview(data))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1 << 20
    assert len(builder.result("none", ()).shared) == 100


@given(maps(), st.integers(1, 3000) | st.just(1 << 20))
def test_a_sparse_file_has_the_checksum_of_its_content(
    found: tuple[int, list[tuple[int, int]]], piece: int
) -> None:
    data, content = sparse_tar("f", *found)
    table = built(data, piece)
    assert not table.damage
    assert table.entry(0).checksum == zlib.crc32(content) << 32 | zlib.adler32(content)


def test_a_hole_is_not_walked_through() -> None:
    """It would take centuries."""
    size = 1 << 60
    header = Header("f", mode=0o640, size=size, mtime=5)
    huge = encode_sparse(header, [(2, 1)]) + b"2".ljust(512, b"\0") + encode.END
    entry = built(huge, limits=Limits(max_expanded_bytes=size)).entry(0)
    checksum = FileChecksum(zlib)
    checksum.update(b"\0\0" + b"2")
    checksum.update_zeros(size - 3)
    assert (entry.size, entry.checksum) == (size, checksum.value)


def test_each_chunk_has_a_checksum() -> None:
    table = built(layer(file("f", "x" * CHUNK)))
    assert table.size == len(layer(file("f", "x" * CHUNK)))
    assert len(table.checksums) == 2


@pytest.mark.parametrize("kept", [100, 700, 1600])
def test_a_damaged_tar_has_the_entries_before_the_damage(kept: int) -> None:
    table = built(
        layer(directory("d"), file("a", "1"), symlink("s", "a"), hardlink("h", "a"))[:kept]
    )
    assert len(table) == kept // 700
    assert "truncated" in table.damage
    assert table.size == kept


def test_too_many_members_end_the_entries() -> None:
    table = built(layer(file("a"), file("b"), file("c")), limits=Limits(max_members=2))
    assert [entry[0] for entry in shown(table)] == [b"a", b"b"]
    assert table.damage == "archive: members: limit 2, found 3"


def test_too_many_extended_headers_end_the_entries() -> None:
    found = [member(str(n), records={"mtime": "1.5"}) for n in range(5)]
    table = built(layer(*found), limits=Limits(max_members=3))
    assert len(table) == 3
    assert "extended headers" in table.damage


def test_too_many_names_end_the_entries() -> None:
    table = built(layer(file("a" * 60), file("b" * 60)), limits=Limits(max_table_bytes=500))
    assert [entry[0] for entry in shown(table)] == [b"a" * 60]
    assert "bytes of names of a layer: limit 500" in table.damage


def test_another_version_is_no_table() -> None:
    stored = table_codec.dump(built(layer(file("a"))))
    assert table_codec.load(b"imgfs layer table \0\0" + stored[20:]) is None
    assert table_codec.load(b"") is None


@given(st.integers(len(table_codec.FORMAT.header), 150), st.integers(1, 255))
def test_a_flipped_byte_is_noticed(position: int, flip: int) -> None:
    stored = bytearray(
        table_codec.dump(built(layer(*(file(f"file-{n}", f"{n}") for n in range(20)))))
    )
    stored[position] ^= flip
    with pytest.raises(BrokenArchive, match="is a damaged layer table"):
        table_codec.load(bytes(stored))


@given(st.lists(members(), max_size=4), st.data())
def test_more_may_be_fed_after_a_result(found: list[Member], draw: st.DataObject) -> None:
    data = memoryview(layer(*found))
    cut = draw.draw(st.integers(0, len(data)))
    builder, other = TableBuilder(Limits()), TableBuilder(Limits())
    for each in (builder, other):
        each.feed(data[:cut])
    first = builder.result("none", ())
    before = table_codec.dump(first)
    for each in (builder, other):
        each.feed(data[cut:])
    whole = [table_codec.dump(each.result("none", ())) for each in (builder, other)]
    assert whole[0] == whole[1]
    assert table_codec.dump(first) == before

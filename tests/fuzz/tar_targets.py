"""Fuzz targets whose input are tar archives, or what stands in one."""

import io
import tarfile
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from engine.filetree.entry_tree import EntryTree
from engine.filetree.tree_builder import TreeBuilder
from engine.layers.table import Entry, LayerTable, Segment
from engine.layers.table_builder import Columns, TableBuilder
from engine.limits import Limits
from engine.tar.member import Member
from engine.tar.reader import MemberData, MemberEnd, MemberHole, MemberStart, TarReader
from engine.tar.sparse import zeros
from tests.fuzz.oracle import Refused, answer, as_text, pieces
from tests.tar import raw_tar

LIMITS = Limits(
    max_members=5000, max_name_bytes=4096, max_header_bytes=64 << 10, max_expanded_bytes=4 << 20
)
BLOCK = 512
MENDED = b"M"
"""The first byte of an input whose headers get valid checksums after the mutation."""


@dataclass
class Read:
    """A member as the reader reported it."""

    member: Member
    offset: int
    data: bytearray = field(default_factory=bytearray)
    complete: bool = False


def tar(data: bytes) -> None:
    """Read an archive; the first byte of the input states whether header checksums are
    corrected.
    """
    archive(mended(data[1:]) if data[:1] == MENDED else data[1:])


def pax(data: bytes) -> None:
    """An extended header and the data of the member that it is about, with two NULs between.

    The header is made of lines, each a record, unless it begins with an exclamation mark.
    """
    said, _, stored = data.partition(b"\0\0")
    if said.startswith(b"!"):
        payload = said[1:]
    else:
        lines = (line.partition(b"=") for line in said.split(b"\n"))
        payload = b"".join(raw_tar.record(key, value) for key, _, value in lines)
    for flag in (b"x", b"g"):
        header = raw_tar.pax(payload, flag)
        archive(header + raw_tar.member(b"f", stored) + raw_tar.member(b"g") + raw_tar.END)


def mended(data: bytes) -> bytes:
    """Return the data with the right checksum in every block that claims to be a ustar header."""
    body = bytearray(data)
    for start in range(0, len(body) - BLOCK + 1, BLOCK):
        if body[start + 257 : start + 262] == b"ustar":
            body[start + 148 : start + 156] = b" " * 8
            checksum = sum(body[start : start + BLOCK])
            body[start + 148 : start + 156] = b"%06o\0 " % checksum
    return bytes(body)


def archive(data: bytes) -> None:
    """Cut up in any way it is the same; tarfile sees no other members; it is a layer or none."""
    whole, cut = [*read([memoryview(data)])], [*read(pieces(data))]
    assert whole == cut
    members = [found for found in whole if isinstance(found, Read)]
    for found in members:
        if found.complete and found.member.kind != "other":
            assert len(found.data) == found.member.size
        assert found.member.size >= 0
    refusal = whole[-1] if whole and isinstance(whole[-1], Refused) else None
    if refusal is None:
        assert all(found.complete for found in members)
        compare(members, data)
    table = table_of([memoryview(data)])
    assert shown_entries(table) == shown_entries(table_of(in_order(data)))
    assert bool(table.damage) == (refusal is not None)
    located(data, table, [found for found in members if found.complete])
    builder = TreeBuilder()
    builder.apply(table)
    check(builder.tree())


def table_of(parts: Iterable[memoryview]) -> LayerTable:
    builder = TableBuilder(LIMITS)
    for part in parts:
        builder.feed(part)
    return builder.result("none", ())


def in_order(data: bytes) -> Iterator[memoryview]:
    """Yield pieces that hold no whole header, so that nothing but the reader reads them."""
    view = memoryview(data)
    for start in range(0, len(data), BLOCK - 1):
        yield view[start : start + BLOCK - 1]


def shown_entries(table: LayerTable) -> tuple[str, list[Entry]]:
    return table.damage, [table.entry(index) for index in range(len(table))]


def located(data: bytes, table: LayerTable, members: list[Read]) -> None:
    """Each file is where the table says."""
    assert len(table) == len(members)
    for index, found in enumerate(members):
        entry = table.entry(index)
        if entry.attributes.kind != "file":
            continue
        content, stored = bytearray(entry.size), entry.start
        for segment in entry.segments or (Segment(0, entry.size),):
            end = stored + segment.length
            content[segment.offset : segment.offset + segment.length] = data[stored:end]
            stored = end
        assert content == found.data


def read(parts: Iterable[memoryview]) -> Iterator[Read | Refused]:
    """Return the members that were reported, and the error that ended it."""
    found: list[Read] = []
    refused = answer(lambda: _read(parts, found))
    yield from found
    if refused is not None:
        yield refused


def _read(parts: Iterable[memoryview], found: list[Read]) -> None:
    reader = TarReader(LIMITS)
    for part in parts:
        for event in reader.feed(part):
            match event:
                case MemberStart(member):
                    assert not found or found[-1].complete
                    found.append(Read(member, reader.offset))
                case MemberData(data):
                    assert data
                    assert not found[-1].complete
                    found[-1].data += data
                case MemberHole(size):
                    assert size > 0
                    assert not found[-1].complete
                    for piece in zeros(size):
                        found[-1].data += piece
                case MemberEnd():
                    found[-1].complete = True
    reader.finish()


def compare(ours: list[Read], data: bytes) -> None:
    """Python's tarfile stops at what it does not understand; up to there it sees the same.

    It takes global headers to be about every member, a prefix where a format has none, records
    that are empty, and a sparse size without a map, but no NULs before a number: such archives are
    not compared.
    """
    if b"GNU.sparse" in data or b"=\n" in data:
        return
    theirs = []
    try:
        with tarfile.open(
            fileobj=io.BytesIO(data), mode="r:", encoding="utf-8", errors="surrogateescape"
        ) as opened:
            for info in opened:
                for start in (info.offset, info.offset_data - BLOCK):
                    header = data[start : start + BLOCK]
                    if b"ustar\x0000" not in header or header[124:125] == b"\0":
                        return
                if opened.pax_headers:
                    return
                theirs.append((info.name.rstrip("/"), info.size if info.isreg() else 0))
    except Exception:
        return
    assert len(theirs) <= len(ours)
    for found, (name, size) in zip(ours, theirs, strict=False):
        assert found.member.name.rstrip("/") == name
        if found.member.kind == "file":
            assert found.member.size == size


# -- layers ---------------------------------------------------------------------------------------

KINDS = {
    "f": "file",
    "d": "dir",
    "l": "symlink",
    "h": "hardlink",
    "p": "fifo",
    "c": "character device",
    "o": "other",
}


def layers(data: bytes) -> None:
    """A line is a member: its kind's letter and its name, a tab, what it links to; an empty line
    begins the next layer.

    The tree stands, and where there are no links it does not matter where whiteouts are.
    """
    told = [plan(part) for part in as_text(data).split("\n\n")]
    found = merged(told)
    check(found)
    if any("link" in member.kind for layer in told for member in layer):
        return
    first = merged([sorted(layer, key=lambda member: not is_whiteout(member)) for layer in told])
    last = merged([sorted(layer, key=is_whiteout) for layer in told])
    assert shown(first) == shown(last) == shown(found)


def plan(text: str) -> list[Member]:
    members = []
    for line in text.split("\n"):
        name, _, target = line[1:].partition("\t")
        kind = KINDS.get(line[:1], "")
        if kind and "\0" not in line:
            members.append(Member(name, kind, 0, target))
    return members


def is_whiteout(member: Member) -> bool:
    return member.name.rstrip("/").rpartition("/")[2].startswith(".wh.")


def merged(told: Iterable[Iterable[Member]]) -> EntryTree:
    builder = TreeBuilder()
    for layer in told:
        builder.apply(columns_of(layer))
    return builder.tree()


def columns_of(members: Iterable[Member]) -> LayerTable:
    columns = Columns(LIMITS.max_table_bytes)
    for member in members:
        columns.add(member, 0, None)
    return columns.table("none", 0, "", array("I"), ())


def shown(tree: EntryTree) -> dict[bytes, str]:
    return {path: tree.attributes(node).kind for path, node in tree.walk()}


def check(tree: EntryTree) -> None:
    """Check that every path is below a directory, and none is outside the root or a whiteout."""
    kinds = shown(tree)
    assert kinds[b""] == "dir"
    for path, kind in kinds.items():
        assert kind in (*KINDS.values(), "block device")
        assert kind not in ("hardlink", "other")
        if path:
            above, _, name = path.rpartition(b"/")
            assert kinds[above] == "dir"
            assert name not in (b"", b".", b"..")
            assert not path.startswith(b"/")

"""The changes from one merged root to another, as docker diff lists them.

Changes are in the order of the trees. The directories above a change are changes themselves. A
removed directory is one change, and so is one that something of another type replaces; what is in
an added directory is listed. The root is never a change, nor is the time of a directory. Content is
compared by the checksums of the tables, so that no layer is read.
"""

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

import msgspec

from engine.filetree.entry import same_time
from engine.filetree.entry_tree import ROOT, EntryTree
from engine.layers.table import Entry

Kind = Literal["added", "changed", "deleted"]
_UNKNOWN: Final = -1


class RootChange(msgspec.Struct, frozen=True):
    """A change of the entry at `path`.

    `type` is that of the entry, of the earlier one if it was deleted. Sizes are those of files in
    bytes, 0 for entries of other types; a deleted directory has that of all files below it.
    `differs` names what has changed: "type", "mode", "owner", "device", "link", "time", "size",
    "content" or "xattrs"; it is empty for a directory that only contains changes.
    """

    path: bytes
    kind: Kind
    type: str
    size_before: int
    size: int
    differs: tuple[str, ...] = ()


def root_diff(before: EntryTree, after: EntryTree) -> Iterator[RootChange]:
    """Yield the changes from one root to another."""
    differ = _Differ(before, after)
    waiting = [_Pair(b"", b"", ROOT, ROOT)]
    while waiting:
        pair = waiting.pop()
        yield from differ.changes(pair)
        waiting += differ.below(pair)[::-1]


class _Pair(NamedTuple):
    """The nodes of one path in the earlier and the later tree; `_UNKNOWN` is none.

    The pairs of a directory share `above`, its path with a slash behind it.
    """

    above: bytes
    name: bytes
    old: int
    new: int

    @property
    def path(self) -> bytes:
        return self.above + self.name


class _Differ:
    def __init__(self, before: EntryTree, after: EntryTree) -> None:
        self._before = before
        self._after = after
        self._reported: list[bytes] = []
        """The directories above the last change that were reported, the root left out."""

    def below(self, pair: _Pair) -> list[_Pair]:
        """Return what is to be compared in a directory, in order."""
        _, _, old, new = pair
        if new == _UNKNOWN or self._after.attributes(new).kind != "dir":
            return []
        above = pair.path + b"/" if pair.name else b""
        nodes = {self._after.name(child): (_UNKNOWN, child) for child in self._after.children(new)}
        earlier = self._before.children(old) if old != _UNKNOWN else ()
        for child in earlier:
            name = self._before.name(child)
            nodes[name] = (child, nodes.get(name, (_UNKNOWN, _UNKNOWN))[1])
        return [_Pair(above, name, *nodes[name]) for name in sorted(nodes)]

    def changes(self, pair: _Pair) -> Iterator[RootChange]:
        """Yield the change of one path, if there is one, behind those of its directories."""
        _, name, old, new = pair
        if not name:
            return
        if old == _UNKNOWN:
            yield from self._report(self._added(pair.path, new))
        elif new == _UNKNOWN:
            yield from self._report(self._deleted(pair.path, old))
        elif differs := self._differs(old, new):
            yield from self._report(self._changed(pair.path, old, new, differs))

    def _report(self, change: RootChange) -> Iterator[RootChange]:
        reported = self._reported
        while reported and not change.path.startswith(reported[-1] + b"/"):
            reported.pop()
        start = len(reported[-1]) + 1 if reported else 0
        while (end := change.path.find(b"/", start)) != -1:
            above, start = change.path[:end], end + 1
            reported.append(above)
            yield RootChange(above, "changed", "dir", 0, 0)
        yield change
        if change.type == "dir":
            reported.append(change.path)

    def _added(self, path: bytes, new: int) -> RootChange:
        entry = self._after.entry(new)
        return RootChange(path, "added", entry.attributes.kind, 0, _size(entry))

    def _deleted(self, path: bytes, old: int) -> RootChange:
        tree = self._before
        size = sum(_size(tree.entry(node)) for _, node in tree.walk(path, old))
        return RootChange(path, "deleted", tree.attributes(old).kind, size, 0)

    def _changed(self, path: bytes, old: int, new: int, differs: tuple[str, ...]) -> RootChange:
        before, after = self._before.entry(old), self._after.entry(new)
        kind = after.attributes.kind
        return RootChange(path, "changed", kind, _size(before), _size(after), differs)

    def _differs(self, old: int, new: int) -> tuple[str, ...]:
        before, after = self._before.entry(old), self._after.entry(new)
        if before == after:
            return ()
        one, other = before.attributes, after.attributes
        if one.kind != other.kind:
            return ("type",)
        is_file = one.kind == "file"
        found = {
            "mode": one.mode != other.mode and one.kind != "symlink",
            "owner": (one.uid, one.gid) != (other.uid, other.gid),
            "device": one.device != other.device,
            "link": before.link != after.link,
            "time": one.kind != "dir" and not same_time(before.mtime_ns, after.mtime_ns),
            "size": is_file and before.size != after.size,
            "content": is_file and before.checksum != after.checksum,
            "xattrs": one.xattrs != other.xattrs,
        }
        return tuple(name for name, has_changed in found.items() if has_changed)


def _size(entry: Entry) -> int:
    return entry.size if entry.attributes.kind == "file" else 0

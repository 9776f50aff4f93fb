"""The differences between two trees, following containerd's differ.

Changes are in the order of the trees. The parent directories of a changed entry precede it, changed
or not; the root is never included. A removed directory is reported without its content. If one hard
link of a group has changed, the whole group is reported: the first changed one with its bytes, the
others as links to it. A group of links that was joined or separated has changed even if the bytes
have not.

Two times are equal if they agree to the nanosecond, or if their seconds agree and one of them has
no fraction, as in the layers of most tools. Files of equal size whose times agree including a
fraction are unchanged; with whole seconds their bytes are compared. Modes of symlinks are ignored.
"""

import os
from collections.abc import Iterable, Iterator

from engine.commit.change import Change
from engine.compression.checksum import FileChecksum, library
from engine.filetree.directory import reading
from engine.filetree.entry import FileEntry, HostFile, LayerSpan, same_time
from engine.filetree.tree import Tree, order
from engine.limits import BUFFER_SIZE
from engine.units import NS_PER_SECOND


def diff(parent: Tree, current: Tree) -> Iterator[Change]:
    """Yield the changes from `parent` to `current`; raise ChangedFile if a file changes."""
    return _Differ(parent, current).changes()


def kept_xattrs(entry: FileEntry) -> dict[str, bytes]:
    """Return the extended attributes that layers carry: capabilities and `user.*`."""
    return {
        name: value
        for name, value in entry.xattrs.items()
        if name == "security.capability"
        or (name.startswith("user.") and not name.startswith("user.overlay."))
    }


class _Differ:
    def __init__(self, parent: Tree, current: Tree) -> None:
        self._parent = parent
        self._current = current
        self._is_linked = current.links()
        self._relinked = {
            *_scattered(parent.links().values(), current),
            *_scattered(self._is_linked.values(), parent),
        }
        self._reported: set[str] = {""}
        self._sources: dict[int, str] = {}
        self._waiting: dict[int, list[str]] = {}
        self._same_bytes: dict[int, bool] = {}

    def changes(self) -> Iterator[Change]:
        paths = {path for path, _ in self._current.items()} | {p for p, _ in self._parent.items()}
        removed = ""
        for path in sorted(paths, key=order):
            entry = self._current.get(path)
            if not path or (removed and path.startswith(removed)):
                continue
            if entry is not None:
                yield from self._present(path, entry)
            else:
                removed = f"{path}/"
                if self._may_hide(path):
                    yield from self._parents(path)
                    yield Change(path, None)

    def _may_hide(self, path: str) -> bool:
        """Return whether the removed path is in a directory that remains; otherwise its parent
        hides it.
        """
        above = os.path.dirname(path)
        return not above or self._current[above].kind == "dir"

    def _present(self, path: str, entry: FileEntry) -> Iterator[Change]:
        same = self._is_same(path, entry)
        if entry.kind != "dir" and entry.inode in self._is_linked:
            source = self._sources.get(entry.inode)
            if source is not None:
                yield from self._report(path, entry, source)
            elif same:
                self._waiting.setdefault(entry.inode, []).append(path)
            else:
                self._sources[entry.inode] = path
                yield from self._report(path, entry)
                for other in self._waiting.pop(entry.inode, ()):
                    yield from self._report(other, entry, path)
        elif not same:
            yield from self._report(path, entry)

    def _report(self, path: str, entry: FileEntry, link: str = "") -> Iterator[Change]:
        if path not in self._reported:
            yield from self._parents(path)
            self._reported.add(path)
            yield Change(path, entry, link)

    def _parents(self, path: str) -> Iterator[Change]:
        """Yield the directories above a path that were not reported, the uppermost first."""
        waiting = []
        while (path := os.path.dirname(path)) not in self._reported:
            waiting.append(path)
        for above in reversed(waiting):
            self._reported.add(above)
            yield Change(above, self._current[above])

    def _is_same(self, path: str, entry: FileEntry) -> bool:
        before = self._parent.get(path)
        return (
            before is not None
            and path not in self._relinked
            and _same_metadata(before, entry)
            and self._same_content(before, entry)
        )

    def _same_content(self, before: FileEntry, entry: FileEntry) -> bool:
        """Return whether a file has the same bytes.

        The bytes of a group of hard links are compared once, since they were links of one file
        before.
        """
        if entry.inode not in self._is_linked:
            return _same_content(before, entry)
        if entry.inode not in self._same_bytes:
            self._same_bytes[entry.inode] = _same_content(before, entry)
        return self._same_bytes[entry.inode]


def _scattered(groups: Iterable[list[str]], other: Tree) -> Iterator[str]:
    """Yield the paths of those groups of hard links that are not one file in the other tree."""
    for group in groups:
        if len({entry.inode or path for path in group if (entry := other.get(path))}) > 1:
            yield from group


def _same_metadata(before: FileEntry, after: FileEntry) -> bool:
    return (
        before.kind == after.kind
        and (before.mode == after.mode or before.kind == "symlink")
        and (before.uid, before.gid) == (after.uid, after.gid)
        and before.size == after.size
        and before.linkname == after.linkname
        and before.device == after.device
        and same_time(before.mtime_ns, after.mtime_ns)
        and (before.xattrs == after.xattrs or kept_xattrs(before) == kept_xattrs(after))
    )


def _same_content(before: FileEntry, after: FileEntry) -> bool:
    """Return whether files of equal size and time have the same bytes."""
    if before.kind != "file" or before.content == after.content:
        return True
    if before.mtime_ns == after.mtime_ns and after.mtime_ns % NS_PER_SECOND:
        return True
    return checksum_of(before) == checksum_of(after)


def checksum_of(entry: FileEntry) -> int:
    """Return the checksum of a file's bytes, 0 if it is empty, reading them if necessary."""
    if isinstance(entry.content, LayerSpan):
        return entry.content.checksum
    if not isinstance(entry.content, HostFile) or not entry.size:
        return 0
    checksum = FileChecksum(library(entry.size))
    with reading(entry) as descriptor:
        while data := os.read(descriptor, BUFFER_SIZE):
            checksum.update(data)
    return checksum.value

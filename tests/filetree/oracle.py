"""Merge layers into one root file system, path by path: what `tree_builder` is compared with.

The rules are those of the OCI image-spec and of umoci. Names are resolved inside the root and never
leave it: `..` stops there, and symlinks among the directories of a name are followed inside. A
whiteout or an opaque marker hides entries of lower layers but not of its own layer, wherever it
stands in the layer. An entry that replaces one of another type removes it with everything below; a
directory that a later layer repeats keeps its children. Directories that no layer lists belong to
root with mode 0755.
"""

from collections.abc import Iterable, Iterator
from posixpath import normpath

import msgspec

from engine.errors import BrokenArchive, LimitExceeded
from engine.filetree.entry import NO_XATTRS, FileEntry, LayerSpan
from engine.filetree.tree import Tree
from engine.limits import Limits
from engine.tar.member import Member
from engine.tar.reader import MemberStart, TarReader

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"

_OVERLAY = ("trusted.overlay.", "user.overlay.")
_MAX_LINKS = 255
_MAX_WALKED = 16 << 30
_MAX_DEVICE = (1 << 32) - 1
_ENTRY_BYTES = 600


class LayerFile(msgspec.Struct, frozen=True, gc=False):
    """A member of a layer; `content` locates the bytes of a regular file."""

    member: Member
    content: LayerSpan | None


def read_layer(data: bytes, layer: int) -> Iterator[LayerFile]:
    """Yield the members of layer number `layer` in order."""
    reader, index = TarReader(Limits()), 0
    for event in reader.feed(memoryview(data)):
        if isinstance(event, MemberStart):
            is_file = event.member.kind == "file"
            yield LayerFile(event.member, LayerSpan(layer, index, 0) if is_file else None)
            index += 1


class Applier:
    """A root file system and the layers applied to it so far; for one thread at a time.

    Within a layer, `_listed` are the paths of its own entries and their parent directories, and
    `_cleared` are the directories from which all other entries have been removed.
    """

    def __init__(self, max_bytes: int = 1 << 30) -> None:
        """`max_bytes` limits the memory of the index, approximately; LimitExceeded beyond it."""
        self._max_bytes = max_bytes
        self._bytes = 0
        self._inodes = 0
        self._entries: dict[str, FileEntry] = {}
        self._names: dict[str, set[str]] = {}
        self._walked = 0
        self._listed: set[str] = set()
        self._cleared: set[str] = set()
        self._put("", self._implicit())

    def apply(self, layer: Iterable[LayerFile]) -> None:
        """Apply the next layer.

        Raise BrokenArchive, which names the member at fault, or LimitExceeded; the root cannot be
        used after that.
        """
        self._listed = set()
        self._cleared = set()
        for file in layer:
            self._take(file)

    def tree(self) -> Tree:
        """Return the root in its current state."""
        return Tree(self._entries)

    # -- one member -------------------------------------------------------------------------------

    def _take(self, file: LayerFile) -> None:
        member = file.member
        above, _, name = _clean(member.name).rpartition("/")
        if name == OPAQUE:
            self._hide_below(self._resolved(above, member))
        elif name.startswith(WHITEOUT):
            hidden = name.removeprefix(WHITEOUT)
            if hidden in ("", ".", ".."):
                raise BrokenArchive(member.name, "is a whiteout of no name")
            self._hide(_join(self._resolved(above, member), hidden))
        elif name:
            directory = self._resolved(above, member)
            self._make_directories(directory)
            self._place(_join(directory, name), file)
        elif member.kind == "dir":
            self._place("", file)

    def _place(self, path: str, file: LayerFile) -> None:
        before = self._entries.get(path)
        if file.member.kind == "dir" and before is not None and before.kind == "dir":
            entry = _entry(file, before.inode)
        elif file.member.kind == "hardlink":
            self._remove(path)
            entry = self._target(file.member)
        else:
            self._remove(path)
            entry = _entry(file, self._next_inode())
        self._put(path, entry)
        while path not in self._listed:
            self._listed.add(path)
            path = path.rpartition("/")[0]

    def _target(self, member: Member) -> FileEntry:
        """Return the target of a hard link; a symlink at the end of its path is not followed."""
        above, _, name = _clean(member.linkname).rpartition("/")
        target = self._entries.get(_join(self._resolved(above, member), name))
        if target is None:
            raise BrokenArchive(
                member.name, f"is a hard link of what is not there: {member.linkname}"
            )
        if target.kind == "dir":
            raise BrokenArchive(member.name, f"is a hard link of a directory: {member.linkname}")
        return target

    def _hide(self, path: str) -> None:
        """Remove the entries of lower layers at and below `path`."""
        if path in self._listed:
            self._hide_below(path)
        else:
            self._remove(path)

    def _hide_below(self, path: str) -> None:
        waiting = [path]
        while waiting:
            directory = waiting.pop()
            if directory in self._cleared:
                continue
            self._cleared.add(directory)
            for name in tuple(self._names.get(directory, ())):
                below = _join(directory, name)
                if below in self._listed:
                    waiting.append(below)
                else:
                    self._remove(below)

    # -- paths ------------------------------------------------------------------------------------

    def _resolved(self, path: str, member: Member) -> str:
        """Return the path inside the root, symlinks followed; keep the part that does not exist."""
        found = self._entries.get(path)
        if found is not None and found.kind == "dir":
            return path
        here, links = "", 0
        waiting = path.split("/")[::-1]
        while waiting:
            self._walked += len(here) + 1
            name = waiting.pop()
            if name == "..":
                here = here.rpartition("/")[0]
                continue
            if name in ("", "."):
                continue
            found = self._entries.get(_join(here, name))
            if found is None or found.kind != "symlink":
                here = _join(here, name)
                continue
            links += 1
            if links > _MAX_LINKS:
                raise BrokenArchive(member.name, f"leads through more than {_MAX_LINKS} symlinks")
            if found.linkname.startswith("/"):
                here = ""
            waiting += found.linkname.split("/")[::-1]
        if self._walked > _MAX_WALKED:
            raise LimitExceeded(member.name, "bytes of paths walked", _MAX_WALKED, self._walked)
        return here

    def _make_directories(self, path: str) -> None:
        """Create the directory `path` and its parents, replacing entries of other types."""
        missing = []
        while (found := self._entries.get(path)) is None or found.kind != "dir":
            missing.append(path)
            path = path.rpartition("/")[0]
        for path in reversed(missing):
            self._remove(path)
            self._put(path, self._implicit())

    # -- the index --------------------------------------------------------------------------------

    def _next_inode(self) -> int:
        self._inodes += 1
        return self._inodes

    def _implicit(self) -> FileEntry:
        return FileEntry("dir", 0o755, inode=self._next_inode())

    def _put(self, path: str, entry: FileEntry) -> None:
        before = self._entries.get(path)
        if before is None:
            above, _, name = path.rpartition("/")
            if name:
                self._names.setdefault(above, set()).add(name)
        else:
            self._bytes -= _weight(path, before)
        self._bytes += _weight(path, entry)
        if self._bytes > self._max_bytes:
            raise LimitExceeded(path, "bytes of an index of files", self._max_bytes, self._bytes)
        self._entries[path] = entry

    def _remove(self, path: str) -> None:
        """Remove `path` and everything below it, if it exists."""
        if path not in self._entries:
            return
        above, _, name = path.rpartition("/")
        self._names[above].discard(name)
        waiting = [path]
        while waiting:
            path = waiting.pop()
            waiting += [_join(path, name) for name in self._names.pop(path, ())]
            self._bytes -= _weight(path, self._entries.pop(path))


def _clean(name: str) -> str:
    """Return a path in an archive relative to the root, without `.` and `..`."""
    return normpath(f"/{name}").lstrip("/")


def _join(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name


def _weight(path: str, entry: FileEntry) -> int:
    texts = len(path) + len(entry.linkname)
    return _ENTRY_BYTES + texts + sum(len(k) + len(v) for k, v in entry.xattrs.items())


def _entry(file: LayerFile, inode: int) -> FileEntry:
    member = file.member
    if member.kind == "other":
        raise BrokenArchive(member.name, "is of a type that layers do not have")
    if not all(0 <= number <= _MAX_DEVICE for number in member.device):
        raise BrokenArchive(member.name, f"has device numbers that no device has: {member.device}")
    xattrs = {k: v for k, v in member.xattrs.items() if not k.startswith(_OVERLAY)}
    return FileEntry(
        kind=member.kind,
        mode=member.mode & 0o7777,
        uid=member.uid,
        gid=member.gid,
        mtime_ns=member.mtime_ns,
        size=member.size if member.kind == "file" else 0,
        linkname=member.linkname if member.kind == "symlink" else "",
        device=member.device,
        xattrs=xattrs or NO_XATTRS,
        inode=inode,
        content=file.content,
    )

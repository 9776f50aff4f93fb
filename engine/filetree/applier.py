"""Layers, put one upon the other: the root that they make together, without their files' bytes.

As the OCI image-spec says it and umoci does it. Names are taken below the root and never leave it:
`..` ends there, and symlinks among a name's directories lead on inside. A whiteout or an opaque
marker hides what lower layers have and spares its own layer's entries, wherever in the layer it
stands. What replaces something of another type removes that with all that is below it; a directory
that is told again keeps what is in it. Directories that nobody told belong to root, mode 0755.
"""

from collections.abc import Iterable
from posixpath import normpath

from engine.errors import BrokenArchive, LimitExceeded
from engine.filetree.entry import NO_XATTRS, FileEntry
from engine.filetree.layer_files import LayerFile
from engine.filetree.tree import Tree
from engine.tar.member import Member

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"

_OVERLAY = ("trusted.overlay.", "user.overlay.")
_MAX_LINKS = 255
_MAX_WALKED = 16 << 30
_MAX_DEVICE = (1 << 32) - 1
_ENTRY_BYTES = 600


class Applier:
    """A root and the layers so far applied to it; for one thread at a time.

    Of what it tells apart within a layer: `_told` are the layer's own paths with the directories
    that they are in, `_cleared` the directories below which there is nothing else any more.
    """

    def __init__(self, max_bytes: int = 1 << 30) -> None:
        """`max_bytes` is what the index may take of memory, roughly, beyond it is LimitExceeded."""
        self._max_bytes = max_bytes
        self._bytes = 0
        self._inodes = 0
        self._entries: dict[str, FileEntry] = {}
        self._names: dict[str, set[str]] = {}
        self._walked = 0
        self._told: set[str] = set()
        self._cleared: set[str] = set()
        self._put("", self._implicit())

    def apply(self, layer: Iterable[LayerFile]) -> None:
        """Put the next layer upon the others.

        BrokenArchive names the member at fault; LimitExceeded. After an error the root is of no
        use.
        """
        self._told = set()
        self._cleared = set()
        for file in layer:
            self._take(file)

    def tree(self) -> Tree:
        """The root as it is now."""
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
        while path not in self._told:
            self._told.add(path)
            path = path.rpartition("/")[0]

    def _target(self, member: Member) -> FileEntry:
        """What a hard link is a link of: a symlink at the end of its path is meant itself."""
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
        """Remove what lower layers have at and below `path`."""
        if path in self._told:
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
                if below in self._told:
                    waiting.append(below)
                else:
                    self._remove(below)

    # -- paths ------------------------------------------------------------------------------------

    def _resolved(self, path: str, member: Member) -> str:
        """Where a path leads inside of the root; from what is not there on it is taken as it is."""
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
        """Make of `path` a directory, in the place of whatever else is on the way."""
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
        """Remove `path` and all that is below it, if it is there."""
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
    """A path in an archive as one below the root, without `.` and `..`."""
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

"""Trees of files for properties: made in memory of few names, times and contents, so that what
differs in one thing only comes up often.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import msgspec
from hypothesis import strategies as st

from engine.filetree.directory import scan
from engine.filetree.entry import NO_XATTRS, FileEntry
from engine.filetree.tree import Tree

SECOND = 10**9
NAMES = ("a", "b", "a.b", "a\n", "-", "\udcff", "é", "wh.=" * 30)
NEAR = tuple(int(seconds * SECOND) for seconds in (5, 5.125, 5.5))
FAR = tuple(int(seconds * SECOND) for seconds in (6.5, 0, -0.5, -1, -1.25, 2**33 + 0.5))
BODIES = ("one", "two", "longer", "")
XATTRS = (NO_XATTRS, {"user.a=%": b"\0="}, {"user.a": b"b"}, {"trusted.a": b"b"})
KINDS = ("file", "file", "file", "dir", "symlink", "fifo", "character device")
ACTIONS = ("make", "make", "change", "change", "link", "link", "join", "split", "rename", "remove")


@dataclass(frozen=True)
class Bodies:
    """Real files that entries in memory have their bytes from: two of each, parents have one."""

    of_parent: Mapping[str, FileEntry]
    of_current: Mapping[str, FileEntry]

    @classmethod
    def at(cls, directory: Path) -> "Bodies":
        for copy in ("parent", "current"):
            (directory / copy).mkdir()
            for number, body in enumerate(BODIES):
                (directory / copy / str(number)).write_text(body)
        tree = scan(directory)
        made = (
            {body: tree[f"{copy}/{number}"] for number, body in enumerate(BODIES)}
            for copy in ("parent", "current")
        )
        return cls(*made)

    def parent(self, tree: Tree) -> Tree:
        """The same tree with the parents' copies of the bytes."""
        return Tree({path: self._moved(entry) for path, entry in tree.items()})

    def _moved(self, entry: FileEntry) -> FileEntry:
        for body, ours in self.of_current.items():
            if entry.kind == "file" and entry.content == ours.content:
                return msgspec.structs.replace(entry, content=self.of_parent[body].content)
        return entry


@dataclass(frozen=True)
class Model:
    """A tree that can be changed; a change that makes no sense is left undone."""

    bodies: Mapping[str, FileEntry]
    entries: dict[str, FileEntry] = field(default_factory=lambda: {"": FileEntry("dir", inode=1)})
    inodes: Iterator[int] = field(default_factory=lambda: count(2))

    @classmethod
    def seeded(cls, bodies: Mapping[str, FileEntry]) -> "Model":
        """One that has a bit of everything, and files that differ in one thing only."""
        model = cls(bodies)
        at = {"mtime_ns": NEAR[1]}
        for path, kind, body in (
            ("a/a", "file", "one"),
            ("a/b/a", "file", "one"),
            ("a/b/b", "file", "two"),
            ("a/-", "symlink", "one"),
            ("b/a", "file", "longer"),
            ("b/fifo", "fifo", ""),
            ("null", "character device", "one"),
        ):
            model.make(path, kind, at, body)
        model.link("a/b/c", "a/a")
        model.link("-", "a/a")
        model.link("b/-", "a/-")
        return model

    def copy(self) -> "Model":
        return Model(self.bodies, dict(self.entries), self.inodes)

    def tree(self) -> Tree:
        return Tree(self.entries)

    def remove(self, path: str) -> dict[str, FileEntry]:
        """Remove a path and everything below it; return the entries by their paths relative
        to it.
        """
        gone = [p for p in self.entries if p == path or p.startswith(f"{path}/")]
        return {p[len(path) :]: self.entries.pop(p) for p in gone}

    def put(self, path: str, below: Mapping[str, FileEntry]) -> None:
        """Put something there, in the place of what was and of what is no directory above."""
        above = path.rpartition("/")[0]
        if above not in self.entries or self.entries[above].kind != "dir":
            self.put(above, {"": FileEntry("dir", 0o755, inode=next(self.inodes))})
        self.remove(path)
        self.entries.update({f"{path}{rest}": entry for rest, entry in below.items()})

    def make(self, path: str, kind: str, fields: Mapping[str, object], body: str) -> None:
        self.put(path, {"": self.entry(kind, fields, body)})

    def entry(self, kind: str, fields: Mapping[str, object], body: str) -> FileEntry:
        made = self._with_body(FileEntry(kind, inode=next(self.inodes)), body)
        return msgspec.structs.replace(made, **fields)

    def change(self, path: str, fields: Mapping[str, object], body: str | None) -> None:
        """Change an entry, at all of its paths; what is in it too if there is a `body`."""
        before = self.entries[path]
        after = before if body is None else self._with_body(before, body)
        after = msgspec.structs.replace(after, **fields)
        for other, entry in self.entries.items():
            if entry.inode == before.inode:
                self.entries[other] = after

    def link(self, path: str, other: str) -> None:
        entry = self.entries[other]
        if entry.kind != "dir" and not _nested(path, other):
            self.put(path, {"": entry})

    def join(self, path: str, other: str) -> None:
        """Make one file of two that are the same in all else, but maybe for the bytes."""
        before, entry = self.entries[path], self.entries[other]
        if "dir" not in (before.kind, entry.kind):
            self.entries[path] = entry

    def split(self, path: str) -> None:
        """Make a link a file of its own that is the same in all else."""
        entry = self.entries[path]
        if entry.kind != "dir":
            self.entries[path] = msgspec.structs.replace(entry, inode=next(self.inodes))

    def rename(self, path: str, other: str) -> None:
        if not _nested(path, other):
            self.put(other, self.remove(path))

    def _with_body(self, entry: FileEntry, body: str) -> FileEntry:
        found = self.bodies[body]
        told: dict[str, dict[str, object]] = {
            "file": {"size": found.size, "content": found.content},
            "symlink": {"linkname": f"a/{body}"},
            "character device": {"device": (1, len(body))},
        }
        return msgspec.structs.replace(entry, **told.get(entry.kind, {}))


def _nested(path: str, other: str) -> bool:
    return f"{other}/".startswith(f"{path}/") or f"{path}/".startswith(f"{other}/")


@dataclass(frozen=True)
class Step:
    """One thing to do to a model: `old` and `other` count among its paths, `name` may be ""."""

    action: str
    old: int
    other: int
    name: str
    kind: str
    fields: Mapping[str, object]
    body: str | None

    def __call__(self, model: Model) -> None:
        paths = sorted(model.entries)
        old, other = paths[self.old % len(paths)], paths[self.other % len(paths)]
        new = f"{other}/{self.name}".strip("/")
        if not new or (not old and self.action != "make"):
            return
        match self.action:
            case "make":
                model.make(new, self.kind, self.fields, self.body or "")
            case "change":
                model.change(old, self.fields, self.body)
            case "link":
                model.link(new, old)
            case "join":
                model.join(old, other)
            case "split":
                model.split(old)
            case "rename":
                model.rename(old, new)
            case "remove":
                model.remove(old)


_VALUES: Mapping[str, tuple[object, ...]] = {
    "mtime_ns": (*NEAR, *NEAR, *FAR),
    "mode": (0o644, 0o4755),
    "uid": (0, 2**21),
    "xattrs": XATTRS,
}
_FIELD = st.sampled_from([(name, value) for name, found in _VALUES.items() for value in found])
_FIELDS: st.SearchStrategy[dict[str, object]] = st.just({}) | st.lists(
    _FIELD, min_size=1, max_size=2
).map(dict)


def steps(actions: Iterable[str] = ACTIONS) -> st.SearchStrategy[list[Step]]:
    """Generate sequences of changes to a tree."""
    number = st.sampled_from(range(24))
    step = st.builds(
        Step,
        st.sampled_from(tuple(actions)),
        number,
        number,
        st.sampled_from(("", "", *NAMES)),
        st.sampled_from(KINDS),
        _FIELDS,
        st.sampled_from((None, *BODIES)),
    )
    return st.lists(step, min_size=1, max_size=8)

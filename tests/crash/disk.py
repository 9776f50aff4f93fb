"""A model of a disk: the changes that system calls made, and what remains of them after a power
failure.

A file or directory is an inode with a number. Data is durable after fsync of its file, and a name
after fsync of its directory. Until then each change may independently be lost, complete, partial,
or zeros of its length. A rename is durable with either directory, and may leave the old name too.
"""

import random
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import count
from pathlib import Path

ROOT = 0


@dataclass
class Disk:
    """Inodes and their content; everything is below the directory `ROOT`."""

    files: dict[int, bytearray] = field(default_factory=dict)
    directories: dict[int, dict[str, int]] = field(default_factory=lambda: {ROOT: {}})
    modes: dict[int, int] = field(default_factory=dict)

    def files_below(self, inode: int = ROOT, path: str = "") -> Iterator[tuple[str, int]]:
        """Yield the path and inode of everything that has a name, parents first."""
        for name, child in sorted(self.directories[inode].items()):
            yield f"{path}{name}", child
            if child in self.directories:
                yield from self.files_below(child, f"{path}{name}/")

    def write_out(self, root: Path) -> None:
        """Create the directories and files below `root`."""
        root.mkdir()
        for path, inode in self.files_below():
            if inode in self.directories:
                (root / path).mkdir(mode=0o700)
            else:
                (root / path).write_bytes(self.files[inode])
                (root / path).chmod(self.modes[inode])

    def fingerprint(self) -> bytes:
        hashed = sha256()
        for path, inode in self.files_below():
            data = self.files.get(inode, b"directory")
            hashed.update(f"{path}\n{self.modes.get(inode)}\n{len(data)}\n".encode())
            hashed.update(data)
        return hashed.digest()


@dataclass(frozen=True)
class Write:
    inode: int
    offset: int
    data: bytes

    @property
    def syncs(self) -> frozenset[int]:
        return frozenset({self.inode})

    def apply(self, disk: Disk) -> None:
        content = disk.files[self.inode]
        content.extend(bytes(max(0, self.offset - len(content))))
        content[self.offset : self.offset + len(self.data)] = self.data


@dataclass(frozen=True)
class Truncate:
    inode: int
    size: int

    @property
    def syncs(self) -> frozenset[int]:
        return frozenset({self.inode})

    def apply(self, disk: Disk) -> None:
        content = disk.files[self.inode]
        del content[self.size :]
        content.extend(bytes(self.size - len(content)))


@dataclass(frozen=True)
class Chmod:
    inode: int
    mode: int

    @property
    def syncs(self) -> frozenset[int]:
        return frozenset({self.inode})

    def apply(self, disk: Disk) -> None:
        disk.modes[self.inode] = self.mode


@dataclass(frozen=True)
class Link:
    """A new file or directory gets a name."""

    directory: int
    name: str
    inode: int

    @property
    def syncs(self) -> frozenset[int]:
        return frozenset({self.directory})

    def apply(self, disk: Disk) -> None:
        disk.directories[self.directory][self.name] = self.inode


@dataclass(frozen=True)
class Remove:
    directory: int
    name: str
    inode: int

    @property
    def syncs(self) -> frozenset[int]:
        return frozenset({self.directory})

    def apply(self, disk: Disk) -> None:
        if disk.directories[self.directory].get(self.name) == self.inode:
            del disk.directories[self.directory][self.name]


@dataclass(frozen=True)
class Rename:
    old: Remove
    new: Link

    @property
    def syncs(self) -> frozenset[int]:
        return self.old.syncs | self.new.syncs

    def apply(self, disk: Disk) -> None:
        self.old.apply(disk)
        self.new.apply(disk)


@dataclass(frozen=True)
class Sync:
    """The content of a file, or the names in a directory, become durable."""

    inode: int


DataChange = Write | Truncate | Chmod
NameChange = Link | Remove | Rename
Change = DataChange | NameChange
Step = Change | Sync


class Journal:
    """The steps of a command, and the states that a power failure can leave."""

    def __init__(self, before: Disk) -> None:
        """Start with the disk `before`, all of which is durable."""
        self._before = before
        self._numbers = count(1 + max((ROOT, *before.files, *before.directories)))
        self.now = deepcopy(before)
        self.steps: list[Step] = []

    def add(self, step: Step) -> None:
        if not isinstance(step, Sync):
            step.apply(self.now)
        self.steps.append(step)

    def new_file(self, mode: int) -> int:
        """Return the number of a new file without a name; it is on the disk only once it is
        named.
        """
        inode = next(self._numbers)
        for disk in (self.now, self._before):
            disk.files[inode] = bytearray()
            disk.modes[inode] = mode
        return inode

    def new_directory(self) -> int:
        inode = next(self._numbers)
        for disk in (self.now, self._before):
            disk.directories[inode] = {}
        return inode

    def moments(self) -> list[int]:
        """Return the moments with most to lose: just before each sync, and at the end."""
        syncs = [i for i, step in enumerate(self.steps) if isinstance(step, Sync)]
        return [*syncs, len(self.steps)]

    def states(
        self, moment: int, chance: random.Random, drawn: int
    ) -> Iterator[Mapping[int, Change]]:
        """Yield the sets of changes, by number, that may remain if the power fails before step
        `moment`: the simple cases, then `drawn` random ones.
        """
        durable, pending = self._split(moment)
        for kept in _variants(pending):
            yield {**durable, **kept}
        for _ in range(drawn):
            share = chance.random()
            kept = {i: step for i, step in pending.items() if chance.random() < share}
            for i, step in list(kept.items()):
                if isinstance(step, Write) and chance.random() < 0.2:
                    kept[i] = _torn(step)
            yield {**durable, **kept}

    def disk(self, changes: Mapping[int, Change]) -> Disk:
        """Return the disk after these changes."""
        disk = deepcopy(self._before)
        for number in sorted(changes):
            changes[number].apply(disk)
        return disk

    def _split(self, moment: int) -> tuple[dict[int, Change], dict[int, Change]]:
        """Return the changes that are durable at that moment, and those that are not."""
        durable: dict[int, Change] = {}
        pending: dict[int, Change] = {}
        for i, step in enumerate(self.steps[:moment]):
            if not isinstance(step, Sync):
                pending[i] = step
                continue
            for j in [j for j, change in pending.items() if step.inode in change.syncs]:
                durable[j] = pending.pop(j)
        return durable, pending


def _variants(pending: Mapping[int, Change]) -> Iterator[Mapping[int, Change]]:
    names: dict[int, Change] = {i: s for i, s in pending.items() if isinstance(s, NameChange)}
    data: dict[int, Change] = {i: s for i, s in pending.items() if not isinstance(s, NameChange)}
    order = sorted(pending)
    half = {i: pending[i] for i in order[: len(order) // 2]}
    writes = [i for i in order if isinstance(pending[i], Write)]
    yield {}
    yield pending
    yield names
    yield data
    yield half
    yield {**pending, **{i: _torn(pending[i]) for i in writes[-1:]}}
    yield {**names, **{i: _zeros(pending[i]) for i in data}}
    yield {**pending, **{i: s.new for i, s in pending.items() if isinstance(s, Rename)}}


def _torn(step: Change) -> Change:
    assert isinstance(step, Write)
    return replace(step, data=step.data[: len(step.data) // 2])


def _zeros(step: Change) -> Change:
    return replace(step, data=bytes(len(step.data))) if isinstance(step, Write) else step


def disk_of(root: Path) -> Disk:
    """Return a directory as a disk."""
    disk = Disk()
    inodes = {root: ROOT}
    for number, path in enumerate(sorted(root.rglob("*")), 1):
        inodes[path] = number
        if path.is_dir():
            disk.directories[number] = {}
        else:
            disk.files[number] = bytearray(path.read_bytes())
            disk.modes[number] = path.stat().st_mode & 0o7777
        disk.directories[inodes[path.parent]][path.name] = number
    return disk

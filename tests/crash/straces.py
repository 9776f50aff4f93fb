"""Commands under strace: every call that changes files, SQLite's included, is recorded, or the
command is killed before it.

An incomplete record would prove nothing. Therefore a call that is not understood is an error, and
the recorded changes must lead to the files that are there.
"""

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from tests.crash.disk import (
    ROOT,
    Chmod,
    Journal,
    Link,
    Remove,
    Rename,
    Sync,
    Truncate,
    Write,
    disk_of,
)

_TRACED: Final = (
    *("open", "openat", "openat2", "creat", "close", "lseek", "dup", "dup2", "dup3"),
    *("write", "pwrite64", "writev", "pwritev", "pwritev2", "ftruncate", "truncate", "fallocate"),
    *("rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat"),
    *("link", "linkat", "symlink", "symlinkat", "chmod", "fchmod", "fchmodat", "fsync"),
    *("fdatasync", "copy_file_range", "sendfile", "splice"),
)
_STRACE: Final = ("strace", "-f", "--seccomp-bpf", "-qq", "-e", "signal=none")
_UNFINISHED: Final = " <unfinished ...>"
_LINE: Final = re.compile(r"(\d+) +(?:<\.\.\. \w+ resumed>)?(.*)")
_CLOSE: Final = re.compile(r"close\((\d+)")
_CALL: Final = re.compile(r"(\w+)\((.*)\) += (-?\d+)")
_SHARED_MEMORY: Final = "imgfs.db-shm"
"""SQLite maps this file and never syncs it: its content is lost in a crash."""


@dataclass(frozen=True)
class Call:
    """A system call that has returned; `number` counts those of its name in its thread, from 1."""

    name: str
    arguments: tuple[str, ...]
    result: int
    number: int


@cache
def lacking() -> str:
    """Return what this machine lacks for strace, or None."""
    if not shutil.which("strace"):
        return "no strace"
    done = subprocess.run([*_STRACE, "-o", os.devnull, "true"], capture_output=True, check=False)
    return "strace may not trace here" if done.returncode else ""


@dataclass(frozen=True)
class Recording:
    """The changes of a command, and the calls that made them, by name and number."""

    journal: Journal
    moments: tuple[tuple[str, int], ...]


def record(command: Sequence[str], root: Path, log: Path) -> Recording:
    """Run a command that must succeed, and record its changes below `root`."""
    translator = _Translator(root)
    traced = ",".join(f"?{name}" for name in _TRACED)
    options = ("-xx", "-s", str(1 << 24), "-o", str(log), "-e", f"trace={traced}")
    subprocess.run([*_STRACE, *options, *command], check=True, stdout=subprocess.DEVNULL)
    moments = dict.fromkeys(
        (call.name, call.number) for call in _calls(log) if translator.changes(call)
    )
    assert translator.journal.now.fingerprint() == disk_of(root).fingerprint()
    return Recording(translator.journal, tuple(moments))


def kill(command: Sequence[str], call: str, number: int) -> int:
    """Kill a command before its call of that name and number; return its return code."""
    options = ("-o", os.devnull, "-e", f"trace={call}")
    inject = ("-e", f"inject={call}:signal=KILL:when={number}")
    done = subprocess.run(
        [*_STRACE, *options, *inject, *command], check=False, stdout=subprocess.DEVNULL
    )
    return done.returncode


def _calls(log: Path) -> Iterator[Call]:
    begun: dict[str, str] = {}
    numbers: Counter[tuple[str, str]] = Counter()
    for line in log.read_text("ascii").splitlines():
        match = _LINE.fullmatch(line)
        assert match, line
        thread, text = match.groups()
        text = begun.pop(thread, "") + text
        if text.endswith(_UNFINISHED):
            begun[thread] = text.removesuffix(_UNFINISHED)
            if match := _CLOSE.fullmatch(begun[thread]):  # another thread may have the number now
                begun[thread] = ""
                yield Call("close", match.groups(), 0, 0)
            continue
        if call := _CALL.match(text):
            name, arguments, result = call.groups()
            numbers[thread, name] += 1
            yield Call(name, tuple(arguments.split(", ")), int(result), numbers[thread, name])


class _Translator:
    """Translate calls into the steps of a journal."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._umask = os.umask(0)
        os.umask(self._umask)
        self.journal = Journal(disk_of(root))
        self._open: dict[int, int] = {}
        self._paths: dict[int, Path] = {}
        self._positions: dict[int, int] = {}

    def changes(self, call: Call) -> bool:
        """Add a call; return whether it changed or synced anything."""
        before = len(self.journal.steps)
        if call.result >= 0:
            self._translate(call)
        return len(self.journal.steps) > before

    def _translate(self, call: Call) -> None:
        is_about_paths = call.name not in ("write", "pwrite64")
        arguments = self._with_whole_paths(call.arguments) if is_about_paths else []
        match call.name:
            case "open" | "openat":
                self._open_file(arguments, call.result)
            case "close":
                self._open.pop(int(arguments[0]), None)
            case "lseek":
                self._positions[int(arguments[0])] = call.result
            case "write" | "pwrite64":
                self._write(call)
            case "copy_file_range":
                self._copy(call)
            case "ftruncate" if (inode := self._inode(arguments[0])) is not None:
                self.journal.add(Truncate(inode, int(arguments[1])))
            case "fallocate" if (inode := self._inode(arguments[0])) is not None:
                assert arguments[1:3] == ["0", "0"], call
                self.journal.add(Truncate(inode, int(arguments[3])))  # of a file that is empty
            case "fsync" | "fdatasync" if (inode := self._inode(arguments[0])) is not None:
                self.journal.add(Sync(inode))
            case "fchmod" if (inode := self._inode(arguments[0])) is not None:
                self.journal.add(Chmod(inode, int(arguments[1], 8)))
            case "chmod" | "fchmodat" if (found := self._find(Path(arguments[0]))) is not None:
                self.journal.add(Chmod(found, int(arguments[1], 8)))
            case "mkdir" | "mkdirat":
                self._link(Path(arguments[0]), self.journal.new_directory())
            case "unlink" | "unlinkat" | "rmdir":
                self._remove(Path(arguments[0]))
            case "rename" | "renameat" | "renameat2":
                self._rename(Path(arguments[0]), Path(arguments[1]))
            case (
                "ftruncate" | "fallocate" | "fsync" | "fdatasync" | "fchmod" | "chmod" | "fchmodat"
            ):
                pass
            case _:
                raise NotImplementedError(call)

    def _with_whole_paths(self, arguments: Sequence[str]) -> list[str]:
        """Return the arguments without descriptors of directories, and with absolute paths."""
        found: list[str] = []
        for argument in arguments:
            if argument.startswith('"') and arguments[0][0] != '"' and found:
                directory = found.pop()
                below = Path.cwd() if directory == "AT_FDCWD" else self._paths[int(directory)]
                found.append(str(below / os.fsdecode(_decoded(argument))))
            elif argument.startswith('"'):
                found.append(str(Path.cwd() / os.fsdecode(_decoded(argument))))
            else:
                found.append(argument)
        return found

    def _open_file(self, arguments: list[str], descriptor: int) -> None:
        self._open.pop(descriptor, None)
        path, flags = Path(arguments[0]), arguments[1].split("|")
        self._paths[descriptor] = path
        inode = self._find(path)
        if inode is None and "O_CREAT" in flags and self._is_ours(path):
            inode = self.journal.new_file(int(arguments[2], 8) & ~self._umask)
            self._link(path, inode)
        elif inode is not None and "O_TRUNC" in flags:
            self.journal.add(Truncate(inode, 0))
        if inode is not None:
            assert "O_APPEND" not in flags
            self._open[descriptor] = inode
            self._positions[descriptor] = 0

    def _write(self, call: Call) -> None:
        descriptor = int(call.arguments[0])
        inode = self._open.get(descriptor)
        if inode is None:
            return
        data = _decoded(call.arguments[1])[: call.result]
        assert len(data) == call.result
        if call.name == "pwrite64":
            offset = int(call.arguments[3])
        else:
            offset = self._positions[descriptor]
            self._positions[descriptor] += len(data)
        self.journal.add(Write(inode, offset, data))

    def _copy(self, call: Call) -> None:
        source, start, target, offset = (int(text.strip("[]")) for text in call.arguments[:4])
        inode = self._open.get(target)
        if inode is None:
            return
        data = self.journal.now.files[self._open[source]][start : start + call.result]
        assert len(data) == call.result
        self.journal.add(Write(inode, offset, bytes(data)))

    def _link(self, path: Path, inode: int) -> None:
        if self._is_ours(path):
            parent = self._find(path.parent)
            assert parent is not None
            self.journal.add(Link(parent, path.name, inode))

    def _remove(self, path: Path) -> None:
        if (inode := self._find(path)) is not None:
            self.journal.add(Remove(self._parent(path), path.name, inode))

    def _rename(self, old: Path, new: Path) -> None:
        inode = self._find(old)
        assert (inode is not None) == self._is_ours(new)
        if inode is not None:
            removed = Remove(self._parent(old), old.name, inode)
            self.journal.add(Rename(removed, Link(self._parent(new), new.name, inode)))

    def _inode(self, descriptor: str) -> int | None:
        return self._open.get(int(descriptor))

    def _is_ours(self, path: Path) -> bool:
        return path.is_relative_to(self._root) and path.name != _SHARED_MEMORY

    def _parent(self, path: Path) -> int:
        found = self._find(path.parent)
        assert found is not None
        return found

    def _find(self, path: Path) -> int | None:
        if not self._is_ours(path):
            return None
        inode: int | None = ROOT
        for part in path.relative_to(self._root).parts:
            names = self.journal.now.directories.get(inode) if inode is not None else None
            inode = names.get(part) if names else None
        return inode


def _decoded(argument: str) -> bytes:
    return bytes.fromhex(argument[1:-1].replace("\\x", ""))

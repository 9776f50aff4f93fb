"""Find out from /proc what a thread that waits for an answer has called."""

import os
import platform
import time
from pathlib import Path
from typing import Final

import msgspec

from imgfs.vfs.nodes import Call


class _Numbers(msgspec.Struct, frozen=True):
    """The numbers of system calls of a machine: those that make a directory, those that make a
    link, and those that open a file, with the word of /proc/THREAD/syscall that holds the flags.
    """

    mkdir: tuple[str, ...]
    link: tuple[str, ...]
    open: dict[str, int]


_GENERIC: Final = _Numbers(("34",), ("36", "37"), {"56": 3})
_NUMBERS: Final = {
    "x86_64": _Numbers(("83", "258"), ("86", "88", "265", "266"), {"2": 2, "257": 3}),
    "aarch64": _GENERIC,
    "riscv64": _GENERIC,
    "loongarch64": _GENERIC,
}.get(platform.machine())
_EXCLUSIVE: Final = os.O_CREAT | os.O_EXCL
_FALLING_ASLEEP: Final = 0.05
"""Seconds that a thread may take from its request to its sleep."""
_COPIERS: Final = frozenset({"cp", "mv", "install", "tar", "bsdtar"})
"""Programs that make files without looking for them first."""


def call_of(thread: int) -> Call:
    """Return what a thread has called, as far as that can be seen.

    The kernel does not let an ordinary user see the calls of other users (of any process that it
    has not started, with Yama's ptrace_scope), and shows the caller of another PID namespace as 0.
    The name of the program can be seen nevertheless.
    """
    words = _call(thread)
    if _NUMBERS is None or not words:
        is_copier = not _COPIERS.isdisjoint(_words(thread, "comm"))
        return Call.UNKNOWN_OF_COPIER if is_copier else Call.UNKNOWN
    if words[0] in _NUMBERS.mkdir:
        return Call.MAKE_DIRECTORY
    if words[0] in _NUMBERS.link:
        return Call.MAKE_FILE
    flags = _NUMBERS.open.get(words[0])
    if flags is None:
        return Call.OTHER
    return _opens(int(words[flags], 16))


def _call(thread: int) -> list[str]:
    """Return the words of /proc/THREAD/syscall, none if they cannot be seen.

    A thread whose request has just come may still be on its way to sleep, and is `running`.
    """
    deadline = time.monotonic() + _FALLING_ASLEEP
    while (words := _words(thread, "syscall")) == ["running"]:
        if time.monotonic() > deadline:
            return []
        os.sched_yield()
    return words


def _opens(flags: int) -> Call:
    if flags & _EXCLUSIVE == _EXCLUSIVE:
        return Call.MAKE_FILE
    return Call.OTHER if flags & os.O_ACCMODE == os.O_RDONLY else Call.WRITE_FILE


def _words(thread: int, file: str) -> list[str]:
    try:
        return Path(f"/proc/{thread}/{file}").read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return []

"""The part in C, without which imgfs does as well, only slower: `session.c` stands between libfuse
and the kernel, `passthrough.c`, `gather.c` and `listing.c` make use of it.
"""

import ctypes
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, cast

BACKED = 1 << 62
"""Marks the handle of a file that is read by passthrough; its subject is the backing ID."""
GATHERED = 1 << 61
"""Marks the handle of a file whose writes are gathered; its subject is the place."""
PLAIN = 1 << 60
"""Marks the handle of a directory in a request for its names alone."""
SUBJECTS = 1 << 21
_SUBJECT_SHIFT = 40
_NUMBERS = (1 << _SUBJECT_SHIFT) - 1


def handle(mark: int, subject: int, number: int) -> int:
    """A file handle as the part in C understands it; `number` is what we know it by."""
    return mark | subject << _SUBJECT_SHIFT | number


def number_of(handle: int) -> int:
    """Our number in a handle."""
    return handle & _NUMBERS


class NativeLibrary(Protocol):
    """What the part in C offers; it knows the one session of this process. Only the event loop
    calls it.
    """

    def imgfs_shook_hands(self) -> bool: ...

    def imgfs_passthrough_want(self) -> None: ...

    def imgfs_passthrough_agreed(self) -> bool: ...

    def imgfs_backing_open(self, descriptor: int, /) -> int: ...

    def imgfs_backing_close(self, backing: int, /) -> None: ...

    def imgfs_gather_begin(self, place: int, offset: int, /) -> bool: ...

    def imgfs_gather_take(self, place: int, /) -> bytes: ...


def load() -> NativeLibrary | str:
    """The part in C, or why there is none. This must come before pyfuse3 is imported: it stands in
    front of libfuse's functions.
    """
    if not _uses_libfuse_of_the_system():
        return "pyfuse3 brings a libfuse of its own"
    path = Path(__file__).with_name(f"libsession{EXTENSION_SUFFIXES[0]}")
    try:
        found = ctypes.PyDLL(str(path), ctypes.RTLD_GLOBAL)
    except OSError:
        return "this imgfs was built without it"
    found.imgfs_shook_hands.restype = ctypes.c_bool
    found.imgfs_passthrough_want.restype = None
    found.imgfs_passthrough_agreed.restype = ctypes.c_bool
    found.imgfs_gather_begin.argtypes = (ctypes.c_int, ctypes.c_uint64)
    found.imgfs_gather_begin.restype = ctypes.c_bool
    found.imgfs_gather_take.restype = ctypes.py_object
    return cast(NativeLibrary, found)


def _uses_libfuse_of_the_system() -> bool:
    """Whether pyfuse3 is linked with the library in front of which the part in C would stand."""
    found = find_spec("pyfuse3")
    return bool(found and found.origin and b"\0libfuse3.so." in Path(found.origin).read_bytes())

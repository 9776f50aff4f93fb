"""Load the native library, which is optional and makes imgfs faster.

`session.c` interposes between libfuse and the kernel; `passthrough.c`, `gather.c`, `listing.c`,
`direct.c` and `trees.c` build on it.
"""

import ctypes
from collections.abc import Callable
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, cast

BACKED = 1 << 62
"""Tags the handle of a file that the kernel reads by passthrough; its subject is the backing ID."""
GATHERED = 1 << 61
"""Tags the handle of a file whose writes are gathered; its subject is the place."""
PLAIN = 1 << 60
"""Tags the handle of a directory in a READDIR request, which asks for names without attributes."""
LASTING = 1 << 59
"""Tags the handle of a directory whose names never change, so that the kernel keeps them."""
SUBJECTS = 1 << 21
"""The number of different subjects that a handle can hold."""
_SUBJECT_SHIFT = 40
_NUMBERS = (1 << _SUBJECT_SHIFT) - 1


def handle(tag: int, subject: int, number: int) -> int:
    """Return the file handle that the native library recognizes by its tag, for handle `number`."""
    return tag | subject << _SUBJECT_SHIFT | number


def number_of(handle: int) -> int:
    """Return the number of a handle without its tag and subject."""
    return handle & _NUMBERS


Answer = Callable[[int, int, int, bytes], bytes | int | None]
"""Answers a request: its opcode, inode number, process and body. Returns the body of the answer, an
errno, or None if libfuse has to process the request.
"""


class NativeLibrary(Protocol):
    """The functions of the native library, all about the one FUSE session of this process. Call
    them from the event loop only; the C files describe them.
    """

    def imgfs_shook_hands(self) -> bool: ...

    def imgfs_passthrough_want(self) -> None: ...

    def imgfs_passthrough_agreed(self) -> bool: ...

    def imgfs_backing_open(self, descriptor: int, /) -> int: ...

    def imgfs_backing_close(self, backing: int, /) -> None: ...

    def imgfs_gather_begin(self, place: int, offset: int, /) -> bool: ...

    def imgfs_gather_take(self, place: int, /) -> bytes: ...

    def imgfs_listing_begin(self, handle: int, /) -> None: ...

    def imgfs_direct_begin(self, function: Answer | None, /) -> None: ...

    def imgfs_tree_add(self, columns: tuple[Any, ...], /) -> None: ...

    def imgfs_tree_remove(self, number: int, /) -> None: ...


def load() -> NativeLibrary | str:
    """Return the native library, or the reason why it cannot be used.

    Call this before pyfuse3 is imported, because the library overrides functions of libfuse.
    """
    if not _uses_libfuse_of_the_system():
        return "pyfuse3 brings a libfuse of its own"
    path = Path(__file__).with_name(f"libsession{EXTENSION_SUFFIXES[0]}")
    try:
        library = ctypes.PyDLL(str(path), ctypes.RTLD_GLOBAL)
    except OSError:
        return "this imgfs was built without it"
    library.imgfs_shook_hands.restype = ctypes.c_bool
    library.imgfs_passthrough_want.restype = None
    library.imgfs_passthrough_agreed.restype = ctypes.c_bool
    library.imgfs_gather_begin.argtypes = (ctypes.c_int, ctypes.c_uint64)
    library.imgfs_gather_begin.restype = ctypes.c_bool
    library.imgfs_gather_take.restype = ctypes.py_object
    library.imgfs_listing_begin.argtypes = (ctypes.c_uint64,)
    library.imgfs_listing_begin.restype = None
    library.imgfs_direct_begin.argtypes = (ctypes.py_object,)
    library.imgfs_direct_begin.restype = None
    library.imgfs_tree_add.argtypes = (ctypes.py_object,)
    library.imgfs_tree_add.restype = ctypes.py_object
    library.imgfs_tree_remove.argtypes = (ctypes.c_uint64,)
    library.imgfs_tree_remove.restype = None
    return cast(NativeLibrary, library)


def _uses_libfuse_of_the_system() -> bool:
    """Return whether pyfuse3 is linked with the shared libfuse whose functions are overridden."""
    spec = find_spec("pyfuse3")
    return bool(spec and spec.origin and b"\0libfuse3.so." in Path(spec.origin).read_bytes())

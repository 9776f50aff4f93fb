"""Small sequential writes, which the native library collects and answers without a call to Python.

`native/gather.c` has the other half. Call this from the event loop only.
"""

from imgfs.fuse.native.library import GATHERED, NativeLibrary, handle
from imgfs.imports.gather import Gather

_PLACES = 64
"""Files whose writes can be gathered at a time, as in `gather.c`."""


class _NativeGather(Gather):
    def __init__(self, native: NativeLibrary, place: int, free: list[int]) -> None:
        self._native = native
        self._place = place
        self._free = free
        self._begun = False

    def handle(self, number: int) -> int:
        return handle(GATHERED, self._place, number)

    def begin(self, offset: int) -> None:
        self._begun = self._native.imgfs_gather_begin(self._place, offset)

    def take(self) -> bytes:
        if not self._begun:
            return b""
        self._begun = False
        return self._native.imgfs_gather_take(self._place)

    def close(self) -> None:
        self.take()
        self._free.append(self._place)


class NativeGathers:
    """The places of the native library that one mount can gather writes in."""

    def __init__(self, native: NativeLibrary | str) -> None:
        """`native` is what `imgfs.fuse.native.library.load` returned."""
        self._native = None if isinstance(native, str) else native
        self._free = list(range(_PLACES))

    def make(self) -> Gather:
        """Return a gather for one upload, which collects nothing if no place is free."""
        if self._native is None or not self._free:
            return Gather()
        return _NativeGather(self._native, self._free.pop(), self._free)

"""Small writes that follow one another, gathered by `gather.c` and answered without asking us.

An upload that has taken all bytes up to an offset lets what follows be gathered. Whatever else is
asked of it, it takes first what was gathered. Only the event loop calls this.
"""

from imgfs.fuse.native.library import GATHERED, NativeLibrary, handle

_PLACES = 64


class Gather:
    """Where what is written to one upload would be gathered: nowhere."""

    def handle(self, number: int) -> int:
        """The file handle whose writes are gathered, by our number of it."""
        return number

    def begin(self, offset: int) -> None:
        """Gather what follows `offset`."""

    def take(self) -> bytes:
        """What has been gathered; no more is until the next `begin`."""
        return b""

    def close(self) -> None:
        """Nothing will be written any more."""


class _Place(Gather):
    def __init__(self, session: NativeLibrary, place: int, free: list[int]) -> None:
        self._session = session
        self._place = place
        self._free = free
        self._begun = False

    def handle(self, number: int) -> int:
        return handle(GATHERED, self._place, number)

    def begin(self, offset: int) -> None:
        self._begun = self._session.imgfs_gather_begin(self._place, offset)

    def take(self) -> bytes:
        if not self._begun:
            return b""
        self._begun = False
        return self._session.imgfs_gather_take(self._place)

    def close(self) -> None:
        self.take()
        self._free.append(self._place)


class Gathers:
    """The places of one mount."""

    def __init__(self, part: NativeLibrary | str) -> None:
        """`part` is what `imgfs.fuse.native.library.load` gave."""
        self._session = None if isinstance(part, str) else part
        self._free = list(range(_PLACES))

    def make(self) -> Gather:
        """A place for one upload, until it is closed; nowhere if there is none left."""
        if self._session is None or not self._free:
            return Gather()
        return _Place(self._session, self._free.pop(), self._free)

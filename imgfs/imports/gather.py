"""The interface to something that collects small sequential writes to one upload.

An upload that has accepted every byte before an offset lets the writes that follow be gathered, and
takes the gathered bytes before it does anything else. `imgfs.fuse.gather` implements this with the
native library. Call it from the event loop only.
"""


class Gather:
    """A collector of writes that collects nothing: the default."""

    def handle(self, number: int) -> int:
        """Return the FUSE file handle for the open file with this number."""
        return number

    def begin(self, offset: int) -> None:
        """Start to gather the writes that continue at `offset`."""

    def take(self) -> bytes:
        """Return the gathered bytes, and gather no more until the next `begin`."""
        return b""

    def close(self) -> None:
        """Stop gathering for good and release the resources."""

"""Write whole buffers to open files."""

import os


def write_at(descriptor: int, data: bytes, offset: int) -> None:
    """Write all bytes at an offset of a file; raise OSError, after some of them maybe."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        offset += written
        rest = rest[written:]

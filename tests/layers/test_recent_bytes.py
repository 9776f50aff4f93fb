"""A reader gets the bytes of the file, from memory or from the file."""

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.layers.recent_bytes import RecentBytes
from engine.limits import BUFFER_SIZE
from engine.threads import WORTH_IT

_WRITES = st.sampled_from([1, 5000, WORTH_IT, WORTH_IT + 1, BUFFER_SIZE, 2 * BUFFER_SIZE])


@settings(max_examples=50)
@given(st.lists(st.tuples(_WRITES, st.integers(0, 4)), max_size=12))
def test_a_reader_in_order_gets_the_bytes_of_the_file(steps: list[tuple[int, int]]) -> None:
    """Each step writes some bytes and reads so many times."""
    file = bytearray()
    recent = RecentBytes(lambda size, at: bytes(file[at : at + size]))
    found = bytearray()
    for number, (size, reads) in enumerate(steps):
        data = bytes([number]) * size
        recent.add(memoryview(data), len(file))
        file += data
        for _ in range(reads):
            if size := min(BUFFER_SIZE, len(file) - len(found)):
                piece = recent.pread(size, len(found))
                assert 0 < len(piece) <= size
                found += piece
    while size := min(BUFFER_SIZE, len(file) - len(found)):
        found += recent.pread(size, len(found))
    assert found == file


def test_what_was_just_written_is_not_read_again() -> None:
    recent = RecentBytes(lambda _size, _at: b"of the file")
    written = bytes(WORTH_IT)
    recent.add(memoryview(written), 0)
    assert recent.pread(BUFFER_SIZE, 0) == written
    assert recent.pread(BUFFER_SIZE, 0) == b"of the file"


def test_a_buffer_that_may_change_is_not_kept() -> None:
    recent = RecentBytes(lambda _size, _at: b"of the file")
    recent.add(memoryview(bytearray(WORTH_IT)), 0)
    assert recent.pread(BUFFER_SIZE, 0) == b"of the file"


def test_nothing_is_kept_after_a_clear() -> None:
    recent = RecentBytes(lambda _size, _at: b"of the file")
    recent.add(memoryview(bytes(WORTH_IT)), 0)
    recent.clear()
    assert recent.pread(BUFFER_SIZE, 0) == b"of the file"

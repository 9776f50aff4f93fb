"""Tests of handle numbers, and of closing a file during a read."""

import threading

import pytest

from imgfs.fuse.handles import Handles, OpenReader


class Slow:
    """A reader whose read waits until `go_on` is set."""

    def __init__(self) -> None:
        self.reading = threading.Event()
        self.go_on = threading.Event()
        self.closed = 0

    def read(self, offset: int, size: int) -> bytes:
        self.reading.set()
        assert self.go_on.wait(30)
        assert not self.closed
        return b"data"[offset : offset + size]

    def read_at_once(self, offset: int, size: int) -> None:
        """Return None: a read always waits."""

    def fileno(self) -> int:
        return 7

    def close(self) -> None:
        self.closed += 1


def test_numbers_are_never_used_twice() -> None:
    handles = Handles[str]()
    first = handles.add("a")
    assert handles.get(first) == handles.remove(first) == "a"
    assert len(handles) == 0
    assert handles.add("b") != first
    with pytest.raises(KeyError):
        handles.get(first)


def test_a_reader_closed_during_a_read_is_released_after_it() -> None:
    slow, opened = Slow(), OpenReader()
    opened.open(lambda: slow)
    read: list[bytes] = []
    thread = threading.Thread(target=lambda: read.append(opened.read(1, 2)))
    thread.start()
    assert slow.reading.wait(30)
    opened.close()
    assert slow.closed == 0
    slow.go_on.set()
    thread.join()
    assert (read, slow.closed) == ([b"at"], 1)
    with pytest.raises(OSError, match="closed"):
        opened.read(0, 1)
    opened.close()
    assert slow.closed == 1


def test_a_reader_closed_while_it_is_opened_is_released() -> None:
    slow, opened = Slow(), OpenReader()

    def opens() -> Slow:
        opened.close()
        return slow

    opened.open(opens)
    assert slow.closed == 1


def test_an_open_reader_has_the_descriptor_of_its_file() -> None:
    opened = OpenReader()
    opened.open(Slow)
    assert opened.fileno() == 7

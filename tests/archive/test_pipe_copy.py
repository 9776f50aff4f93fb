"""Blobs in files whose pages are passed on to a pipe."""

import errno
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from engine.archive import pipe_copy
from engine.archive.entry_content import Source
from engine.archive.writer import write_archive
from engine.errors import DigestMismatch
from engine.progress import Done
from tests.archive.test_hashed_ahead import BLOBS, CONTENTS, ENTRIES, FileReader, Files, changed
from tests.archive.test_writer import MemoryProvider
from tests.archive.test_writer import written as of_memory
from tests.stores.memory import MemoryTables

EXPECTED = of_memory(ENTRIES, MemoryProvider(BLOBS))
CALLS = {"splice": (os, "splice"), "tee": (pipe_copy, "_tee")}


@pytest.fixture(params=[1, 2, 16], autouse=True)
def _cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(request.param)))


def everything(descriptor: int) -> bytes:
    with open(descriptor, "rb") as file:
        return file.read()


class Pipe:
    """A pipe that is read by a thread."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        reading, self.descriptor = os.pipe()
        self._written = open(self.descriptor, "wb", buffering=0)
        self._read: Future[bytes] = threads.submit(everything, reading)

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self.descriptor, rest) :]

    def result(self) -> bytes:
        """Close the pipe, and return what was read."""
        self.close()
        return self._read.result()

    def close(self) -> None:
        self._written.close()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    with ThreadPoolExecutor(1) as threads, closing(Pipe(threads)) as pipe:
        yield pipe


def write(files: Files, pipe: Pipe, told: Callable[[Done], object] = id) -> int:
    source = Source(files, MemoryTables())
    return write_archive(ENTRIES, source, pipe.write, told, pipe=pipe.descriptor)


def test_the_archive_is_the_same(tmp_path: Path, pipe: Pipe) -> None:
    told: list[Done] = []
    size = write(Files(tmp_path, BLOBS), pipe, told.append)
    assert pipe.result() == EXPECTED
    assert told[-1] == Done(size, size, 0, 0)


@pytest.mark.parametrize("refused", CALLS)
def test_where_the_kernel_cannot_the_bytes_are_written(
    tmp_path: Path, pipe: Pipe, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    answer = refuse if refused == "splice" else lambda: refuse
    monkeypatch.setattr(*CALLS[refused], answer)
    write(Files(tmp_path, BLOBS), pipe)
    assert pipe.result() == EXPECTED


@pytest.mark.parametrize("number", range(len(CONTENTS)))
def test_an_archive_with_a_wrong_blob_is_incomplete(
    tmp_path: Path, pipe: Pipe, number: int
) -> None:
    digest = str(ENTRIES[number].content)
    files = Files(tmp_path, BLOBS | {digest: changed(BLOBS[digest])})
    with pytest.raises(DigestMismatch):
        write(files, pipe)
    before = sum(512 + len(one) + -len(one) % 512 for one in CONTENTS[:number])
    assert len(pipe.result()) < before + 512 + len(CONTENTS[number])
    assert all(reader.is_closed for reader in files.readers)


class OtherReader(FileReader):
    """A blob whose descriptor leads to other bytes than `pread` returns."""

    def pread(self, length: int, offset: int) -> bytes:
        data = super().pread(length, offset)
        return data if offset else changed(data)


def test_what_is_checked_are_the_bytes_in_the_pipe(
    tmp_path: Path, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first bytes of the first blob are read by no other way."""
    files = Files(tmp_path, BLOBS)
    first = tmp_path / str(ENTRIES[0].content)
    monkeypatch.setattr(files, "open", lambda digest: OtherReader(tmp_path / digest, True))
    source = Source(files, MemoryTables())
    size = write_archive(ENTRIES[:1], source, pipe.write, pipe=pipe.descriptor)
    assert pipe.result()[512 : 512 + len(CONTENTS[0])] == first.read_bytes()
    assert size == 512 + len(CONTENTS[0]) + 1024


def test_a_reader_that_has_gone(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    files = Files(tmp_path, BLOBS)
    try:
        with pytest.raises(BrokenPipeError):
            write_archive(ENTRIES, Source(files, MemoryTables()), len, pipe=writing)
    finally:
        os.close(writing)
    assert all(reader.is_closed for reader in files.readers)

"""Blobs that are hashed while those before them are written."""

import io
import os
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from engine.archive.entry_content import Source
from engine.archive.writer import write_archive
from engine.closing import Closing
from engine.errors import ChangedFile, DigestMismatch, NotFound, SizeMismatch
from engine.layouts.entry import Entry
from engine.spec import digest as digests
from tests.archive.test_writer import MemoryProvider
from tests.archive.test_writer import written as of_memory
from tests.stores.memory import MemoryTables

MIB = 1 << 20
CONTENTS = [os.urandom(size) for size in (2 * MIB, 3 * MIB + 5, 100, MIB, 2 * MIB - 1)]
ENTRIES = [Entry.blob(digests.of_bytes(data), len(data), "") for data in CONTENTS]


def changed(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


class FileReader(Closing):
    """A blob in a file, of which the main thread reads other bytes unless it is `steady`."""

    def __init__(self, path: Path, steady: bool) -> None:
        self._file = path.open("rb")
        self._steady = steady
        self.is_read = threading.Event()
        self.size = path.stat().st_size

    def pread(self, length: int, offset: int) -> bytes:
        self.is_read.set()
        data = os.pread(self._file.fileno(), length, offset)
        is_main = threading.current_thread() is threading.main_thread()
        return changed(data) if is_main and not self._steady else data

    def fileno(self) -> int:
        return self._file.fileno()

    @property
    def is_closed(self) -> bool:
        return self._file.closed

    def close(self) -> None:
        self._file.close()


class Files:
    """Blobs in files, by the digests they are asked for by."""

    def __init__(self, directory: Path, blobs: Mapping[str, bytes], steady: bool = True) -> None:
        self._paths = {digest: directory / digest for digest in blobs}
        self._steady = steady
        self.opened: list[str] = []
        self.readers: list[FileReader] = []
        for digest, data in blobs.items():
            self._paths[digest].write_bytes(data)

    def open(self, digest: str) -> FileReader:
        if digest not in self._paths:
            raise NotFound("blob", digest)
        self.opened.append(digest)
        self.readers.append(FileReader(self._paths[digest], self._steady))
        return self.readers[-1]


BLOBS: dict[str, bytes] = {digests.of_bytes(data): data for data in CONTENTS}
LARGE = [str(entry.content) for entry in ENTRIES if entry.size >= MIB]


@pytest.fixture(params=[1, 2, 16])
def _cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(request.param)))


def written(files: Files, out: io.BytesIO) -> bytes:
    write_archive(ENTRIES, Source(files, MemoryTables()), out.write)
    return out.getvalue()


@pytest.mark.usefixtures("_cores")
def test_an_archive_is_the_same_for_any_number_of_cores(tmp_path: Path) -> None:
    files = Files(tmp_path, BLOBS)
    assert written(files, io.BytesIO()) == of_memory(ENTRIES, MemoryProvider(BLOBS))
    assert sorted(files.opened) == sorted(BLOBS)
    assert all(reader.is_closed for reader in files.readers)


def test_the_next_blobs_are_opened_while_one_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    files = Files(tmp_path, BLOBS)
    opened: list[list[str]] = []
    write_archive(
        ENTRIES, Source(files, MemoryTables()), lambda _: opened.append(list(files.opened))
    )
    assert opened[1] == LARGE


@pytest.mark.usefixtures("_cores")
@pytest.mark.parametrize("number", range(len(CONTENTS)))
def test_a_blob_that_is_wrong_is_refused_at_its_turn(tmp_path: Path, number: int) -> None:
    digest = str(ENTRIES[number].content)
    data = BLOBS[digest]
    before = sum(512 + len(one) + -len(one) % 512 for one in CONTENTS[:number])
    others = {name: blob for name, blob in BLOBS.items() if name != digest}
    for wrong, error in (
        ({digest: changed(data)}, DigestMismatch),
        ({digest: data[:-1]}, SizeMismatch),
        ({}, NotFound),
    ):
        files, out = Files(tmp_path, others | wrong), io.BytesIO()
        with pytest.raises(error):
            written(files, out)
        assert before <= len(out.getvalue()) < before + 512 + len(data)
        assert all(reader.is_closed for reader in files.readers)


def test_bytes_that_change_while_they_are_read_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The main thread writes a blob of one chunk itself, after another one has begun to hash it."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    entries = [ENTRIES[0], ENTRIES[3]]
    files = Files(tmp_path, BLOBS, steady=False)

    def write(_: bytes) -> None:
        if len(files.readers) == len(entries):
            assert files.readers[1].is_read.wait(30)

    with pytest.raises(ChangedFile, match=ENTRIES[3].path):
        write_archive(entries, Source(files, MemoryTables()), write)


def test_an_error_of_the_writer_ends_the_hashing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    files = Files(tmp_path, BLOBS)

    def fail(data: bytes) -> None:
        if len(data) == MIB:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        write_archive(ENTRIES, Source(files, MemoryTables()), fail)
    assert len(files.readers) > 1
    assert all(reader.is_closed for reader in files.readers)

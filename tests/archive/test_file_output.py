"""Archives that are written into a file by several threads."""

import gzip
import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.archive.entry_content import Source
from engine.archive.file_output import FileOutput
from engine.archive.writer import write_archive
from engine.errors import DigestMismatch, NotFound, SizeMismatch
from engine.layouts.entry import Decompressed, Entry
from engine.progress import Done, Progress, ignore
from engine.spec import digest as digests
from engine.spec import oci
from tests.archive.test_hashed_ahead import BLOBS, CONTENTS, MIB, Files, changed
from tests.stores.memory import MemoryTables

PLAIN = os.urandom(MIB) + bytes(MIB)
STORED = gzip.compress(PLAIN, 1)
ALL = {**BLOBS, digests.of_bytes(STORED): STORED}
ENTRIES = [
    Entry.directory("blobs", 5),
    Entry(
        "d" * 200,
        0o644,
        7,
        len(PLAIN),
        Decompressed(digests.of_bytes(STORED), digests.of_bytes(PLAIN)),
    ),
    *(Entry.blob(digests.of_bytes(data), len(data), oci.LAYER) for data in CONTENTS),
    Entry.file("index.json", 0o644, 0, b"{}"),
]


@pytest.fixture(params=[1, 2, 16], autouse=True)
def _cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(request.param)))


@pytest.fixture
def target(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "x.tar", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    yield descriptor
    os.close(descriptor)


def write(files: Files, target: int, progress: Progress = ignore) -> int:
    return FileOutput(target, progress).write_layout(ENTRIES, Source(files, MemoryTables()))


def test_the_archive_is_the_one_that_is_written_in_order(tmp_path: Path, target: int) -> None:
    files, expected = Files(tmp_path, ALL), io.BytesIO()
    size = write(files, target)
    write_archive(ENTRIES, Source(files, MemoryTables()), expected.write)
    found = (tmp_path / "x.tar").read_bytes()
    assert (found, size) == (expected.getvalue(), len(expected.getvalue()))
    assert all(reader.is_closed for reader in files.readers)


def test_progress_counts_every_byte_and_layer(tmp_path: Path, target: int) -> None:
    told: list[Done] = []
    size = write(Files(tmp_path, ALL), target, told.append)
    layers = len(CONTENTS) + 1
    assert told[-1] == Done(size, size, layers, layers)
    assert [done.size for done in told] == sorted(done.size for done in told)


def test_the_space_is_reserved_before_anything_is_written(tmp_path: Path, target: int) -> None:
    sizes: list[int] = []
    size = write(Files(tmp_path, ALL), target, lambda _: sizes.append(os.fstat(target).st_size))
    assert set(sizes) == {size}


@pytest.mark.parametrize("number", range(len(CONTENTS)))
def test_a_blob_that_is_wrong_is_refused(tmp_path: Path, target: int, number: int) -> None:
    digest = digests.of_bytes(CONTENTS[number])
    data = BLOBS[digest]
    others = {name: blob for name, blob in ALL.items() if name != digest}
    for wrong, error in (
        ({digest: changed(data)}, DigestMismatch),
        ({digest: data[:-1]}, SizeMismatch),
        ({digest: data + b"more"}, SizeMismatch),
        ({}, NotFound),
    ):
        files = Files(tmp_path, others | wrong)
        with pytest.raises(error, match=digest.encoded):
            write(files, target)
        assert all(reader.is_closed for reader in files.readers)


def test_an_error_of_the_file_is_raised(tmp_path: Path) -> None:
    files = Files(tmp_path, ALL)
    (tmp_path / "x.tar").touch()
    with open(tmp_path / "x.tar", "rb") as unwritable, pytest.raises(OSError, match="Bad file"):
        write(files, unwritable.fileno())
    assert all(reader.is_closed for reader in files.readers)

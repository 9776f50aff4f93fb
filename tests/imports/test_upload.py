"""Tests of uploads without a kernel."""

import itertools
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing

from engine.archive.importer import Import
from engine.archive.loaded import Loaded
from engine.errors import BrokenArchive
from imgfs.fuse.gather import NativeGathers
from imgfs.fuse.native.library import NativeLibrary
from imgfs.imports.archive_writer import ArchiveWriter
from imgfs.imports.receipt import Receipt
from imgfs.imports.reports import Status
from imgfs.imports.services import ImportServices
from imgfs.imports.upload import Upload
from imgfs.threads import DiskThreads


class Archive:
    """An import that accepts bytes while `go_on` is set, and is complete at a length."""

    failed = False
    ended = False
    is_open_elsewhere = False
    """Whether another process can write the file of the upload."""

    def __init__(self, length: int = 1 << 40) -> None:
        self.taken = 0
        self.length = length
        self.go_on = threading.Event()
        self.go_on.set()
        self.half = threading.Event()
        self.pieces: list[int] = []
        self.aborted = 0

    def feed(self, data: bytes) -> None:
        assert self.go_on.wait(30)
        self.pieces.append(len(data))
        self.taken += len(data)
        if self.taken >= self.length // 2:
            self.half.set()

    def finish(self) -> Loaded:
        if self.taken < self.length:
            raise BrokenArchive("archive", f"ends after {self.taken} bytes")
        return Loaded((), 0, 0)

    def abort(self) -> None:
        self.aborted += 1


class SlowToEnd(Archive):
    """An archive that is aborted only while `may_end` is set."""

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.may_end = threading.Event()

    def abort(self) -> None:
        assert self.may_end.wait(30)
        super().abort()


class FakeLibrary:
    """The functions of the native library for gathered writes."""

    def __init__(self) -> None:
        self.open: dict[int, tuple[int, bytes]] = {}

    def imgfs_gather_begin(self, place: int, offset: int, /) -> bool:
        self.open[place] = offset, b""
        return True

    def imgfs_gather_take(self, place: int, /) -> bytes:
        return self.open.pop(place, (0, b""))[1]

    def write(self, offset: int, data: bytes) -> None:
        """Write to the only upload as the kernel does."""
        ((place, (start, before)),) = self.open.items()
        assert offset == start + len(before)
        self.open[place] = start, before + data


class Nobody:
    """A listener that ignores all events."""

    async def flushed(self, upload: Upload) -> None:
        """Do nothing."""

    async def closed(self, upload: Upload) -> None:
        """Do nothing."""


def _unused(*_: object) -> Any:
    raise AssertionError("one archive needs no more")


def run(
    archive: Archive,
    use: Callable[[Upload], Awaitable[None]],
    path: Path,
    native: NativeLibrary | str = "none",
    later: Archive | None = None,
) -> None:
    """Run `use` with an upload that is written to `archive`, and then to `later`."""
    archives = itertools.chain([archive], itertools.repeat(later or archive))

    async def main() -> None:
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                services = ImportServices(
                    lambda: cast(Import, next(archives)),
                    _unused,
                    _unused,
                    path,
                    nursery,
                    DiskThreads(),
                    NativeGathers(native).make,
                    _unused,
                    lambda _: archive.is_open_elsewhere,
                )
                writer = ArchiveWriter(services)
                receipt = Receipt(0o644, 0, 0, 0)
                upload = Upload("key", "x.tar", receipt, writer, Nobody())
                upload.opened(1)
                await use(upload)
                await upload.released()

    trio.run(main)


def test_small_writes_are_joined(tmp_path: Path) -> None:
    archive = Archive(300 * 10_000)

    async def use(upload: Upload) -> None:
        for number in range(300):
            assert await upload.write(number * 10_000, b"x" * 10_000) == 10_000
        await upload.flush()
        assert upload.status is Status.LOADED

    run(archive, use, tmp_path)
    assert archive.taken == archive.length
    assert len(archive.pieces) == 3


def test_a_flush_waits_only_for_earlier_writes(tmp_path: Path) -> None:
    """A forked process closes an inherited descriptor while the writer waits for that process."""
    archive = Archive()
    archive.go_on.clear()

    async def use(upload: Upload) -> None:
        async def flush() -> None:
            with pytest.raises(BrokenArchive, match="10 bytes"):
                await upload.flush()
            flushed.set()

        flushed = trio.Event()
        async with trio.open_nursery() as nursery:
            await upload.write(0, b"x" * 10)
            nursery.start_soon(flush)
            await trio.testing.wait_all_tasks_blocked()
            await upload.write(10, b"x" * 10)
            archive.go_on.set()
            await flushed.wait()
        archive.length = 20
        await upload.flush()
        assert upload.status is Status.LOADED

    run(archive, use, tmp_path)


def test_truncating_to_zero_drops_the_written_bytes(tmp_path: Path) -> None:
    archive = Archive(5)

    async def use(upload: Upload) -> None:
        await upload.write(0, b"x" * 3_000_000)
        await upload.truncate(0)
        assert (archive.aborted, upload.status) == (1, Status.EMPTY)
        archive.taken = 0
        await upload.write(0, b"12345")
        await upload.flush()
        assert upload.status is Status.LOADED

    run(archive, use, tmp_path)
    assert archive.taken == 5


def test_gathered_writes_are_taken_before_the_next_write(tmp_path: Path) -> None:
    archive = Archive(400)
    native = FakeLibrary()

    async def use(upload: Upload) -> None:
        await upload.write(0, b"x" * 100)
        native.write(100, b"x" * 50)
        native.write(150, b"x" * 50)
        assert upload.attributes().size == 200
        assert not native.open, "until the next write"
        await upload.write(200, b"x" * 100)
        native.write(300, b"x" * 99)
        with pytest.raises(BrokenArchive, match="399 bytes"):
            await upload.flush()
        await upload.write(399, b"x")
        await upload.flush()
        assert upload.status is Status.LOADED
        assert upload.attributes().size == 400

    run(archive, use, tmp_path, cast(NativeLibrary, native))
    assert (archive.taken, native.open) == (400, {})


def test_writing_over_gathered_bytes_fails(tmp_path: Path) -> None:
    archive = Archive()
    native = FakeLibrary()

    async def use(upload: Upload) -> None:
        await upload.write(0, b"x" * 100)
        native.write(100, b"x" * 50)
        with pytest.raises(OSError, match="twice"):
            await upload.write(120, b"x")
        with pytest.raises(BrokenArchive, match="150 bytes"):
            await upload.flush()

    run(archive, use, tmp_path, cast(NativeLibrary, native))


def test_writes_after_a_gap_are_not_gathered(tmp_path: Path) -> None:
    archive = Archive(30)
    native = FakeLibrary()

    async def use(upload: Upload) -> None:
        await upload.write(20, b"x" * 10)
        assert not native.open
        await upload.write(0, b"x" * 10)
        assert not native.open
        await upload.write(10, b"x" * 10)
        await upload.flush()
        assert upload.status is Status.LOADED

    run(archive, use, tmp_path, cast(NativeLibrary, native))


def test_truncating_to_zero_drops_the_gathered_bytes(tmp_path: Path) -> None:
    archive = Archive()
    native = FakeLibrary()

    async def use(upload: Upload) -> None:
        await upload.write(0, b"x" * 100)
        native.write(100, b"x" * 50)
        await upload.truncate(0)
        assert not native.open
        archive.taken = 0
        await upload.write(0, b"x")
        with pytest.raises(BrokenArchive, match="after 1 bytes"):
            await upload.flush()

    run(archive, use, tmp_path, cast(NativeLibrary, native))


def test_the_import_works_while_writes_arrive(tmp_path: Path) -> None:
    """Its thread is given all bytes that have arrived, even while the event loop is busy."""
    archive = Archive(10_000_000)
    archive.go_on.clear()

    async def use(upload: Upload) -> None:
        for number in range(5):
            await upload.write(number * 1_000_000, b"x" * 1_000_000)
        await trio.testing.wait_all_tasks_blocked()
        archive.go_on.set()
        assert archive.half.wait(30), "while the loop does nothing else"
        for number in range(5, 10):
            await upload.write(number * 1_000_000, b"x" * 1_000_000)
        await upload.flush()
        assert upload.status is Status.LOADED

    run(archive, use, tmp_path)
    assert archive.pieces == [1_000_000] * 10


@pytest.mark.parametrize("size", [10, 30])
def test_a_flush_leaves_gaps_while_the_file_is_open_elsewhere(tmp_path: Path, size: int) -> None:
    """`size` is the size of the file before the writes."""
    archive = Archive(30)

    async def use(opened: Upload) -> None:
        archive.is_open_elsewhere = True
        await opened.truncate(size)
        await opened.write(20, b"x" * 10)
        await opened.flush()
        assert (opened.status, archive.taken) == (Status.LOADING, 0)
        await opened.write(0, b"x" * 20)
        archive.is_open_elsewhere = False
        await opened.flush()
        assert opened.status is Status.LOADED

    run(archive, use, tmp_path)
    assert archive.taken == archive.length


@pytest.mark.parametrize(("length", "status"), [(30, Status.LOADED), (31, Status.FAILED)])
def test_the_last_release_fills_the_gaps_that_no_flush_has_filled(
    tmp_path: Path, length: int, status: Status
) -> None:
    """Another file with such a name may be open."""
    archive = Archive(length)
    archive.is_open_elsewhere = True
    uploads = []

    async def use(opened: Upload) -> None:
        await opened.write(20, b"x" * 10)
        await opened.flush()
        uploads.append(opened)

    run(archive, use, tmp_path)
    assert [opened.status for opened in uploads] == [status]


def test_gaps_that_a_release_has_filled_are_not_filled_again(tmp_path: Path) -> None:
    """`touch` opens the file of a load for writing, and writes nothing."""
    archive = Archive(30)
    archive.is_open_elsewhere = True

    async def use(opened: Upload) -> None:
        await opened.write(20, b"x" * 10)
        await opened.flush()
        await opened.released()
        assert opened.status is Status.LOADED
        opened.opened(2)
        await opened.flush()
        await opened.released()
        assert opened.status is Status.LOADED
        opened.opened(3)

    run(archive, use, tmp_path)
    assert archive.taken == archive.length


def test_a_file_that_is_opened_while_it_is_released_begins_another_import(tmp_path: Path) -> None:
    first, second = SlowToEnd(10), Archive(30)

    async def use(opened: Upload) -> None:
        await opened.write(0, b"x" * 10)
        await opened.flush()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(opened.released)
            await trio.testing.wait_all_tasks_blocked()
            opened.opened(2)
            nursery.start_soon(opened.write, 10, b"x" * 20)
            await trio.testing.wait_all_tasks_blocked()
            first.may_end.set()
        await opened.flush()
        assert opened.status is Status.LOADED
        assert opened.attributes().size == 30

    run(first, use, tmp_path, later=second)
    assert (first.taken, first.aborted) == (10, 1)
    assert (second.taken, second.aborted) == (30, 1)

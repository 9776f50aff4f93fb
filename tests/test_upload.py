"""An upload without a kernel: who waits for what."""

import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest
import trio
import trio.testing

from engine.archive.importer import Import, Loaded
from engine.errors import BrokenArchive
from imgfs.upload import Receipt, Status, Upload
from imgfs.workers import Workers


class Archive:
    """An import that takes bytes when it is told to, and is complete at a length."""

    failed = False
    ended = False

    def __init__(self, length: int = 1 << 40) -> None:
        self.taken = 0
        self.length = length
        self.go_on = threading.Event()
        self.go_on.set()
        self.pieces: list[int] = []
        self.aborted = 0

    def feed(self, data: bytes) -> None:
        assert self.go_on.wait(30)
        self.pieces.append(len(data))
        self.taken += len(data)

    def finish(self) -> Loaded:
        if self.taken < self.length:
            raise BrokenArchive("archive", f"ends after {self.taken} bytes")
        return Loaded((), 0, 0)

    def abort(self) -> None:
        self.aborted += 1


def run(archive: Archive, use: Callable[[Upload], Awaitable[None]], path: Path) -> None:
    """Use an upload that goes into `archive`."""

    async def told(_: Loaded) -> None:
        """Nobody listens."""

    async def main() -> None:
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                upload = Upload(
                    "key",
                    "x.tar",
                    Receipt(0o644, 0, 0, 0),
                    lambda: cast(Import, archive),
                    path,
                    nursery,
                    Workers(),
                    told,
                )
                upload.opened()
                await use(upload)
                await upload.released()

    trio.run(main)


def test_small_writes_come_together(tmp_path: Path) -> None:
    archive = Archive(300 * 10_000)

    async def use(upload: Upload) -> None:
        for number in range(300):
            assert await upload.write(number * 10_000, b"x" * 10_000) == 10_000
        await upload.flush()
        assert upload.status is Status.LOADED

    run(archive, use, tmp_path)
    assert archive.taken == archive.length
    assert len(archive.pieces) == 3


def test_a_flush_waits_for_what_came_before_it_alone(tmp_path: Path) -> None:
    """As of a descriptor that a fork has inherited and closes: the writer may be waiting for it."""
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


def test_what_begins_anew_forgets_what_came(tmp_path: Path) -> None:
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

"""Tests of directories below `import/` without a kernel."""

import errno
import itertools
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from engine.archive.directory_import import DirectoryImport
from engine.archive.file_writer import FileWriter
from engine.spec.digest import Digest
from imgfs.imports import uploaded_directory
from imgfs.imports.directory_upload import DirectoryUpload
from imgfs.imports.serial_calls import SerialCalls
from imgfs.imports.uploaded_directory import UploadedDirectory
from imgfs.imports.uploaded_file import UploadedFile
from imgfs.imports.uploaded_link import UploadedLink
from tests.archives import digest
from tests.imports.serving import serving


def make_blob(root: UploadedDirectory, digest: str) -> UploadedFile:
    shelf = root.mkdir("blobs", 0o755, 0, 0).mkdir("sha256", 0o755, 0, 0)
    return shelf.create(digest.removeprefix("sha256:"), 0o644, 0, 0)


def test_a_directory_may_change_while_it_is_looked_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = map(str, itertools.count())

    def change(link: UploadedLink) -> int:
        """Make one more name of the link, as another thread may at any moment."""
        assert link.parent is not None
        link.parent.place(next(names), link)
        return 0

    async def main() -> None:
        async with serving(tmp_path) as served:
            root = await served.mkdir("app")
            for name in ("a", "b"):
                root.symlink(name, "target", "")
            monkeypatch.setattr(UploadedLink, "is_refused", property(change))
            assert [name for name, _ in root.children()] == ["a", "b"]
            monkeypatch.setattr(UploadedLink, "height", property(change))
            assert root.height == 1

    trio.run(main)


def test_the_number_of_directories_is_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploaded_directory, "MAX_DIRECTORIES", 3)

    async def main() -> None:
        async with serving(tmp_path) as served:
            root = await served.mkdir("app")
            made = root.mkdir("a", 0o755, 0, 0)
            made.mkdir("b", 0o755, 0, 0)
            with pytest.raises(OSError, match="at most 3 directories") as refused:
                root.mkdir("c", 0o755, 0, 0)
            assert refused.value.errno == errno.EMLINK
            assert root.child("c") is None

    trio.run(main)


def test_a_file_that_is_opened_again_while_it_is_released_keeps_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gap in it is filled right after the load has looked at it, before anything else runs."""
    data = b"a layer, with a gap at its beginning"
    run = SerialCalls.run

    async def main() -> None:
        async with serving(tmp_path) as served:
            file = make_blob(await served.mkdir("app"), digest(data))
            file.opened(1)
            await file.write(10, data[10:])
            await file.flush()

            async def run_and_fill(calls: SerialCalls, call: Callable[[], Any]) -> Any:
                monkeypatch.undo()
                file.opened(2)
                try:
                    return await run(calls, call)
                finally:
                    await file.write(0, data[:10])

            monkeypatch.setattr(SerialCalls, "run", run_and_fill)
            await file.released()
            await file.flush()
            await file.released()
            assert (file.digest, file.is_removed) == (digest(data), False)
            assert await file.read(0, 100) == data

    trio.run(main)


def test_a_file_whose_close_is_cancelled_arrives_when_it_is_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = b"a layer"
    begun, resumed = threading.Event(), threading.Event()
    put = DirectoryImport.put
    arrived: list[Digest | None] = []

    def put_slowly(load: DirectoryImport, path: str, writer: FileWriter) -> Digest:
        begun.set()
        assert resumed.wait(30)
        return put(load, path, writer)

    def note(_upload: DirectoryUpload, files: Iterable[tuple[str, Digest | None]]) -> None:
        arrived.extend(digest for _, digest in files)

    async def close(file: UploadedFile, scope: trio.CancelScope) -> None:
        with scope:
            await file.flush()

    async def main() -> None:
        async with serving(tmp_path) as served, trio.open_nursery() as nursery:
            file = make_blob(await served.mkdir("app"), digest(data))
            file.opened(1)
            await file.write(0, data)
            scope = trio.CancelScope()
            nursery.start_soon(close, file, scope)
            assert await trio.to_thread.run_sync(begun.wait, 30)
            scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            assert scope.cancelled_caught
            resumed.set()
            await file.released()
            assert arrived == [digest(data)]

    monkeypatch.setattr(DirectoryImport, "put", put_slowly)
    monkeypatch.setattr(DirectoryUpload, "publish", note)
    trio.run(main)


@pytest.mark.parametrize("change", ["rename", "unlink"])
def test_a_file_may_be_moved_or_removed_while_the_load_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    data = b"some bytes"
    begun, resumed = threading.Event(), threading.Event()
    put = DirectoryImport.put

    def put_slowly(load: DirectoryImport, path: str, writer: FileWriter) -> Digest:
        begun.set()
        assert resumed.wait(30)
        return put(load, path, writer)

    async def main() -> None:
        async with serving(tmp_path) as served, trio.open_nursery() as nursery:
            root = await served.mkdir("app")
            file = root.create("old", 0o644, 0, 0)
            file.opened(1)
            await file.write(0, data)
            nursery.start_soon(file.flush)
            assert await trio.to_thread.run_sync(begun.wait, 30)
            if change == "rename":
                await trio.to_thread.run_sync(root.rename, "old", root, "new")
            else:
                await trio.to_thread.run_sync(root.unlink, "old", file)
            resumed.set()
            await file.released()
            left = [("new", digest(data))] if change == "rename" else []
            assert file.upload.load.files() == left

    monkeypatch.setattr(DirectoryImport, "put", put_slowly)
    trio.run(main)


def test_nothing_is_made_below_a_directory_that_was_dropped(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            root = await served.mkdir("app")
            below = root.mkdir("below", 0o755, 0, 0)
            root.is_removed = True
            with pytest.raises(FileNotFoundError):
                below.create("file", 0o644, 0, 0)

    trio.run(main)

"""Tests of the directory `import/` without a kernel."""

import errno
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from engine.archive.directory_import import DirectoryImport
from engine.content.writer import Writer
from engine.errors import BrokenArchive
from tests import archives
from tests.imports.serving import serving


def test_the_reason_of_a_failure_is_text_whatever_the_file_is_called(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            made = await served.mkdir("app")
            full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            made.upload.refuse("caf\udce9", full)
            await trio.testing.wait_all_tasks_blocked()
            assert served.failed == [("app", "caf\\udce9: No space left on device")]

    trio.run(main)


def test_the_state_of_a_directory_does_not_wait_for_its_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename to the name of a blob makes the blob durable first."""
    data = os.urandom(200_000)
    seen = threading.Event()

    async def main() -> None:
        commits, token = trio.Event(), trio.lowlevel.current_trio_token()
        commit = Writer.commit

        def commit_slowly(writer: Writer, *arguments: Any) -> Any:
            token.run_sync_soon(commits.set)
            assert seen.wait(30), "the state was read"
            return commit(writer, *arguments)

        monkeypatch.setattr(Writer, "commit", commit_slowly)
        async with serving(tmp_path) as served:
            root = await served.mkdir("app")
            file = root.create("tmp", 0o644, 0, 0)
            file.opened(1)
            await file.write(0, data)
            await file.flush()
            await file.released()
            blobs = root.mkdir("blobs", 0o755, 0, 0).mkdir("sha256", 0o755, 0, 0)
            name = archives.digest(data).removeprefix("sha256:")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, root.rename, "tmp", blobs, name)
                await commits.wait()
                assert root.xattrs()["user.imgfs.status"] == b"loading"
                assert served.directory.loading() == {}
                assert served.directory.counts() == {"loading": 1}
                report = served.directory.report("app")
                assert report is not None
                assert json.loads(report)["status"] == "loading"
                assert not root.upload.is_outdated()
                assert root.upload.received == 0
                seen.set()
            assert root.upload.received == len(data)

    trio.run(main)


def test_only_a_thread_asks_the_store_whether_a_directory_is_still_its_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store may be behind a network; the rest of the mount goes on meanwhile."""
    asked, answered = threading.Event(), threading.Event()

    def is_current(_load: DirectoryImport) -> bool:
        asked.set()
        return not answered.wait(30)

    monkeypatch.setattr(DirectoryImport, "is_current", is_current)

    async def main() -> None:
        async with serving(tmp_path) as served:
            made = await served.mkdir("app")
            assert not served.directory.may_block("app")
            monkeypatch.setattr(type(made.upload), "is_complete", True)
            assert served.directory.may_block("app")
            assert not served.directory.may_block("other")
            found: list[object] = []

            async def look() -> None:
                found.append(await trio.to_thread.run_sync(served.directory.lookup, "app"))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(look)
                await trio.to_thread.run_sync(asked.wait, 30)
                assert served.directory.report("app") is not None
                assert found == []
                answered.set()
            assert found == [None]
            await served.mkdir("app")

    trio.run(main)


def test_a_directory_that_is_written_to_while_the_store_is_asked_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            made = await served.mkdir("app")
            token = trio.lowlevel.current_trio_token()

            def is_current(_load: DirectoryImport) -> bool:
                trio.from_thread.run_sync(
                    monkeypatch.setattr, type(made.upload), "is_complete", False, trio_token=token
                )
                return False

            monkeypatch.setattr(DirectoryImport, "is_current", is_current)
            monkeypatch.setattr(type(made.upload), "is_complete", True)
            found = await trio.to_thread.run_sync(served.directory.lookup, "app")
            assert found is made
            assert not made.is_removed

    trio.run(main)


LONG = "é" * 127 + "n"
"""A name of 255 bytes."""


def test_reports_about_long_names_have_names_that_can_be_listed(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            imports = served.directory
            uploads = [imports.create(name, 0o644, 0, 0) for name in (f"{LONG[:-1]}m", LONG)]
            assert len(imports.report_names()) == 2
            for name in imports.report_names():
                assert len(os.fsencode(f"{name}.json")) <= 255
            found = [imports.report(name) for name in imports.report_names()]
            assert sorted(json.loads(each or b"")["file"] for each in found) == [
                upload.name for upload in uploads
            ]
            assert json.loads(imports.report(LONG) or b"")["file"] == LONG

    trio.run(main)


def test_a_failure_that_a_flush_has_reported_does_not_change_at_the_last_close(
    tmp_path: Path,
) -> None:
    """RELEASE comes at any time after close(), maybe while tar reads the directory."""

    async def main() -> None:
        async with serving(tmp_path) as served:
            file = served.directory.create("x.tar", 0o644, 0, 0)
            file.opened(1)
            await file.write(0, b"no archive" * 100)
            with pytest.raises(BrokenArchive):
                await file.flush()
            before = served.directory.lookup("x.tar.failed.txt"), served.directory.attributes()
            await file.released()
            after = served.directory.lookup("x.tar.failed.txt"), served.directory.attributes()
            assert before == after
            assert before[0] is after[0] is not None

    trio.run(main)

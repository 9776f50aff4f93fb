"""The directory `import/` of a store, without a mount."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from engine.archive.directory_import import DirectoryImport
from engine.archive.import_options import ImportOptions
from engine.archive.importer import Import
from imgfs.fuse.gather import NativeGathers
from imgfs.imports.directory import ImportDirectory
from imgfs.imports.open_files import is_open
from imgfs.imports.services import ImportServices
from imgfs.imports.uploaded_directory import UploadedDirectory
from imgfs.threads import DiskThreads
from tests.local_engine import LocalEngine


class Served:
    """A directory `import/`, and what it has reported as failed: names and reasons."""

    def __init__(self, engine: LocalEngine, nursery: trio.Nursery, path: Path) -> None:
        """`path` is a directory for temporary files."""
        options = ImportOptions()
        self.failed: list[tuple[str, str]] = []
        self.directory = ImportDirectory(
            ImportServices(
                lambda: Import(engine.store, options),
                lambda name: DirectoryImport(engine.store, options, name),
                _unused,
                path,
                nursery,
                DiskThreads(),
                NativeGathers("none").make,
                self._failed,
                lambda path: is_open(path, None),
            )
        )

    async def mkdir(self, name: str) -> UploadedDirectory:
        """Make a directory in `import/`."""
        return await trio.to_thread.run_sync(self.directory.mkdir, name, 0o755, 0, 0)

    async def _failed(self, name: str, reason: str) -> None:
        self.failed.append((name, reason))


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[Served]:
    """Serve the directory `import/` of a new store below `path`."""
    with trio.fail_after(30), LocalEngine(path / "store") as engine:
        async with trio.open_nursery() as nursery:
            served = Served(engine, nursery, path)
            yield served
            await served.directory.abandon()


def _unused(*_: object) -> Any:
    raise AssertionError("no blob is opened")

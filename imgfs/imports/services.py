"""The services that all uploads of one mount share."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import trio

from engine.archive.directory_import import DirectoryImport
from engine.archive.importer import Import
from engine.spec.digest import Digest
from imgfs.imports.gather import Gather
from imgfs.threads import DiskThreads
from imgfs.vfs.nodes import Reader


class ImportServices(msgspec.Struct, frozen=True):
    """The store, the threads and the native library, as uploads use them.

    - begin: starts the import of an archive
    - begin_directory: starts that of a directory with this name
    - open_blob: opens a blob of the store
    - spool_directory: where temporary files are made
    - make_gather: returns a gather for as long as a file is open
    - failed: is awaited with the name of each upload that is not loaded, and the reason
    - is_open: returns whether another process can write the file of this path in the mount; called
      in a worker thread
    """

    begin: Callable[[], Import]
    begin_directory: Callable[[str], DirectoryImport]
    open_blob: Callable[[Digest], Reader]
    spool_directory: Path
    nursery: trio.Nursery
    workers: DiskThreads
    make_gather: Callable[[], Gather]
    failed: Callable[[str, str], Awaitable[None]]
    is_open: Callable[[str], bool]

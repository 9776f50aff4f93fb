"""A directory on disk with an OCI layout, to which one process at a time adds files.

Nothing below the directory is reached through a symlink. A file gets its name when it is complete
and on the disk. Until then it has a temporary name, `.imgfs-` and 16 hexadecimal digits, at the top
of the directory; what a process that died has left there is removed by the next one.
"""

import fcntl
import os
import re
import stat
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

from engine.archive.entry_content import Content
from engine.archive.file_copy import FileCopy
from engine.closing import Closing
from engine.errors import BrokenArchive, LimitExceeded
from engine.layouts.entry import Entry
from engine.layouts.union import INDEX, LAYOUT, MANIFEST, REPOSITORIES
from engine.spec import oci
from engine.spec.go_json import JSON_LIMIT
from engine.threads import Workers

_DOCUMENTS: Final = (LAYOUT, INDEX, MANIFEST, REPOSITORIES)
_TEMPORARY: Final = re.compile(r"\.imgfs-[0-9a-f]{16}")
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW_FILE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_MOST_SYNCING: Final = 16
"""Files that are on their way to the disk while the next one is copied."""
_SYNC_SIZE: Final = 64 << 20
"""Bytes of a file that are sent to the disk while the next ones are copied."""


class LayoutDirectory(Closing):
    """The directory, made if it is absent, and locked. Not thread-safe."""

    def __init__(self, path: Path) -> None:
        """Wait for the lock; raise OSError, also if the parent directory is absent."""
        self._path = path
        with self._naming(""):
            with suppress(FileExistsError):
                path.mkdir(0o755)
            self._root = os.open(path, _DIRECTORY)
            try:
                fcntl.flock(self._root, fcntl.LOCK_EX)
            except BaseException:
                os.close(self._root)
                raise
        self._open = {"": self._root}
        self._temporary = f".imgfs-{os.urandom(4).hex()}"
        self._numbers = count()
        self._syncer = Workers(1)
        self._syncing: deque[Callable[[], None]] = deque()

    def close(self) -> None:
        """Release the lock when no file is on its way to the disk any more.

        No temporary file stays, not even one at whose making an interrupt came.
        """
        for finish in self._syncing:
            with suppress(OSError):
                finish()
        self._syncer.close()
        with suppress(OSError):
            self._remove(lambda name: name.startswith(self._temporary))
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def documents(self) -> tuple[Entry, ...]:
        """Return the documents of the layout; none of an empty directory.

        Raise BrokenArchive if other files are there instead of a layout, InvalidDocument for a
        version that is not supported, LimitExceeded for a document that is too large.
        """
        with self._naming(""):
            names = [name for name in os.listdir(self._root) if not _TEMPORARY.fullmatch(name)]
        if names and LAYOUT not in names:
            reason = "expected an empty directory or an OCI layout, found other files"
            raise BrokenArchive(str(self._path), reason)
        found = {name: self._read(name) for name in _DOCUMENTS if name in names}
        if LAYOUT in found:
            oci.parse_layout(found[LAYOUT])
        return tuple(Entry.file(name, 0o644, 0, data) for name, data in found.items())

    def remove_temporaries(self) -> None:
        """Remove the files that processes which died have left."""
        with self._naming(""):
            self._remove(_TEMPORARY.fullmatch)

    def has(self, entry: Entry) -> bool:
        """Return whether an entry is there: a blob by its name and size, a document by its bytes.

        The bytes of a blob that is there are not read.
        """
        found = self._stat(entry.path)
        if found is None or not stat.S_ISREG(found.st_mode) or found.st_size != entry.size:
            return False
        return not isinstance(entry.content, bytes) or self._read(entry.path) == entry.content

    def put(self, entry: Entry, content: Content, on_copied: Callable[[int], object]) -> None:
        """Write a file, in the place of any that is there; report each piece by its size in bytes.

        The file has its name after the next `sync`, and nothing stays of one whose content is
        wrong. Raise the errors of the content, and an OSError of this file or an earlier one.
        """
        directory, name = self._place(entry.path)
        mtime = self._mtime(entry)
        with self._naming(entry.path):
            file = _NewFile(self._root, f"{self._temporary}{next(self._numbers):08x}")
        try:
            copy, unsynced = FileCopy(content.descriptor, file.descriptor), 0
            for chunk in content.chunks:
                with self._naming(entry.path):
                    copy.put(chunk)
                on_copied(len(chunk))
                unsynced += len(chunk)
                if unsynced >= _SYNC_SIZE:
                    self._begin(entry.path, file.sync)
                    self._wait(_MOST_SYNCING)
                    unsynced = 0
        except BaseException:
            self._begin(entry.path, file.drop)
            raise
        self._begin(entry.path, partial(file.keep, directory, name, mtime))
        self._wait(_MOST_SYNCING)

    def remove(self, path: str) -> None:
        """Remove a file, if it is there."""
        with self._naming(path), suppress(FileNotFoundError):
            os.unlink(path, dir_fd=self._root)

    def set_time(self, path: str, mtime: int) -> None:
        """Set the time of a directory in seconds, "" for the whole; make it if it is absent."""
        directory = self._directory(path)
        with self._naming(path):
            os.utime(directory, (mtime, mtime))

    def sync(self) -> None:
        """Wait until all files have their names, and make these durable."""
        self._wait(0)
        for path, descriptor in self._open.items():
            with self._naming(path):
                os.fsync(descriptor)

    def _remove(self, is_wanted: Callable[[str], object]) -> None:
        for name in filter(is_wanted, os.listdir(self._root)):
            with suppress(IsADirectoryError):  # a directory of that name is none of ours
                os.unlink(name, dir_fd=self._root)

    def _begin(self, path: str, work: Callable[[], None]) -> None:
        """Begin to work on a file while the next one is copied, after all that was begun before."""

        def run() -> None:
            with self._naming(path):
                work()

        self._syncing.append(self._syncer.begin(run))

    def _wait(self, most: int) -> None:
        """Wait until at most so much work is left; raise its error."""
        while len(self._syncing) > most:
            self._syncing[0]()  # an interrupt leaves it to `close`
            self._syncing.popleft()

    def _mtime(self, entry: Entry) -> int:
        """Return the time for a file; a document is later than the other one that it replaces, so
        that a copy by time and size takes it.
        """
        found = self._stat(entry.path)
        if found is None or not isinstance(entry.content, bytes):
            return entry.mtime
        return max(entry.mtime, int(found.st_mtime) + 1)

    def _stat(self, path: str) -> os.stat_result | None:
        directory, name = self._place(path)
        with self._naming(path), suppress(FileNotFoundError):
            return os.stat(name, dir_fd=directory, follow_symlinks=False)
        return None

    def _read(self, path: str) -> bytes:
        directory, name = self._place(path)
        with self._naming(path), open(os.open(name, _READ, dir_fd=directory), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise BrokenArchive(str(self._path / path), "expected a regular file")
            if found.st_size > JSON_LIMIT:
                subject = str(self._path / path)
                raise LimitExceeded(subject, "bytes of JSON", JSON_LIMIT, found.st_size)
            return file.read()

    def _place(self, path: str) -> tuple[int, str]:
        """Return the directory and the name of a file."""
        parent, _, name = path.rpartition("/")
        return self._directory(parent), name

    def _directory(self, path: str) -> int:
        """Return the descriptor of a directory, made if it is absent."""
        if path not in self._open:
            above, name = self._place(path)
            with self._naming(path):
                with suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=above)
                self._open[path] = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
        return self._open[path]

    @contextmanager
    def _naming(self, path: str) -> Iterator[None]:
        """Let an OSError name the file for which something was attempted."""
        try:
            yield
        except OSError as error:
            error.filename, error.filename2 = str(self._path / path), None
            raise


class _NewFile:
    """An open file with a temporary name, which it keeps until it is on the disk."""

    def __init__(self, root: int, temporary: str) -> None:
        """Make the file at the top of the directory `root`."""
        self._root = root
        self._temporary = temporary
        self.descriptor = os.open(self._temporary, _NEW_FILE, 0o644, dir_fd=root)
        self._is_lost = False

    def sync(self) -> None:
        """Make the bytes durable; the file is lost if that fails, since Linux reports it once."""
        try:
            os.fdatasync(self.descriptor)
        except OSError:
            self._is_lost = True
            raise

    def keep(self, directory: int, name: str, mtime: int) -> None:
        """Set the time, close the file and give it its name; drop it if that fails, or if it is
        lost.
        """
        if self._is_lost:
            self.drop()
            return
        try:
            os.utime(self.descriptor, (mtime, mtime))
            os.fsync(self.descriptor)
            os.rename(self._temporary, name, src_dir_fd=self._root, dst_dir_fd=directory)
        except BaseException:
            self.drop()
            raise
        os.close(self.descriptor)

    def drop(self) -> None:
        """Close the file and remove it."""
        os.close(self.descriptor)
        with suppress(OSError):
            os.unlink(self._temporary, dir_fd=self._root)

"""A directory on disk as the place of work, from which no rename by others leads elsewhere.

Each step goes from the directory that is open to one below it, never through a symlink, or back to
the one that it came from. Few descriptors are open, however deep it goes.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from secrets import token_hex
from typing import Final

from engine.closing import Closing
from engine.errors import AlreadyExists, Unavailable

_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ANYTHING: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_UNFINISHED: Final = b".imgfs-"
"""The first bytes of the name of a file that is to replace another one."""

Identity = tuple[int, int]
"""The device and the inode of a file."""


class OpenDirectory(Closing):
    """A directory, and those below it one at a time. Not thread-safe.

    Names are those of entries in the directory that `descriptor` is open for at the moment. An
    OSError has the whole path.
    """

    def __init__(self, path: bytes) -> None:
        """Open the first directory, "" for the current one; raise OSError."""
        self._path = path
        self._names: list[bytes] = []
        self._above: list[Identity] = []
        self._top = os.open(path or b".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.descriptor = os.dup(self._top)

    def close(self) -> None:
        os.close(self.descriptor)
        os.close(self._top)

    def path(self, name: bytes) -> tuple[bytes, ...]:
        """Return the names that lead from the first directory to an entry."""
        return (*self._names, name)

    def make_directory(self, name: bytes) -> None:
        """Make a directory with mode 0700, unless something is there."""
        with self.naming(name), suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=self.descriptor)

    def enter(self, name: bytes) -> None:
        """Go to a directory; raise AlreadyExists if another file is there.

        One of the caller's own that cannot be searched gets mode 0700, since no way leads back.
        """
        with self.naming(name):
            try:
                below = os.open(name, _DIRECTORY, dir_fd=self.descriptor)
            except NotADirectoryError:
                raise AlreadyExists("file", self._shown(name)) from None
            found = os.fstat(below)
            if not found.st_mode & stat.S_IXUSR and found.st_uid == os.geteuid():
                os.chmod(f"/proc/self/fd/{below}", stat.S_IRWXU)
        self._above.append(_identity(self.descriptor))
        self._names.append(name)
        self._go(below)

    def leave(self) -> bytes:
        """Go back to the directory above; return the name of the one that was left.

        Raise Unavailable if it has been moved.
        """
        with self.naming(b"."):
            self._go(os.open(b"..", _DIRECTORY, dir_fd=self.descriptor))
        name = self._names.pop()
        if _identity(self.descriptor) != self._above.pop():
            raise Unavailable("directory", self._shown(name))
        return name

    @contextmanager
    def replacing(self, name: bytes) -> Iterator[bytes]:
        """Provide the name by which a file is to be made that gets the name `name`.

        A file that has it keeps it until the new one is complete, and after an error, which removes
        the new one. Raise AlreadyExists for a directory.
        """
        with self.naming(name):
            made = _UNFINISHED + token_hex(8).encode() if self._has_file(name) else name
        try:
            yield made
            if made != name:
                with self.naming(name):
                    os.rename(made, name, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)
                    with suppress(FileNotFoundError):  # two links of one file are left as they are
                        os.unlink(made, dir_fd=self.descriptor)
        except FileExistsError:  # somebody else has made a file of that name
            raise
        except BaseException as error:
            if isinstance(error, OSError) and error.filename == self._shown(made):
                error.filename = self._shown(name)
            with suppress(OSError):
                os.unlink(made, dir_fd=self.descriptor)
            raise

    def _has_file(self, name: bytes) -> bool:
        try:
            found = os.lstat(name, dir_fd=self.descriptor)
        except FileNotFoundError:
            return False
        if stat.S_ISDIR(found.st_mode):
            raise AlreadyExists("directory", self._shown(name))
        return True

    def create(self, name: bytes) -> int:
        """Return the descriptor of a new file, to be written with mode 0600."""
        with self.naming(name):
            return os.open(name, _NEW_FILE, 0o600, dir_fd=self.descriptor)

    def link(self, path: Sequence[bytes], name: bytes) -> None:
        """Make a hard link to the entry at a path of `path`."""
        *directories, last = path
        here = os.dup(self._top)
        try:
            with self.naming(name):
                for directory in directories:
                    above, here = here, os.open(directory, _DIRECTORY, dir_fd=here)
                    os.close(above)
                os.link(
                    last,
                    name,
                    src_dir_fd=here,
                    dst_dir_fd=self.descriptor,
                    follow_symlinks=False,
                )
        finally:
            os.close(here)

    @contextmanager
    def pinned(self, name: bytes, file_type: int) -> Iterator[str]:
        """Provide a path that leads to an entry whatever gets its name meanwhile.

        Raise Unavailable if it is of another type than `file_type`.
        """
        with self.naming(name):
            descriptor = os.open(name, _ANYTHING, dir_fd=self.descriptor)
            try:
                if stat.S_IFMT(os.fstat(descriptor).st_mode) != file_type:
                    raise Unavailable("file", self._shown(name))
                yield f"/proc/self/fd/{descriptor}"
            finally:
                os.close(descriptor)

    @contextmanager
    def naming(self, name: bytes) -> Iterator[None]:
        """Let an OSError name the entry for which something was attempted."""
        try:
            yield
        except OSError as error:
            error.filename, error.filename2 = self._shown(name), None
            raise

    def _go(self, descriptor: int) -> None:
        left, self.descriptor = self.descriptor, descriptor
        os.close(left)

    def _shown(self, name: bytes) -> str:
        return os.fsdecode(os.path.join(self._path, *self._names, name))


def _identity(descriptor: int) -> Identity:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino

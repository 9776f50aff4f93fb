"""A directory on a disk that hangs on demand: a mirror file system, served by another process with
pyfuse3.

This module runs as that program with the arguments SOURCE, MOUNTPOINT and CONTROL. While CONTROL
has a file named after an operation (lookup, open, read, mkdir), the operation waits, and CONTROL
has a file `waiting-<number>` for each that does.
"""

import errno
import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, RequestContext

from tests.waiting import wait_until

SUBTYPE = "stuckdisk"


class StuckDisk:
    """The controls of a disk that hangs."""

    def __init__(self, path: Path, control: Path, process: "subprocess.Popen[bytes]") -> None:
        self.path = path
        self.process = process
        self._control = control

    def hang(self, operation: str) -> None:
        (self._control / operation).touch()

    def resume(self) -> None:
        for file in self._control.iterdir():
            if not file.name.startswith("waiting-"):
                file.unlink()

    @property
    def waiting(self) -> int:
        """Return how many operations hang."""
        return sum(file.name.startswith("waiting-") for file in self._control.iterdir())

    def wait_for(self, count: int) -> None:
        wait_until(lambda: self.waiting >= count, f"{count} operations hang")


@contextmanager
def stuck_disk(path: Path, scratch: Path) -> Iterator[StuckDisk]:
    """Put the directory `path` on such a disk until the end of the block."""
    source, control = scratch / f"{path.name}.real", scratch / f"{path.name}.control"
    path.rename(source)
    path.mkdir(mode=0o700)
    control.mkdir()
    command = [sys.executable, "-m", "tests.stuck_disk", str(source), str(path), str(control)]
    with subprocess.Popen(command) as process:
        try:
            wait_until(lambda: os.path.ismount(path) or process.poll() is not None, "it is there")
            yield StuckDisk(path, control, process)
        finally:
            process.kill()  # this ends every operation that waits
            process.wait()
            subprocess.run(["fusermount3", "-u", "-z", str(path)], check=False)
            path.rmdir()
            source.rename(path)
            shutil.rmtree(control)


class _Mirror(pyfuse3.Operations):
    """The files below a directory; each inode is known by its path."""

    def __init__(self, source: Path, control: Path) -> None:
        super().__init__()
        self._paths = {pyfuse3.ROOT_INODE: source}
        self._numbers = {source: pyfuse3.ROOT_INODE}
        self._control = control
        self._count = itertools.count()

    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        await self._pass("lookup")
        path = self._paths[parent_inode] / os.fsdecode(name)
        number = self._numbers.setdefault(path, len(self._numbers) + 1)
        self._paths[number] = path
        return self._attributes(number)

    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        return self._attributes(inode)

    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        await self._pass("open")
        descriptor = os.open(self._paths[inode], os.O_RDONLY)
        return FileInfo(fh=descriptor, direct_io=True, keep_cache=False)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        await self._pass("read")
        return os.pread(fh, size, off)

    async def flush(self, fh: int) -> None:
        """Do nothing: no bytes are written."""

    async def release(self, fh: int) -> None:
        os.close(fh)

    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext
    ) -> EntryAttributes:
        await self._pass("mkdir")
        raise FUSEError(errno.EIO)

    def _attributes(self, inode: int) -> EntryAttributes:
        try:
            status = os.lstat(self._paths[inode])
        except OSError as error:
            raise FUSEError(error.errno or errno.EIO) from None
        reported = EntryAttributes()
        reported.st_ino = inode
        reported.entry_timeout = reported.attr_timeout = 0
        for name in ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size"):
            setattr(reported, name, getattr(status, name))
        return reported

    async def _pass(self, operation: str) -> None:
        mark = self._control / f"waiting-{next(self._count)}"
        while (self._control / operation).exists():
            mark.touch()
            await trio.sleep(0.01)
        mark.unlink(missing_ok=True)


def _main(source: str, mountpoint: str, control: str) -> None:
    options = {*pyfuse3.default_options, "fsname=stuck", f"subtype={SUBTYPE}"}
    pyfuse3.init(_Mirror(Path(source), Path(control)), mountpoint, options)
    trio.run(pyfuse3.main, 1, 1000)
    pyfuse3.close(unmount=False)


if __name__ == "__main__":
    _main(*sys.argv[1:])

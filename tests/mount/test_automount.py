"""A mount at the first look, as systemd's automount units do it."""

import ctypes
import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.mounts import IMGFS, run, started

_READY, _FAILED = 0x9360, 0x9361  # ioctls of linux/auto_fs.h
_PACKET = struct.Struct("=iiII")
"""The beginning of a struct autofs_v5_packet: its protocol, type, token and device."""


@contextmanager
def automount(path: Path) -> Iterator[tuple[int, int]]:
    """Let a directory wait for a mount by this process group; provide the pipe on which the kernel
    asks for it, and a descriptor of the directory.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    read_end, write_end = os.pipe2(os.O_DIRECT)
    options = f"fd={write_end},pgrp={os.getpgrp()},minproto=5,maxproto=5,direct"
    if libc.mount(b"test", os.fsencode(path), b"autofs", 0, options.encode()):
        os.close(read_end)
        pytest.skip(f"autofs cannot be mounted here: {os.strerror(ctypes.get_errno())}")
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield read_end, directory
    finally:
        os.close(directory)
        run("umount", "-l", path)
        os.close(read_end)
        os.close(write_end)


def test_who_looks_at_a_waiting_directory_sees_the_images(tmp_path: Path) -> None:
    path = tmp_path / "mnt"
    path.mkdir()
    mount = [*IMGFS, "--store", str(tmp_path / "store"), "mount", str(path)]
    with automount(path) as (requests, directory):
        with started("ls", path, stdout=subprocess.PIPE, process_group=0) as looking:
            _, _, token, _ = _PACKET.unpack_from(os.read(requests, 4096))
            try:
                subprocess.run(mount, check=True, timeout=60)
            except BaseException:
                fcntl.ioctl(directory, _FAILED, token)
                raise
            fcntl.ioctl(directory, _READY, token)
            assert looking.communicate()[0] == b"import\n"
        run(*IMGFS, "umount", path)

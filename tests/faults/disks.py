"""Small and unusual file systems, mounted for the length of a block."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


@contextmanager
def mounted(path: Path, *options: str) -> Iterator[Path]:
    """Mount with `mount OPTIONS… path`; skip the test where this user or machine cannot."""
    path.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *options, str(path)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount: {done.stderr.decode().strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@contextmanager
def memory(path: Path, size: str) -> Iterator[Path]:
    with mounted(path, "-t", "tmpfs", "-o", f"size={size}", "tmpfs"):
        yield path


@contextmanager
def ext4(path: Path, size: int) -> Iterator[Path]:
    """Mount an ext4 file system on a loop device."""
    with _on_a_loop_device(path, size, "mkfs.ext4", "-q", "-m", "0"):
        yield path


@contextmanager
def btrfs(path: Path, size: int) -> Iterator[Path]:
    """Mount a btrfs file system on a loop device, which can clone files."""
    with _on_a_loop_device(path, size, "mkfs.btrfs", "-q"):
        yield path


@contextmanager
def _on_a_loop_device(path: Path, size: int, program: str, *options: str) -> Iterator[None]:
    # Debian has it in /sbin, which is not on the PATH of a root shell started with su.
    mkfs = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if mkfs is None:
        pytest.skip(f"no {program}")
    image = path.with_suffix(".image")
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run([mkfs, *options, str(image)], check=True)
    try:
        with mounted(path, "-o", "loop", str(image)):
            yield
    finally:
        image.unlink()


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """Make what is at `path` read-only."""
    with mounted(path, "--bind", str(path)):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(path)], check=True)
        yield


def fill(directory: Path) -> Path:
    """Write a file that takes all free space; return its path."""
    path = directory / "filler"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    for size in (1 << 20, 4096, 1):
        with suppress(OSError):
            while os.write(descriptor, bytes(size)):
                pass
    with suppress(OSError):
        os.fsync(descriptor)
    os.close(descriptor)
    return path

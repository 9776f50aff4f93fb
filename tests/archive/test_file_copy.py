"""Copies by reflink, in the kernel and by writes."""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.archive.file_copy import FileCopy

DATA = os.urandom(300_000)
CHUNKS = [DATA[:100_000], DATA[100_000:100_001], DATA[100_001:]]


@pytest.fixture
def source(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "source").write_bytes(DATA)
    descriptor = os.open(tmp_path / "source", os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def copied(source: int | None, target: Path) -> bytes:
    descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        copy = FileCopy(source, descriptor)
        for chunk in CHUNKS:
            copy.put(chunk)
    finally:
        os.close(descriptor)
    return target.read_bytes()


def refusing(number: int) -> Callable[..., int]:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    return refuse


def forbidden(*_: object) -> int:
    raise AssertionError("needless")


def test_bytes_without_a_file_are_written(tmp_path: Path) -> None:
    assert copied(None, tmp_path / "target") == DATA


def test_a_file_is_copied_in_the_kernel(
    source: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pwrite", forbidden)
    assert copied(source, tmp_path / "target") == DATA


def test_a_file_is_copied_to_another_file_system(source: int) -> None:
    target = Path(f"/dev/shm/imgfs-{os.urandom(8).hex()}")
    try:
        assert copied(source, target) == DATA
    finally:
        target.unlink()


@pytest.mark.parametrize("number", ["EXDEV", "EOPNOTSUPP", "ENOSYS", "EINVAL", "EPERM"])
def test_bytes_are_written_where_the_kernel_does_not_copy(
    source: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: str
) -> None:
    monkeypatch.setattr(os, "copy_file_range", refusing(getattr(errno, number)))
    assert copied(source, tmp_path / "target") == DATA


def test_a_full_disk_is_no_reason_to_write(
    source: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "copy_file_range", refusing(errno.ENOSPC))
    monkeypatch.setattr(os, "pwrite", forbidden)
    with pytest.raises(OSError, match="No space left"):
        copied(source, tmp_path / "target")


def test_a_source_that_was_cut_short_is_written_as_it_was_read(source: int, tmp_path: Path) -> None:
    os.truncate(tmp_path / "source", 100_500)
    assert copied(source, tmp_path / "target") == DATA


@pytest.mark.parametrize("call", ["copy_file_range", "pwrite"])
def test_short_copies_go_on(
    source: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    real = getattr(os, call)

    def short_range(source: int, target: int, length: int, *offsets: int) -> int:
        return int(real(source, target, min(length, 7000), *offsets))

    def short_write(target: int, data: memoryview, offset: int) -> int:
        return int(real(target, data[:7000], offset))

    monkeypatch.setattr(os, call, short_write if call == "pwrite" else short_range)
    assert copied(None if call == "pwrite" else source, tmp_path / "target") == DATA


def test_what_is_cloned_is_not_copied(
    source: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on btrfs and XFS, which share the bytes when they are asked to."""
    real_write = os.pwrite

    def clone(target: int, request: int, source: int) -> int:
        assert request == 0x40049409
        return real_write(target, os.pread(source, len(DATA), 0), 0)

    monkeypatch.setattr(fcntl, "ioctl", clone)
    monkeypatch.setattr(os, "copy_file_range", forbidden)
    monkeypatch.setattr(os, "pwrite", forbidden)
    assert copied(source, tmp_path / "target") == DATA

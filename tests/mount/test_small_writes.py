"""Archives written in small pieces load the same with and without the native library."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.mounts import Mounted, run, started, write
from tests.waiting import wait_until

APP = ImageParts(layers=[archives.layer("big", Random(1).randbytes(5_000_000))])
ARCHIVE = archives.docker_archive((APP, ["app:1"]))


@contextmanager
def opened(path: Path, flags: int = os.O_CREAT) -> Iterator[int]:
    descriptor = os.open(path, os.O_WRONLY | flags, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def imported(mounted: Mounted, name: str = "x.tar") -> bool:
    report = mounted.report(name)
    assert report["bytes"] == len(ARCHIVE)
    return bool(report["status"] == "loaded") and mounted.names() == ["app:1", "import"]


@pytest.mark.parametrize("size", [1000, 10_240, 32_768, 65_536, 1_000_001])
def test_writes_of_every_size_load(mounted_each_way: Mounted, size: int) -> None:
    write(mounted_each_way.drop / "x.tar", ARCHIVE, size)
    assert imported(mounted_each_way)


def test_each_write_extends_the_size(mounted_each_way: Mounted) -> None:
    with opened(mounted_each_way.drop / "x.tar") as file:
        for end in range(100, 1100, 100):
            os.write(file, ARCHIVE[end - 100 : end])
            assert os.fstat(file).st_size == end
            assert os.stat(mounted_each_way.drop / "x.tar").st_size == end
        assert mounted_each_way.report()["bytes"] == 1000
        os.write(file, ARCHIVE[1000:])
    assert imported(mounted_each_way)


def test_a_gap_can_be_filled_later(mounted_each_way: Mounted) -> None:
    chance = Random(2)
    pieces = [(at, ARCHIVE[at : at + 9999]) for at in range(0, len(ARCHIVE), 9999)]
    for place in range(0, len(pieces), 7):
        part = pieces[place : place + 7]
        chance.shuffle(part)
        pieces[place : place + 7] = part
    with opened(mounted_each_way.drop / "x.tar") as file:
        for offset, data in pieces:
            assert os.pwrite(file, data, offset) == len(data)
    assert imported(mounted_each_way)


def test_bytes_are_not_written_twice(mounted_each_way: Mounted) -> None:
    with opened(mounted_each_way.drop / "x.tar") as file:
        for start in range(0, 50_000, 10_000):
            os.write(file, ARCHIVE[start : start + 10_000])
        with pytest.raises(OSError, match="seek") as refused:
            os.pwrite(file, ARCHIVE[30_000:40_000], 30_000)
        assert refused.value.errno == errno.ESPIPE
        os.write(file, ARCHIVE[50_000:])
    assert imported(mounted_each_way)


def test_a_file_that_is_truncated_to_zero_can_be_written_anew(mounted_each_way: Mounted) -> None:
    with opened(mounted_each_way.drop / "x.tar") as file:
        for _ in range(20):
            os.write(file, b"no archive at all")
        os.ftruncate(file, 0)
        os.lseek(file, 0, os.SEEK_SET)
        for start in range(0, len(ARCHIVE), 20_000):
            os.write(file, ARCHIVE[start : start + 20_000])
    assert imported(mounted_each_way)


def test_two_processes_can_write_one_file(mounted_each_way: Mounted) -> None:
    path = mounted_each_way.drop / "x.tar"
    with opened(path) as one, opened(path, 0) as two:
        for start in range(0, len(ARCHIVE), 20_000):
            descriptor = (one, two)[start // 20_000 % 2]
            os.pwrite(descriptor, ARCHIVE[start : start + 20_000], start)
    assert imported(mounted_each_way)


def test_a_file_can_be_appended_to(mounted_each_way: Mounted) -> None:
    path = mounted_each_way.drop / "x.tar"
    half = len(ARCHIVE) // 2
    with opened(path, os.O_CREAT | os.O_APPEND) as file:
        for start in range(0, len(ARCHIVE), half):
            for at in range(start, min(start + half, len(ARCHIVE)), 10_000):
                os.write(file, ARCHIVE[at : min(at + 10_000, start + half)])
            os.fsync(file)
    assert imported(mounted_each_way)


def test_more_writers_than_gathers_load(mounted_each_way: Mounted) -> None:
    """The writers write by turns."""
    count = 70
    paths = [mounted_each_way.drop / f"{number}.tar" for number in range(count)]
    small = archives.docker_archive((ImageParts(), ["app:1"]))
    files = [os.open(path, os.O_WRONLY | os.O_CREAT, 0o644) for path in paths]
    for start in range(0, len(small), 3000):
        for file in files:
            os.write(file, small[start : start + 3000])
    for file in files:
        os.close(file)
    assert mounted_each_way.status("imports") == {"loaded": count}


def test_a_broken_archive_fails_while_it_is_written(mounted_each_way: Mounted) -> None:
    """The writer need not write the rest."""
    archive = ARCHIVE[:1000] + b"x" * 100_000_000
    with pytest.raises(OSError, match="message") as refused:
        write(mounted_each_way.drop / "x.tar", archive, 10_000)
    assert refused.value.errno == errno.EBADMSG
    assert mounted_each_way.report()["bytes"] < 30_000_000
    assert mounted_each_way.report()["status"] == "failed"


def test_the_file_of_a_killed_writer_can_be_written_anew(mounted_each_way: Mounted) -> None:
    script = "import os, sys\nwhile True: os.write(1, b'\\0' * 10_000)"
    with opened(mounted_each_way.drop / "x.tar") as file:
        with started(sys.executable, "-c", script, stdout=file):
            wait_until(lambda: os.fstat(file).st_size > 5_000_000, "it writes")
        os.ftruncate(file, 0)
        os.pwrite(file, ARCHIVE, 0)
    assert imported(mounted_each_way)
    run(sys.executable, "-m", "imgfs", "--store", mounted_each_way.store, "fsck", "--deep")

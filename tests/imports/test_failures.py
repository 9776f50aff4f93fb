"""Tests of the reports about failed loads."""

import errno
import os

import pytest

from engine.errors import BrokenArchive
from imgfs.imports.failures import Failures, destined, is_reserved
from imgfs.vfs.nodes import BytesFile


@pytest.mark.parametrize(
    ("name", "final"),
    [
        (".x.tar.Ab3xYz", "x.tar"),
        (".tmp-x.tar123456", "x.tar"),
        ("x.tar.part", "x.tar"),
        ("x.tar.partial~", "x.tar"),
        ("x.tar.wuhaban5.partial", "x.tar"),
        ("x.tar.crdownload", "x.tar"),
        ("x.tar", "x.tar"),
        (".x.tar", ".x.tar"),
        (".part", ".part"),
        (".tmp-1", ".tmp-1"),
    ],
)
def test_a_temporary_name_stands_for_the_final_one(name: str, final: str) -> None:
    assert destined(name) == final


def test_names_of_reports_are_reserved() -> None:
    assert is_reserved("x.tar.failed.txt")
    assert is_reserved(".x.tar.failed.txt.Ab3xYz"), "as rsync makes it"
    assert not is_reserved("failed.txt")
    assert not is_reserved("x.tar")


def test_a_failure_is_reported_until_the_file_is_loaded_or_the_report_removed() -> None:
    failures = Failures()
    error = BrokenArchive("", "is truncated")
    failures.add(".x.tar.Ab3xYz", str(error), error, 5)
    failures.add("y\udcff.tar", "bad", error, 6)
    assert [name for name, _ in failures.children()] == [
        "x.tar.failed.txt",
        "y\udcff.tar.failed.txt",
    ]
    file = failures.lookup("x.tar.failed.txt")
    assert isinstance(file, BytesFile)
    assert file.mtime == 5
    assert file.data.startswith(b"x.tar was not loaded: archive: is truncated\n\nCopy it again if")
    assert failures.lookup("x.tar") is None
    failures.end(".x.tar.Zz9999")
    failures.remove("y\udcff.tar.failed.txt")
    assert list(failures.children()) == []


def test_a_report_names_the_images_that_were_loaded_before() -> None:
    failures = Failures()
    error = BrokenArchive("", "is truncated")
    failures.add("x.tar", str(error), error, 5, ("a:1", "b:1"))
    file = failures.lookup("x.tar.failed.txt")
    assert isinstance(file, BytesFile)
    assert b"loaded of it before is kept: a:1, b:1." in file.data
    assert b"Nothing" not in file.data


def test_a_later_report_has_another_key() -> None:
    failures = Failures()
    error = BrokenArchive("", "is truncated")
    keys = set()
    for time in (1, 2):
        failures.add("x.tar", "bad", error, time)
        file = failures.lookup("x.tar.failed.txt")
        assert file is not None
        keys.add(file.key)
    assert len(keys) == 2


def test_old_reports_are_dropped() -> None:
    failures = Failures()
    for number in range(2000):
        failures.add(f"{number:04}", "bad", OSError(errno.EIO, os.strerror(errno.EIO)), 0)
    names = [name for name, _ in failures.children()]
    assert len(names) == 1000
    assert names[-1] == "1999.failed.txt"


def test_the_report_about_a_long_name_has_a_name_that_can_be_listed() -> None:
    failures = Failures()
    error = BrokenArchive("", "is truncated")
    names = [f"{'é' * 127}{end}" for end in "ab"]
    for name in (*names, "n" * 244, "n" * 245):
        failures.add(name, "bad", error, 0)
    files = [file for file, _ in failures.children()]
    assert f"{'n' * 244}.failed.txt" in files, "which has room for it"
    assert len(files) == 4
    for file in files:
        assert len(os.fsencode(file)) <= 255
        assert file.encode().endswith(b".failed.txt")
        assert failures.lookup(file) is not None
    failures.end(names[0])
    failures.remove(f"{'n' * 244}.failed.txt")
    assert len(list(failures.children())) == 2

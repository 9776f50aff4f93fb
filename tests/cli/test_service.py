"""Messages for a service manager and its journal."""

import logging
import os
import socket
from pathlib import Path

import pytest

from imgfs.cli.support import service


def test_a_state_reaches_the_manager_by_path_and_by_abstract_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for address in (str(tmp_path / "notify"), f"@imgfs-test-{os.getpid()}"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(address.replace("@", "\0"))
            manager.settimeout(10)
            monkeypatch.setenv("NOTIFY_SOCKET", address)
            service.notify("READY=1")
            assert manager.recv(100) == b"READY=1"
            service.notify("STATUS=Mounted on /mnt/\udcff")
            assert manager.recv(100) == b"STATUS=Mounted on /mnt/?"


@pytest.mark.parametrize("address", ["", "/nowhere/notify", "relative"])
def test_a_state_that_nobody_receives_is_dropped(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    service.notify("READY=1")


def test_each_line_for_the_journal_starts_with_its_level() -> None:
    formatter = service.JournalFormatter()
    lines = [
        formatter.format(logging.LogRecord("x", level, "", 0, "a\nb", (), None))
        for level in (logging.CRITICAL, logging.WARNING, logging.INFO, logging.DEBUG)
    ]
    assert lines == ["<3>a\n<3>b", "<4>a\n<4>b", "<6>a\n<6>b", "<7>a\n<7>b"]


def test_the_journal_is_known_by_the_file_that_standard_error_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "log").open("w") as file:
        monkeypatch.setattr("sys.stderr", file)
        status = os.fstat(file.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert service.is_journal()
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino + 1}")
        assert not service.is_journal()
    monkeypatch.delenv("JOURNAL_STREAM")
    assert not service.is_journal()

"""A mount as a service of systemd: readiness, the journal, the units of the package."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.mounts import foreground, lacking

PACKAGING = Path(__file__).parents[2] / "packaging"


def _serve(tmp_path: Path, **environment: str) -> list[str]:
    """Mount in the foreground until the mount says that it is ready; return what it notified."""
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(60)
        environment = {**os.environ, "NOTIFY_SOCKET": address, **environment}
        with foreground(tmp_path / "store", mountpoint, env=environment) as process:
            ready = manager.recv(1000).decode()
            assert os.path.ismount(mountpoint)
            assert os.listdir(mountpoint) == ["import"]
            process.terminate()
            assert process.wait(30) == 0
        return [ready, manager.recv(1000).decode()]


@pytest.mark.skipif(bool(lacking()), reason=lacking() or "")
def test_a_mount_in_the_foreground_says_when_it_is_ready_and_when_it_stops(tmp_path: Path) -> None:
    ready, stopping = _serve(tmp_path)
    assert ready == f"READY=1\nSTATUS=Mounted on {tmp_path / 'mnt'}"
    assert stopping == "STOPPING=1"


def test_every_unit_is_one_that_systemd_accepts(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    program = tmp_path / "imgfs"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    units = sorted((PACKAGING / "systemd").iterdir())
    assert {unit.name for unit in units} >= {"imgfs@.service", "imgfs-gc.service", "imgfs-gc.timer"}
    for unit in units:
        text = unit.read_text().replace("/usr/bin/imgfs", str(program))
        (tmp_path / unit.name.replace("@", "@mnt-images")).write_text(text)
    copies = [str(tmp_path / unit.name.replace("@", "@mnt-images")) for unit in units]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *copies],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")

"""Faults under a mount: its process reports them, and serves again when they end."""

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.faults import disks, poor, stores
from tests.faults.stores import copied, leftovers
from tests.faults.test_signals import is_stopped
from tests.local_engine import LocalEngine
from tests.mounts import Mounted, run, write
from tests.waiting import wait_until

SMALL = archives.docker_archive((ImageParts(), ["small:1"]))
LAYER = archives.layer("large", os.urandom(200_000))
LARGE = archives.docker_archive((ImageParts(layers=[LAYER]), ["large:1"]))


@pytest.fixture
def served(store: Path, mount: Callable[..., Mounted]) -> Mounted:
    """Mount the store that has `base:1`."""
    assert store.name == "store"
    return mount()


def check_mount(mounted: Mounted) -> None:
    """Check that the same process lists, reads, loads and renames."""
    mounted.load(LARGE, "after.tar")
    os.rename(mounted / "large:1", mounted / "large:2")
    assert {"base:1", "large:2"} <= set(mounted.names())
    assert (mounted / "large:2/index.json").read_bytes()
    os.kill(mounted.pid, 0)
    with LocalEngine(mounted.store) as engine:
        wait_until(lambda: leftovers(engine) == [], "the load has let go of what it held")


def expect_errno(expected: int, call: Callable[..., object], *arguments: object) -> None:
    with pytest.raises(OSError) as caught:  # noqa: PT011 (the errno is what is asserted)
        call(*arguments)
    assert caught.value.errno == expected


def test_a_load_fails_when_the_disk_fills_up(
    tmp_path: Path, store: Path, mount: Callable[..., Mounted]
) -> None:
    """The lease can neither be made nor removed then."""
    if os.getuid():
        pytest.skip("a small disk needs root")
    with disks.memory(tmp_path / "disk", "8m") as disk:
        copied(store, disk / "store")
        mounted = mount("disk/store")
        descriptor = os.open(mounted.drop / "x.tar", os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, stores.APP[:150_000])
        os.fsync(descriptor)
        filler = disks.fill(disk)
        expect_errno(errno.ENOSPC, write_all, descriptor, stores.APP[150_000:])
        expect_errno(errno.ENOSPC, mounted.load, LARGE, "y.tar")
        assert mounted.names() == ["base:1", "import"]
        assert (mounted / "base:1/index.json").read_bytes()
        filler.unlink()
        check_mount(mounted)
        run("fusermount3", "-u", mounted.path)


def write_all(descriptor: int, data: bytes) -> None:
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def test_a_mount_serves_reads_while_the_disk_is_read_only(served: Mounted) -> None:
    with disks.read_only(served.store):
        expect_errno(errno.EROFS, served.load, LARGE)
        assert "Read-only file system" in served.report()["error"]
        assert (served / "base:1/index.json").read_bytes()
    check_mount(served)


def test_a_mount_without_free_descriptors_recovers(served: Mounted) -> None:
    blob = next((served / "base:1/blobs/sha256").iterdir())
    before = resource.prlimit(served.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(served.pid, resource.RLIMIT_NOFILE, (3, before[1]))  # 0 to 2 are always in use
    expect_errno(errno.EMFILE, blob.read_bytes)
    expect_errno(errno.EMFILE, served.load, LARGE)
    assert served.names() == ["base:1", "import"]
    resource.prlimit(served.pid, resource.RLIMIT_NOFILE, before)
    assert blob.read_bytes()
    check_mount(served)


SPOIL = """
import sys
with open(sys.argv[1], "r+b") as file:
    good = file.read()[4096:]
    file.seek(4096)
    file.write(bytes([0xa5]) * len(good))
    file.flush()
    print(flush=True)
    sys.stdin.read()
    file.seek(4096)
    file.write(good)
"""


def test_a_mount_reports_a_damaged_database_and_recovers(served: Mounted) -> None:
    command = [sys.executable, "-c", SPOIL, str(served.store / "imgfs.db")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as other:
        assert other.stdout is not None
        other.stdout.readline()
        expect_errno(errno.EIO, os.listdir, served.path)
        expect_errno(errno.EIO, served.load, LARGE)
        other.communicate()
    assert "damaged: run imgfs fsck" in served.report()["error"]
    assert served.names() == ["base:1", "import"]
    check_mount(served)


def test_a_mount_survives_sigpipe_and_sigstop(served: Mounted) -> None:
    descriptor = os.open(served.drop / "x.tar", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, stores.APP[:150_000])
    os.fsync(
        descriptor
    )  # it is is_stopped outside a transaction, since others would wait for its lock
    os.kill(served.pid, signal.SIGPIPE)
    os.kill(served.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: is_stopped(served.pid), "it has stopped")
        with LocalEngine(
            served.store
        ) as engine:  # a new process would wait until our descriptor is closed
            stores.tag(engine)
    finally:
        os.kill(served.pid, signal.SIGCONT)
    write_all(descriptor, stores.APP[150_000:])
    assert served.names() == ["app:1", "base:1", "base:2", "import"]
    check_mount(served)


def test_a_mount_works_on_a_file_system_without_links_and_attributes(
    tmp_path: Path, store: Path, mount: Callable[..., Mounted]
) -> None:
    """Writes out of order are loaded too; they need a file without a name."""
    if reason := poor.lacking():
        pytest.skip(reason)
    mounted = mount(launcher=(sys.executable, "-m", "tests.faults.poor"))
    assert mounted.store == store
    descriptor = os.open(mounted.drop / "x.tar", os.O_WRONLY | os.O_CREAT)
    os.pwrite(descriptor, SMALL[4096:], 4096)
    os.pwrite(descriptor, SMALL[:4096], 0)
    os.close(descriptor)
    write(mounted.drop / "y.tar", stores.APP)
    assert mounted.names() == ["app:1", "base:1", "import", "small:1"]
    assert {path.name for path in tmp_path.iterdir()} == {"store", "mnt"}
    check_mount(mounted)

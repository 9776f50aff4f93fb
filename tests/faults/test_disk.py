"""Disks that are full, read-only or lack features, and a process without free descriptors."""

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count, islice
from pathlib import Path

import pytest

from engine.errors import StoreError
from tests import archives
from tests.archives import ImageParts
from tests.cli.command import Command, Done, refusal, succeeded
from tests.faults import disks, poor, stores
from tests.faults.stores import OPERATIONS, copied, leftovers, listed
from tests.local_engine import LocalEngine
from tests.mounts import IMGFS

LARGE = archives.docker_archive(
    (ImageParts(layers=[archives.layer("large", os.urandom(1 << 20) * 24)]), ["large:1"])
)
COMMANDS = {
    "load": ("load",),
    "tag": ("tag", "base:1", "base:2"),
    "save": ("save", "-o", "/dev/null", "base:1"),
    "rm": ("rm", "base:1"),
}


def test_an_archive_that_does_not_fit_leaves_nothing(disk: Path) -> None:
    imgfs = Command(disk / "store")
    with LocalEngine(imgfs.store) as engine:
        before = listed(engine)
        said = refusal(imgfs("load", stdin=LARGE))
        assert said.startswith("standard input: No space left on device; free space on the store")
        with pytest.raises(OSError, match="No space left") as caught:
            stores.load(engine, LARGE)
        assert caught.value.errno == errno.ENOSPC
        assert (listed(engine), leftovers(engine)) == (before, [])
        stores.load(engine)
    assert succeeded(imgfs("images", "-q")).lines


def test_commands_that_add_report_a_full_disk_and_succeed_later(disk: Path) -> None:
    imgfs = Command(disk / "store")
    with LocalEngine(imgfs.store) as engine:
        before = listed(engine)
        filler = disks.fill(disk)
        for name in ("load", "tag"):
            said = refusal(imgfs(*COMMANDS[name], stdin=stores.APP))
            assert "No space left on device; free space on the store's disk" in said
        assert listed(engine) == before
        filler.unlink()
        stores.collect(engine)
        assert (listed(engine), leftovers(engine)) == (before, [])
        stores.load(engine)
    for command in COMMANDS.values():
        assert succeeded(imgfs(*command, stdin=stores.APP))


def test_a_layout_survives_a_save_for_which_the_disk_is_too_small(
    disk: Path, imgfs: Command
) -> None:
    layout = disk / "layout"
    succeeded(imgfs("load", stdin=LARGE))
    succeeded(imgfs("save", "-o", f"{layout}/", "base:1"))
    before = {path: path.read_bytes() for path in layout.rglob("*") if path.is_file()}
    said = refusal(imgfs("save", "-o", layout, "large:1"))
    assert said.startswith(f"{layout}/blobs/sha256/")
    assert said.endswith(": No space left on device")
    assert {path: path.read_bytes() for path in before} == before
    assert not list(layout.glob(".imgfs-*"))
    succeeded(imgfs("save", "-o", layout, "base:1"))


def test_a_directory_shares_the_blobs_where_files_can_be_cloned(tmp_path: Path) -> None:
    if os.getuid():
        pytest.skip("a disk needs root")
    with disks.btrfs(tmp_path / "disk", 256 << 20) as disk:
        imgfs = Command(disk / "store")
        succeeded(imgfs("load", "-q", stdin=LARGE))
        before = _bytes_used(disk)
        succeeded(imgfs("save", "-o", f"{disk}/layout/", "large:1"))
        assert _bytes_used(disk) - before < 4 << 20, "of 24 MiB"
        blobs = [path for path in (disk / "layout/blobs/sha256").iterdir() if path.is_file()]
        assert all(archives.digest(path.read_bytes())[7:] == path.name for path in blobs)
        assert sum(path.stat().st_size for path in blobs) > 24 << 20


def _bytes_used(disk: Path) -> int:
    os.sync()
    found = os.statvfs(disk)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def test_every_operation_succeeds_after_a_full_disk(
    disk: Path, store: Path, tmp_path: Path
) -> None:
    for name, operation in OPERATIONS.items():
        with LocalEngine(copied(store, tmp_path / "other")) as other:
            operation(other)
            stores.collect(other)
            after = listed(other)
        with LocalEngine(copied(store, disk / "store")) as engine:
            filler = disks.fill(disk)
            with suppress(OSError):
                operation(engine)
            filler.unlink()
            stores.collect(engine)
            if listed(engine) != after:
                operation(engine)
            stores.collect(engine)
            assert listed(engine) == after, name
            assert leftovers(engine) == [], name


def test_an_exceeded_quota_leaves_nothing(imgfs: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is injected: a real quota needs support by the kernel."""

    def refuse(*_: object) -> int:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    with LocalEngine(imgfs.store) as engine:
        before = listed(engine)
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", refuse)
            with pytest.raises(OSError, match="Disk quota exceeded"):
                stores.load(engine)
        assert (listed(engine), leftovers(engine)) == (before, [])
        stores.load(engine)


@contextmanager
def remounted_read_only(path: Path) -> Iterator[None]:
    subprocess.run(["mount", "-o", "remount,ro", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(path)], check=True)


def test_a_store_on_a_read_only_disk_can_be_read(disk: Path) -> None:
    imgfs = Command(disk / "store")
    with remounted_read_only(disk):
        for command in (*COMMANDS.values(), ("images",), ("gc",)):
            said = refusal(imgfs(*command))
            assert said == f"store {imgfs.store}: cannot be opened: Read-only file system"
        said = refusal(imgfs("load", "--store", disk / "new", stdin=stores.APP))
        assert said == f"store {disk / 'new'}: cannot be opened: Read-only file system"
    for command in COMMANDS.values():
        succeeded(imgfs(*command, stdin=stores.APP))


def test_writes_fail_while_the_disk_is_read_only(store: Path) -> None:
    with LocalEngine(store) as engine:
        before = listed(engine)
        with disks.read_only(store):
            for operation in (stores.load, stores.commit, stores.save):
                with pytest.raises(OSError, match="Read-only file system"):
                    operation(engine)
            assert listed(engine) == before
        assert leftovers(engine) == []
        stores.load(engine)
        stores.commit(engine)


def test_a_store_in_an_unwritable_directory_is_reported(imgfs: Command) -> None:
    lowered = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    shelf = imgfs.store / "blobs/sha256"
    shelf.chmod(0o500)
    try:
        done = subprocess.run(
            [*([] if os.getuid() else lowered), *IMGFS, "load"],
            input=stores.APP,
            capture_output=True,
            check=False,
            env=imgfs.environment,
        )
    finally:
        shelf.chmod(0o700)
    assert refusal(Done(done.returncode, done.stdout, done.stderr)) == (
        "standard input: Permission denied"
    )
    with LocalEngine(imgfs.store) as engine:
        assert leftovers(engine) == []
    succeeded(imgfs("load", stdin=stores.APP))


@contextmanager
def open_files(limit: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def limit_for(spare: int) -> int:
    """Return the limit below which that many descriptors are free."""
    listed = [int(name) for name in os.listdir("/proc/self/fd")]
    used = {number for number in listed if os.path.lexists(f"/proc/self/fd/{number}")}
    return next(islice((number for number in count() if number not in used), spare, None))


@pytest.mark.parametrize("name", ["load", "commit", "tag", "save"])
def test_operations_without_free_descriptors_leave_nothing(
    store: Path, tmp_path: Path, name: str
) -> None:
    failed = 0
    for spare in range(30):
        with LocalEngine(copied(store, tmp_path / "other")) as engine:
            before = listed(engine)
            try:
                with open_files(limit_for(spare)):
                    OPERATIONS[name](engine)
                break
            except OSError as error:
                assert error.errno == errno.EMFILE  # noqa: PT017 (which are left is what counts)
            failed += 1
            assert (listed(engine), leftovers(engine)) == (before, []), spare
            OPERATIONS[name](engine)
    assert failed or name == "tag"


def test_opening_a_store_without_free_descriptors_fails(store: Path) -> None:
    for spare in range(10):
        try:
            with open_files(limit_for(spare)), LocalEngine(store):
                break
        except StoreError as error:
            assert str(error).endswith("cannot be opened: Too many open files")  # noqa: PT017 (all)
    assert 0 < spare < 9
    LocalEngine(store).close()


def test_a_command_without_free_descriptors_says_so(imgfs: Command) -> None:
    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12))

    layers = [archives.layer(f"layer{i}", os.urandom(100_000)) for i in range(12)]
    archive = archives.docker_archive((ImageParts(layers=layers), ["app:1"]))
    done = subprocess.run(
        [*IMGFS, "load"],
        input=archive,
        capture_output=True,
        check=False,
        env=imgfs.environment,
        preexec_fn=lower,
    )
    said = refusal(Done(done.returncode, done.stdout, done.stderr))
    assert said == "standard input: Too many open files"
    with LocalEngine(imgfs.store) as engine:
        assert leftovers(engine) == []
    succeeded(imgfs("load", stdin=archive))


def test_commands_work_on_a_file_system_without_links_and_attributes(
    imgfs: Command, tmp_path: Path
) -> None:
    if reason := poor.lacking():
        pytest.skip(reason)

    def run(*command: str | Path) -> Done:
        poorly = [sys.executable, "-m", "tests.faults.poor", *IMGFS, *map(str, command)]
        done = subprocess.run(poorly, capture_output=True, check=False, env=imgfs.environment)
        return succeeded(Done(done.returncode, done.stdout, done.stderr))

    (tmp_path / "app.tar").write_bytes(stores.APP)
    run("load", "-q", "-i", tmp_path / "app.tar")
    run("commit", "-q", "--base", "base:1", Path(__file__).parent / "rootfs", "made:1")
    run("save", "-o", tmp_path / "saved.tar", "app:1", "made:1")
    run("rm", "base:1")
    run("gc")
    run("load", "-q", "-i", tmp_path / "saved.tar", "--store", tmp_path / "new")
    assert len(run("images", "-q").lines) == 2

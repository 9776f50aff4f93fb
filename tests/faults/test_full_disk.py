"""Disks without a free byte: what removes images works, by the reserve of the store; nothing else
gets it.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.stores.local.database import Database
from engine.stores.local.reserve import SIZE, Reserve
from engine.stores.local.schema import MIGRATIONS
from tests import archives
from tests.archives import ImageParts
from tests.cli.command import Command, refusal, succeeded
from tests.faults import disks, stores
from tests.faults.stores import copied, leftovers
from tests.local_engine import LocalEngine
from tests.mounts import Mounted, run

REFUSED = {
    "load": ("load", "-q"),
    "tag": ("tag", "base:1", "base:2"),
    "commit": ("commit", "--base", "base:1", str(Path(__file__).parent / "rootfs"), "made:1"),
}


@pytest.fixture
def full(disk: Path) -> Command:
    """Return the command on a full disk, with the images `base:1` and `app:1`."""
    imgfs = Command(disk / "store")
    succeeded(imgfs("load", "-q", stdin=stores.APP))
    disks.fill(disk)
    return imgfs


def names(imgfs: Command) -> list[str]:
    return sorted(line.split()[0] for line in succeeded(imgfs("images")).lines[1:])


def free(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def check(store: Path, *expected: str) -> None:
    """Check that the store has these images, whole, and nothing that nobody needs."""
    imgfs = Command(store)
    assert succeeded(imgfs("fsck")).lines == ["nothing is wrong"]
    assert names(imgfs) == sorted(expected)
    with LocalEngine(store) as engine:
        assert leftovers(engine) == []


def test_images_are_removed_from_a_full_disk_and_make_room(disk: Path, full: Command) -> None:
    assert free(disk) == 0
    assert names(full) == ["app", "base"]
    succeeded(full("save", "-o", "/dev/null", "base:1"))
    succeeded(full("rm", "app:1"))
    succeeded(full("gc"))
    check(full.store, "base")
    assert free(disk) > 100_000, "of the 150,000 of a layer"


def test_images_are_removed_from_a_disk_that_others_fill_again(disk: Path, full: Command) -> None:
    for command in (("images",), ("rm", "app:1"), ("gc", "-n"), ("gc",), ("prune", "-af")):
        disks.fill(disk)
        succeeded(full(*command))
    check(full.store)


def test_more_is_removed_than_the_reserve_has_space_for_at_once(disk: Path) -> None:
    """Removing the rows of a hundred manifests takes several MiB of SQLite's log."""
    imgfs = Command(disk / "store")
    with LocalEngine(imgfs.store) as engine, engine.database.transaction() as connection:
        for number in range(150):
            manifest = archives.digest(b"%d" % number)
            layers = [archives.digest(b"%d %d" % (number, layer)) for layer in range(25)]
            labels = {f"containerd.io/gc.ref.content.l.{layer}": layer for layer in layers}
            rows = [(manifest, json.dumps(labels)), *((layer, "{}") for layer in layers)]
            connection.executemany("INSERT INTO blobs VALUES (?, 1, 0, 0, ?)", rows)
    disks.fill(disk)
    assert len(succeeded(imgfs("gc")).lines) == 150 * 26 + 1
    check(imgfs.store, "base")


def test_many_names_are_removed_from_a_full_disk_by_one_command(disk: Path) -> None:
    imgfs = Command(disk / "store")
    tags = [f"base:{number}" for number in range(2, 80)]
    with LocalEngine(imgfs.store) as engine:
        for tag in tags:
            engine.tag("base:1", tag)
    disks.fill(disk)
    succeeded(imgfs("rm", *tags))
    check(imgfs.store, "base")


def test_what_adds_to_the_store_does_not_get_the_reserve(disk: Path, full: Command) -> None:
    for _ in range(4):
        for command in REFUSED.values():
            disks.fill(disk)
            said = refusal(full(*command, stdin=stores.APP.replace(b"app:1", b"new:1")))
            assert "No space left on device" in said, said
    disks.fill(disk)
    check(full.store, "app", "base")
    succeeded(full("rm", "app:1"))
    succeeded(full("gc"))
    check(full.store, "base")


def test_the_file_or_store_that_has_no_room_is_named(disk: Path, tmp_path: Path) -> None:
    imgfs = Command(disk / "store")
    (tmp_path / "large").mkdir()
    with open(tmp_path / "large/file", "wb") as file:
        file.truncate(64 << 20)
    words = ("commit", "--compression", "uncompressed", str(tmp_path / "large"), "made:1")
    assert refusal(imgfs(*words)) == f"{imgfs.store}: No space left on device"
    root = archives.layer("big", os.urandom(20 << 20))
    said = refusal(imgfs("import", "-", "made:1", stdin=root))
    assert said == f"{imgfs.store}: No space left on device"
    layers = [archives.layer("big", os.urandom(6 << 20))]
    archive = archives.docker_archive((ImageParts(layers=layers), ["big:1"]))
    succeeded(imgfs("load", "-q", stdin=archive))
    (disk / "old.tar").write_text("old")
    disks.fill(disk)
    for name in ("new.tar", "old.tar"):
        said = refusal(imgfs("save", "-o", str(disk / name), "big:1"))
        assert said == f"{disk / name}: No space left on device"
    assert (disk / "old.tar").read_text() == "old"
    assert not (disk / "new.tar").exists()


def test_a_store_gets_its_reserve_back(disk: Path, full: Command) -> None:
    reserve = full.store / "reserve"
    succeeded(full("rm", "app:1"))
    assert 0 < reserve.stat().st_size < SIZE
    (disk / "filler").unlink()
    succeeded(full("images"))
    assert reserve.stat().st_blocks * 512 >= SIZE


def test_a_store_of_an_older_version_is_given_a_reserve(disk: Path) -> None:
    imgfs = Command(disk / "store")
    reserve = imgfs.store / "reserve"
    reserve.unlink()
    succeeded(imgfs("images"))
    assert reserve.stat().st_blocks * 512 >= SIZE


def test_a_full_disk_without_a_reserve_is_reported(disk: Path, full: Command) -> None:
    (full.store / "reserve").unlink()
    disks.fill(disk)
    said = refusal(full("rm", "app:1"))
    assert said.startswith(f"store {full.store}: cannot be opened: No space left on device; free 1")
    os.truncate(disk / "filler", (disk / "filler").stat().st_size - 1_000_000)
    succeeded(full("rm", "app:1"))
    succeeded(full("gc"))
    check(full.store, "base")


KILLED = """
import sys
from pathlib import Path
from engine.stores.local.store import LocalStore
with LocalStore.open(Path(sys.argv[1])) as store, store.transaction():
    store.images.delete("docker.io/library/app:1")
    print((store.directory / "reserve").stat().st_size, flush=True)
    sys.stdin.read()
"""


def test_a_process_that_is_killed_with_the_reserve_loses_nothing(full: Command) -> None:
    command = [sys.executable, "-c", KILLED, str(full.store)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"0\n"
        process.send_signal(signal.SIGKILL)
    check(full.store, "app", "base")
    assert (full.store / "reserve").stat().st_size > SIZE // 2
    succeeded(full("rm", "app:1"))
    succeeded(full("gc"))
    check(full.store, "base")


def test_no_process_takes_the_space_that_another_one_needs(disk: Path) -> None:
    path = disk / "store/reserve"
    reserve, other = Reserve(path), Reserve(path)
    disks.fill(disk)
    with reserve.given_up():
        with other.given_up():
            assert free(disk) >= SIZE
        assert free(disk) >= SIZE
    assert free(disk) < SIZE


def test_no_transaction_takes_it_in_order_to_see_whether_the_disk_is_full(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An allocation that fails may take all that is left before it does, and give it back later."""
    allocate, left = os.posix_fallocate, [SIZE]

    def allocated(*words: int) -> None:
        try:
            allocate(*words)
        finally:
            left.append(free(disk))

    monkeypatch.setattr(os, "posix_fallocate", allocated)
    reserve, other = (Reserve(disk / "store/reserve") for _ in range(2))
    disks.fill(disk)
    with reserve.given_up():
        with other.transaction() as shortage:
            assert shortage
        assert min(left) >= SIZE


def test_a_disk_that_does_not_tell_its_size_is_not_full(tmp_path: Path, store: Path) -> None:
    if os.getuid():
        pytest.skip("a disk needs root")
    with disks.memory(tmp_path / "disk", size="0") as disk:
        imgfs = Command(copied(store, disk / "store"))
        assert os.statvfs(disk).f_blocks == 0
        assert Reserve(imgfs.store / "reserve").is_besides()
        succeeded(imgfs("tag", "base:1", "base:2"))


def test_a_disk_with_space_for_a_part_of_a_page_crashes_no_process(
    tmp_path: Path, store: Path
) -> None:
    """SQLite allocates one byte of each page that it maps; blocks may be smaller than a page."""
    if os.getuid():
        pytest.skip("a disk needs root")
    for left in range(4096, 40_000, 4096):
        with disks.ext4(tmp_path / "disk", 16 << 20) as disk:
            imgfs = Command(copied(store, disk / "store"))
            filler = disks.fill(disk)
            os.truncate(filler, filler.stat().st_size - left)
            os.sync()
            assert names(imgfs) == ["base"]


def test_processes_remove_images_from_a_full_disk_at_once(disk: Path) -> None:
    imgfs = Command(disk / "store")
    tags = [f"base:{number}" for number in range(2, 6)]
    for tag in tags:
        succeeded(imgfs("tag", "base:1", tag))
    disks.fill(disk)
    processes = [imgfs.start("rm", tag, stderr=subprocess.PIPE) for tag in tags]
    assert [process.communicate()[1] for process in processes] == [b""] * len(tags)
    assert [process.returncode for process in processes] == [0] * len(tags)
    check(imgfs.store, "base")


def test_a_store_of_an_older_version_is_opened_on_a_full_disk(disk: Path) -> None:
    disks.fill(disk)
    migrations = (*MIGRATIONS, ("CREATE TABLE more (x)",))
    with Database(disk / "store/imgfs.db", migrations) as database:
        assert database.read("SELECT * FROM more") == []


def test_a_copy_without_the_blocks_of_the_reserve_is_given_them(disk: Path) -> None:
    imgfs = Command(disk / "store")
    reserve = imgfs.store / "reserve"
    os.truncate(reserve, 0)
    os.truncate(reserve, SIZE)
    succeeded(imgfs("images"))
    assert reserve.stat().st_blocks * 512 >= SIZE


def test_images_are_removed_when_a_quota_is_used_up(tmp_path: Path, store: Path) -> None:
    if os.getuid():
        pytest.skip("a disk needs root")
    if shutil.which("btrfs") is None:
        pytest.skip("no btrfs")
    with disks.btrfs(tmp_path / "disk", 256 << 20) as disk:
        part = disk / "part"
        run("btrfs", "quota", "enable", disk)
        run("btrfs", "subvolume", "create", part)
        imgfs = Command(copied(store, part / "store"))
        succeeded(imgfs("load", "-q", stdin=stores.APP))
        run("btrfs", "qgroup", "limit", "12M", part)
        disks.fill(part)
        said = refusal(imgfs("tag", "base:1", "base:2"))
        assert "imgfs.db: Disk quota exceeded; free space on the store's disk" in said
        assert names(imgfs) == ["app", "base"]
        succeeded(imgfs("rm", "app:1"))
        succeeded(imgfs("gc"))
        check(imgfs.store, "base")


@pytest.fixture
def refused(disk: Path, mount: Callable[..., Mounted]) -> Mounted:
    """Mount a store with base:1 and app:1 on a disk that is full, where a change is refused."""
    mounted = mount("disk/store")
    mounted.load(stores.APP)
    disks.fill(disk)
    with pytest.raises(OSError, match="No space left on device"):
        os.rename(mounted / "app:1", mounted / "app:2")
    return mounted


def test_a_name_is_removed_in_a_mount_on_a_full_disk(disk: Path, refused: Mounted) -> None:
    run("rm", "-r", refused / "app:1")
    assert "app:1" not in refused.names()
    succeeded(Command(refused.store)("prune", "-f"))
    assert free(disk) > 100_000
    assert (refused / "base:1/index.json").read_bytes()
    run("fusermount3", "-u", refused.path)
    check(refused.store, "base")


def test_a_refused_change_in_a_mount_leaves_the_reserve_to_the_next_one(
    disk: Path, refused: Mounted
) -> None:
    """The mount goes on, and other programs take every byte that is left free."""
    disks.fill(disk)
    run("rm", "-r", refused / "app:1")
    assert "app:1" not in refused.names()


def test_a_full_disk_can_be_mounted(
    disk: Path, full: Command, mount: Callable[..., Mounted]
) -> None:
    mounted = mount("disk/store")
    assert {"app:1", "base:1"} <= set(mounted.names())
    os.rmdir(mounted / "app:1")
    succeeded(full("prune", "-f"))
    run("fusermount3", "-u", mounted.path)
    check(full.store, "base")
    assert free(disk) > 100_000

"""A store on a disk that hangs: the mount still answers what needs no disk, and blocked processes
can be killed.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.mounts import Mounted, has_ended, open_files, run, started
from tests.stuck_disk import StuckDisk, stuck_disk
from tests.waiting import wait_until

LAYER = archives.layer("big", os.urandom(2_000_000))
APP = ImageParts(layers=[LAYER])
OTHER = ImageParts(layers=[archives.layer("other")])
IN_TIME = 60.0
client = partial(started, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


@pytest.fixture
def loaded(mounted_each_way: Mounted) -> Mounted:
    mounted_each_way.load(archives.docker_archive((APP, ["app:1"]), (OTHER, ["other:1"])))
    return mounted_each_way


@pytest.fixture
def without_passthrough(mount: Callable[..., Mounted]) -> Mounted:
    """Mount without passthrough: a process that reads a blob's file itself could not be killed."""
    mounted = mount(options=("--no-passthrough",))
    mounted.load(archives.docker_archive((APP, ["app:1"]), (OTHER, ["other:1"])))
    return mounted


@pytest.fixture
def disk(loaded: Mounted, tmp_path: Path) -> Iterator[StuckDisk]:
    """Put the blobs of `loaded` on a disk that can hang."""
    run("ls", "-lR", loaded / "app:1")
    with stuck_disk(loaded.store / "blobs", tmp_path) as disk:
        yield disk


def layer_of(mounted: Mounted) -> Path:
    return mounted / "app:1/blobs/sha256" / archives.digest(LAYER)[7:]


@pytest.mark.parametrize("operation", ["lookup", "open", "read"])
def test_only_readers_of_the_disk_wait(loaded: Mounted, disk: StuckDisk, operation: str) -> None:
    disk.hang(operation)
    layer = layer_of(loaded)
    with client("cat", layer) as first, client("cat", layer) as second:
        disk.wait_for(1)
        listed = run("ls", "-l", loaded.path, loaded / "app:1", timeout=IN_TIME).stdout
        assert b"other:1" in listed
        run("ls", "-lR", loaded / "app:1", timeout=IN_TIME)
        run("stat", layer, loaded / "other:1", timeout=IN_TIME)
        run("cat", loaded / "app:1/index.json", loaded / ".imgfs/status.json", timeout=IN_TIME)
        run("mv", loaded / "other:1", loaded / "other:2", timeout=IN_TIME)
        disk.resume()
        assert first.communicate(timeout=IN_TIME)[0] == LAYER
        assert second.communicate(timeout=IN_TIME)[0] == LAYER


def test_hundreds_of_waiting_readers_delay_no_other_request(
    loaded: Mounted, disk: StuckDisk
) -> None:
    disk.hang("lookup")
    script = f"for i in $(seq 150); do cat {layer_of(loaded)} >/dev/null & done; wait"
    with subprocess.Popen(["bash", "-c", script], start_new_session=True) as readers:
        try:
            disk.wait_for(1)
            wait_until(lambda: processes_in(readers.pid) > 150, "all have been started")
            run("ls", "-lR", loaded / "app:1", loaded.path / "import", timeout=IN_TIME)
        finally:
            os.killpg(readers.pid, signal.SIGKILL)
    wait_until(lambda: processes_in(readers.pid) == 0, "all are gone")
    run("ls", "-lR", loaded / "app:1", timeout=IN_TIME)


def processes_in(session: int) -> int:
    done = subprocess.run(
        ["ps", "-o", "pid=", "-g", str(session)], capture_output=True, check=False
    )
    return len(done.stdout.splitlines())


def test_an_image_that_is_not_cached_delays_only_its_readers(
    loaded: Mounted, disk: StuckDisk
) -> None:
    disk.hang("read")
    with client("ls", loaded / "other:1/") as looking:
        disk.wait_for(1)
        assert loaded.names() == ["app:1", "import", "other:1"]
        run("ls", "-lR", loaded / "app:1", timeout=IN_TIME)
        disk.resume()
        assert b"index.json" in looking.communicate(timeout=IN_TIME)[0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("operation", ["open", "read"])
def test_a_waiting_reader_can_be_killed(
    without_passthrough: Mounted, tmp_path: Path, operation: str, number: signal.Signals
) -> None:
    run("ls", "-lR", without_passthrough / "app:1")
    with stuck_disk(without_passthrough.store / "blobs", tmp_path) as disk:
        disk.hang(operation)
        with client("cat", layer_of(without_passthrough)) as reader:
            disk.wait_for(1)
            reader.send_signal(number)
            assert reader.wait(IN_TIME) == -number
        disk.resume()
        assert layer_of(without_passthrough).read_bytes() == LAYER
        wait_until(lambda: open_blobs(without_passthrough) == [], "nothing stays open")


def open_blobs(mounted: Mounted) -> list[str]:
    return [path for path in open_files(mounted.pid) if "/sha256/" in path]


def test_a_waiting_writer_can_be_killed(loaded: Mounted, tmp_path: Path) -> None:
    new = ImageParts(layers=[archives.layer("new", os.urandom(30_000_000))])
    (tmp_path / "new.tar").write_bytes(archives.docker_archive((new, ["new:1"])))
    with stuck_disk(loaded.store / "ingest", tmp_path) as disk:
        disk.hang("mkdir")
        with client("cp", tmp_path / "new.tar", loaded.drop) as writer:
            disk.wait_for(1)
            run("ls", "-lR", loaded / "app:1", loaded.drop, timeout=IN_TIME)
            assert layer_of(loaded).read_bytes() == LAYER
            writer.kill()
            writer.wait(IN_TIME)
        disk.resume()
    loaded.load((tmp_path / "new.tar").read_bytes())
    assert (loaded / "new:1").is_dir()


@pytest.mark.parametrize("directory", ["blobs", "ingest"])
def test_the_mount_ends_while_its_disk_hangs(
    without_passthrough: Mounted, tmp_path: Path, directory: str
) -> None:
    new = ImageParts(layers=[archives.layer("new", os.urandom(2_000_000))])
    (tmp_path / "new.tar").write_bytes(archives.docker_archive((new, ["new:1"])))
    operation, command = {
        "blobs": ("read", ("cat", layer_of(without_passthrough))),
        "ingest": ("mkdir", ("cp", tmp_path / "new.tar", without_passthrough.drop)),
    }[directory]
    with stuck_disk(without_passthrough.store / directory, tmp_path) as disk:
        disk.hang(operation)
        with client(*command) as waiting:
            disk.wait_for(1)
            os.kill(without_passthrough.pid, signal.SIGTERM)
            assert waiting.wait(IN_TIME) != 0
            wait_until(lambda: not os.path.ismount(without_passthrough.path), "it is unmounted")
        disk.resume()
        wait_until(lambda: has_ended(without_passthrough.pid), "the process ends")

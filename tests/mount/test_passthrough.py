"""Blobs read by kernel passthrough behave like those that the mount's process reads."""

import mmap
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.local_engine import LocalEngine
from tests.mounts import Mounted, has_ended, run
from tests.waiting import wait_until

LAYER = archives.layer("big", Random(1).randbytes(3_000_000))
APP = ImageParts(layers=[LAYER])
DIGEST = archives.digest(LAYER)


@pytest.fixture
def app(mounted_each_way: Mounted) -> Mounted:
    mounted_each_way.load(archives.docker_archive((APP, ["app:1"])))
    return mounted_each_way


def layer_of(mounted: Mounted) -> Path:
    return mounted / "app:1/blobs/sha256" / DIGEST[7:]


def stored(mounted: Mounted) -> Path:
    return mounted.store / "blobs/sha256" / DIGEST[7:]


def is_passed_through(mounted: Mounted) -> bool:
    return bool(mounted.status("passthrough") == "on")


def test_the_mount_uses_passthrough_only_where_it_is_on(app: Mounted) -> None:
    """Otherwise the other tests in this module would prove nothing."""
    with open(layer_of(app), "rb"):
        assert app.status("backing_files") == is_passed_through(app)
    info = run(sys.executable, "-m", "imgfs", "--store", app.store, "info").stdout.decode()
    assert f"{app.status('passthrough')} ({app.path})" in info


def test_the_native_library_is_used(mounted: Mounted) -> None:
    """It can be used with any libfuse if it was built."""
    assert not mounted.status("passthrough").startswith("off: libfuse")


def test_reads_at_random_offsets_return_the_content(app: Mounted) -> None:
    chance = Random(2)
    with open(layer_of(app), "rb", buffering=0) as file:
        for _ in range(300):
            offset, size = chance.randrange(len(LAYER) + 5000), chance.randrange(200_000)
            assert os.pread(file.fileno(), size, offset) == LAYER[offset : offset + size]


def test_direct_reads_return_the_content(app: Mounted) -> None:
    descriptor = os.open(layer_of(app), os.O_RDONLY | os.O_DIRECT)
    buffer = mmap.mmap(-1, 1 << 20)
    try:
        assert os.preadv(descriptor, [buffer], 1 << 20) == 1 << 20
        assert buffer[:] == LAYER[1 << 20 : 2 << 20]
    finally:
        os.close(descriptor)
        buffer.close()


def test_splice_and_copy_file_range_return_the_content(app: Mounted, tmp_path: Path) -> None:
    with open(layer_of(app), "rb") as file, open(tmp_path / "copy", "wb") as copy:
        read_end, write_end = os.pipe()
        moved = os.splice(file.fileno(), write_end, 4096, offset_src=1000)
        assert os.read(read_end, moved) == LAYER[1000 : 1000 + moved]
        os.close(read_end)
        os.close(write_end)
        with pytest.raises(OSError, match="cross-device"):
            os.copy_file_range(file.fileno(), copy.fileno(), 4096)


def test_a_blob_cannot_be_opened_for_writing(app: Mounted) -> None:
    with pytest.raises(OSError, match="Read-only"):
        os.open(layer_of(app), os.O_RDWR)
    with open(layer_of(app), "rb") as file:
        os.fsync(file.fileno())
        with pytest.raises(OSError, match="Bad file"):
            os.write(file.fileno(), b"x")


def test_many_threads_can_open_and_close_a_blob(app: Mounted) -> None:
    def look(number: int) -> bool:
        with open(layer_of(app), "rb", buffering=0) as file:
            offset = number * 1000
            return os.pread(file.fileno(), 1000, offset) == LAYER[offset : offset + 1000]

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(look, range(2000)))
    wait_until(lambda: app.status("handles") == 0, "all are closed")


def test_the_file_of_a_removed_blob_is_closed(app: Mounted) -> None:
    with open(layer_of(app), "rb") as file, open(stored(app), "rb") as same:
        with LocalEngine(app.store) as engine:
            engine.remove("app:1")
            engine.content.delete(DIGEST)
        assert os.fstat(same.fileno()).st_nlink == 0
        assert file.read() == LAYER
    wait_until(lambda: app.status("backing_files") == 0, "the kernel holds no file")


def test_a_blob_file_of_another_size_is_not_passed_through(app: Mounted) -> None:
    """The bytes after the blob's end are not shown."""
    stored(app).chmod(0o600)
    with open(stored(app), "ab") as file:
        file.write(b"more")
    assert layer_of(app).read_bytes() == LAYER
    assert app.status("backing_files") == 0


def test_a_blob_is_readable_before_and_after_its_file_is_repaired(app: Mounted) -> None:
    stored(app).chmod(0o600)
    with open(stored(app), "ab") as file:
        file.write(b"more")
    with open(layer_of(app), "rb") as before:
        os.truncate(stored(app), len(LAYER))
        with open(layer_of(app), "rb") as after:
            assert before.read() == after.read() == LAYER


def test_an_open_blob_stays_readable_with_passthrough_when_the_mount_is_killed(
    app: Mounted,
) -> None:
    """Without passthrough, only the bytes that the kernel has cached may be read."""
    descriptor = os.open(layer_of(app), os.O_RDONLY)
    passed_through = is_passed_through(app)
    assert os.pread(descriptor, 10, 0) == LAYER[:10]
    os.kill(app.pid, signal.SIGKILL)
    run("umount", "-l", app.path)
    wait_until(lambda: has_ended(app.pid), "the mount's process has ended")
    if passed_through:
        assert os.pread(descriptor, len(LAYER), 0) == LAYER
    else:
        with suppress(OSError):
            assert LAYER.startswith(os.pread(descriptor, len(LAYER), 0))
    with suppress(OSError):  # the process that would release it has ended
        os.close(descriptor)


@pytest.mark.parametrize("options", [("--no-passthrough",), ("-o", "no_passthrough")])
def test_passthrough_can_be_switched_off(
    mount: Callable[..., Mounted], options: tuple[str, ...]
) -> None:
    assert mount(options=options).status("passthrough") == "off: switched off"

"""Mounts under abuse: killed and suspended clients and processes, thousands of handles, many
requests at the same time, and signals while requests run.
"""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from resource import RLIMIT_NOFILE, prlimit

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.local_engine import LocalEngine
from tests.mounts import IMGFS, Mounted, foreground, has_ended, open_files, run, write
from tests.stuck_disk import stuck_disk
from tests.waiting import wait_until

LAYER = archives.layer("big", os.urandom(2_000_000))
APP = ImageParts(layers=[LAYER])
ARCHIVE = archives.docker_archive((APP, ["app:1"]))
IN_TIME = 60.0


@pytest.fixture
def app(mounted: Mounted) -> Mounted:
    mounted.load(ARCHIVE)
    return mounted


def layer_of(mounted: Mounted) -> Path:
    return mounted / "app:1/blobs/sha256" / archives.digest(LAYER)[7:]


def status(mounted: Mounted, field: str) -> int:
    return int(json.loads((mounted / ".imgfs/status.json").read_bytes())[field])


def wait_until_closed(mounted: Mounted) -> None:
    """Wait until the mount has no open handle."""
    wait_until(lambda: status(mounted, "handles") == 0, "every handle is released")


def open_descriptors(mounted: Mounted) -> int:
    return sum("imgfs.db" not in path for path in open_files(mounted.pid))


@contextmanager
def python(script: str, *arguments: str | Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a Python script until it has printed its first line, `ready`; kill it at the end."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a file, and ignore an error when closing it, since its mount may have ended."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        with suppress(OSError):
            os.close(descriptor)


# -- clients --------------------------------------------------------------------------------------


def test_killed_readers_leave_no_open_handle(app: Mounted) -> None:
    for _ in range(5):
        with subprocess.Popen(["cat", layer_of(app)], stdout=subprocess.PIPE) as reader:
            assert reader.stdout is not None
            reader.stdout.read(100_000)
            reader.kill()
    wait_until_closed(app)
    assert layer_of(app).read_bytes() == LAYER


WRITE_HALF = """
import os, sys, time
data = sys.stdin.buffer.read(int(sys.argv[2]))
descriptor = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
os.write(descriptor, data)
print("ready", flush=True)
while True:
    os.write(descriptor, b"")
    time.sleep(0.001)
"""


def test_a_writer_killed_between_writes_leaves_no_ingest(app: Mounted, tmp_path: Path) -> None:
    archive = archives.docker_archive((ImageParts(layers=[LAYER, archives.layer()]), ["new:1"]))
    (tmp_path / "half").write_bytes(archive[:1_500_000])
    script = WRITE_HALF.replace("sys.stdin.buffer", f"open({str(tmp_path / 'half')!r}, 'rb')")
    with python(script, app.drop / "new.tar", "1500000") as writer:
        writer.kill()
        writer.wait(IN_TIME)
    wait_until_closed(app)
    wait_until(lambda: not list((app.store / "ingest").iterdir()), "nothing half done is left")
    assert app.names() == ["app:1", "import"]
    assert app.report("new.tar")["status"] == "failed"
    app.load(archive, "new.tar")
    assert (app / "new:1").is_dir()


CLOSE_A_HOLE = """
import os, sys
header, size = bytes.fromhex(sys.argv[2]), int(sys.argv[3])
descriptor = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
os.write(descriptor, header)
os.ftruncate(descriptor, size)
print("ready", flush=True)
os.close(descriptor)
"""


def test_a_writer_killed_in_close_leaves_no_ingest(app: Mounted) -> None:
    """The last member is a hole of 8 GiB, for which the mount's process has to produce zeros."""
    head = b"layer.tar".ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2
    size = b"\x80" + (8 << 30).to_bytes(11)
    rest = b"00000000000\0" + b" " * 8 + b"0" + bytes(100) + b"ustar\x0000"
    header = bytearray((head + size + rest).ljust(512, b"\0"))
    header[148:156] = b"%06o\0 " % sum(header)
    with python(CLOSE_A_HOLE, app.drop / "x.tar", header.hex(), str(8 << 30)) as writer:
        wait_until(lambda: any((app.store / "ingest").glob("*/data")), "the load has begun")
        writer.kill()
        writer.wait(IN_TIME)
    wait_until_closed(app)
    wait_until(lambda: not list((app.store / "ingest").iterdir()), "nothing half done is left")


LEAK = """
import os, resource, sys
limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
failed = 0
for _ in range(int(sys.argv[2])):
    for path in sys.argv[1], sys.argv[1] + "/index.json", sys.argv[3]:
        try:
            os.open(path, os.O_RDONLY)
        except OSError:
            failed += 1
print("ready", flush=True)
print(failed, flush=True)
sys.stdin.read()
"""


def test_thousands_of_open_handles_do_not_disturb_others(app: Mounted) -> None:
    before = open_descriptors(app)
    with python(LEAK, app / "app:1", "1000", layer_of(app)) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"0\n"
        assert status(app, "handles") == 3000
        assert app.names() == ["app:1", "import"]
    wait_until_closed(app)
    wait_until(
        lambda: open_descriptors(app) <= before, "names.lock is released, and all else closed"
    )


def test_handles_beyond_the_limit_of_descriptors_fail_and_disturb_nobody(
    mount: Callable[..., Mounted],
) -> None:
    """Without passthrough, the mount's process has a file open for each handle."""
    app = mount(options=("--no-passthrough",))
    app.load(ARCHIVE)
    run("ls", "-lR", app / "app:1")
    prlimit(app.pid, RLIMIT_NOFILE, (200, 200))
    with python(LEAK, app / "app:1", "300", layer_of(app)) as client:
        assert client.stdout is not None
        assert int(client.stdout.readline()) > 50
        assert app.names() == ["app:1", "import"]
        run("ls", "-lR", app / "app:1", timeout=IN_TIME)
    wait_until_closed(app)
    assert layer_of(app).read_bytes() == LAYER


def test_inodes_are_dropped_when_the_kernel_forgets_them(mounted: Mounted) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can have the kernel forget")
    before = status(mounted, "inodes")
    tags = [f"r{n % 20}:t{n}" for n in range(300)]
    mounted.load(archives.docker_archive((APP, tags)))
    run("find", mounted.path, "-ls")
    assert status(mounted, "inodes") > 300 * 4

    def has_shrunk() -> bool:
        Path("/proc/sys/vm/drop_caches").write_text("2\n")
        return status(mounted, "inodes") <= before + 5

    wait_until(has_shrunk, "the kernel has forgotten them")
    run("find", mounted / tags[0], "-ls")


def test_two_hundred_clients_load_read_and_list_at_the_same_time(app: Mounted) -> None:
    wrong: list[object] = []
    ready = threading.Barrier(200)

    def load(number: int) -> None:
        parts = ImageParts(layers=[archives.layer(f"n{number}")])
        app.load(archives.docker_archive((parts, [f"n:{number}"])), f"{number}.tar")
        assert (app / f"n:{number}/index.json").stat().st_size

    def read(_number: int) -> None:
        assert layer_of(app).read_bytes() == LAYER

    def look(_number: int) -> None:
        assert "app:1" in app.names()
        assert len(list(os.walk(app / "app:1"))) == 3

    def work(number: int) -> None:
        ready.wait()
        try:
            (load if number < 30 else read if number < 120 else look)(number)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len([name for name in app.names() if name.startswith("n:")]) == 30


# -- the daemon -----------------------------------------------------------------------------------


def test_open_files_stay_readable_after_a_lazy_unmount(app: Mounted) -> None:
    with open(layer_of(app), "rb") as file, open(app / "app:1/index.json", "rb") as index:
        run(*IMGFS, "umount", "--lazy", app.path)
        assert not os.path.ismount(app.path)
        assert not has_ended(app.pid)
        assert file.read() == LAYER
        assert json.load(index)["schemaVersion"] == 2
    wait_until(lambda: has_ended(app.pid), "the process ends with the last file")


def test_requests_of_a_suspended_mount_can_be_killed_and_continue_later(app: Mounted) -> None:
    os.kill(app.pid, signal.SIGSTOP)
    with (
        subprocess.Popen(["cat", layer_of(app)], stdout=subprocess.PIPE) as waits,
        subprocess.Popen(["ls", app.path], stdout=subprocess.DEVNULL) as killed,
    ):
        try:
            for client in (waits, killed):
                wait_until(lambda pid=client.pid: waits_for_an_answer(pid), "it waits", IN_TIME)  # type: ignore[misc]  # mypy infers no type for a lambda with defaults
            killed.kill()
            assert killed.wait(IN_TIME) == -signal.SIGKILL
        finally:
            os.kill(app.pid, signal.SIGCONT)
        assert waits.communicate(timeout=IN_TIME)[0] == LAYER


def test_a_suspended_mount_can_be_unmounted_lazily(app: Mounted) -> None:
    os.kill(app.pid, signal.SIGSTOP)
    try:
        run(*IMGFS, "umount", "--lazy", app.path, timeout=IN_TIME)
        assert not os.path.ismount(app.path)
    finally:
        os.kill(app.pid, signal.SIGCONT)
    wait_until(lambda: has_ended(app.pid), "the process ends")


def waits_for_an_answer(pid: int) -> bool:
    """Return whether a process waits in the kernel for the answer of a mount."""
    return Path(f"/proc/{pid}/wchan").read_text() in ("request_wait_answer", "0")


def test_sigterm_with_open_files_and_running_loads_leaves_no_ingest(
    mount: Callable[..., Mounted],
) -> None:
    one = mount()
    one.load(ARCHIVE)
    with opened(layer_of(one)):
        writing = []
        for number in range(10):
            file = os.open(one.drop / f"{number}.tar", os.O_WRONLY | os.O_CREAT)
            os.write(file, ARCHIVE[: 100_000 + number])
            writing.append(file)
        os.kill(one.pid, signal.SIGTERM)
        wait_until(lambda: has_ended(one.pid), "the process ends")
        for file in writing:
            with pytest.raises(OSError, match=r"not connected|abort"):
                os.close(file)
    assert not os.path.ismount(one.path)
    assert list((one.store / "ingest").iterdir()) == []
    assert layer_of(mount()).read_bytes() == LAYER


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_loads_that_have_succeeded_survive_a_signal(
    mount: Callable[..., Mounted], number: signal.Signals
) -> None:
    one = mount()
    done: list[str] = []
    enough = threading.Event()

    def load(first: int) -> None:
        for tag in range(first, first + 500):
            layers = [archives.layer(str(tag), bytes(50_000))]
            archive = archives.docker_archive((ImageParts(layers=layers), [f"n:{tag}"]))
            try:
                one.load(archive, f"{tag}.tar")
            except OSError:
                return
            done.append(f"n:{tag}")
            if len(done) >= 10:
                enough.set()

    threads = [threading.Thread(target=load, args=(first,)) for first in range(0, 2000, 500)]
    for thread in threads:
        thread.start()
    try:
        assert enough.wait(120)
    finally:
        os.kill(one.pid, number)
        for thread in threads:
            thread.join()
    wait_until(lambda: has_ended(one.pid), "the process ends")
    two = mount()
    assert set(done) <= set(two.names())
    with LocalEngine(two.store) as engine:
        assert all(engine.graph(image).best is not None for image in engine.images.all())
    for name in done[-3:]:
        run("cp", "-r", two / name, two.store.parent / name.replace(":", "-"))


def test_sigint_ends_a_foreground_mount_with_open_files(tmp_path: Path) -> None:
    path = tmp_path / "mnt"
    path.mkdir()
    with foreground(tmp_path / "store", path, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: os.path.ismount(path), "it is mounted")
        write(path / "import/x.tar", ARCHIVE)
        half = os.open(path / "import/y.tar", os.O_WRONLY | os.O_CREAT)
        os.write(half, ARCHIVE[:1000])
        with opened(path / "app:1/index.json"):
            process.send_signal(signal.SIGINT)
            assert process.wait(IN_TIME) == 0
        with pytest.raises(OSError, match=r"not connected|abort"):
            os.close(half)
        assert not os.path.ismount(path)


def test_umount_removes_the_mount_of_a_killed_process(app: Mounted) -> None:
    os.kill(app.pid, signal.SIGKILL)
    wait_until(lambda: has_ended(app.pid), "the process ends")
    looks: list[Callable[[Path], object]] = [os.listdir, os.statvfs]
    for look in looks:
        with pytest.raises(OSError) as raised:  # noqa: PT011 (the errno is what is asserted)
            look(app.path)
        assert raised.value.errno == errno.ENOTCONN
    run(*IMGFS, "umount", app.path)
    assert not os.path.ismount(app.path)
    assert os.listdir(app.path) == []


def test_mount_and_umount_refuse_a_dead_mount_of_another_file_system(tmp_path: Path) -> None:
    path = tmp_path / "other"
    path.mkdir()
    with stuck_disk(path, tmp_path) as disk:
        disk.process.kill()
        disk.process.wait()
        for command in (("mount", path), ("umount", path), ("umount", "--lazy", path)):
            done = subprocess.run(
                [*IMGFS, "--store", tmp_path / "store", *command], capture_output=True, check=False
            )
            assert done.returncode == 1
            assert done.stderr.count(b"\n") == 1
        with pytest.raises(OSError, match="not connected"):
            os.listdir(path)

"""The life of a mount, from `imgfs mount` to its end."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from imgfs import cli
from imgfs.cli import umount as unmounting
from tests import archives
from tests.archives import ImageParts
from tests.filetree.layers import directory, file, layer
from tests.local_engine import LocalEngine
from tests.mounts import IMGFS, Mounted, closed_to_others, foreground, has_ended, run
from tests.waiting import wait_until

BIG = archives.docker_archive(
    (ImageParts(layers=[archives.layer("big", os.urandom(300_000))]), ["big:1"])
)
ARCHIVE = archives.docker_archive((ImageParts(), ["app:1"]))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_a_mount_cleanly(mounted: Mounted, number: signal.Signals) -> None:
    mounted.load(ARCHIVE)
    os.kill(mounted.pid, number)
    wait_until(lambda: has_ended(mounted.pid), "the process ends")
    assert not os.path.ismount(mounted.path)


def test_a_signal_that_its_caller_ignores_does_not_end_a_mount(tmp_path: Path) -> None:
    """nohup(1) sets the signal's disposition so before it starts the command."""
    store, mountpoint = tmp_path / "store", tmp_path / "mountpoint"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with foreground(store, mountpoint, stderr=subprocess.PIPE) as process:
            wait_until(lambda: os.path.ismount(mountpoint), "it is mounted")
            process.send_signal(signal.SIGHUP)
            assert "import" in os.listdir(mountpoint)
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=60)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert b"ending on signal 15" in err
    assert b"ending on signal 1\n" not in err


@pytest.mark.parametrize("command", [("fusermount3", "-u"), ("umount",), (*IMGFS, "umount")])
def test_unmounting_ends_the_process(mounted: Mounted, command: tuple[str, ...]) -> None:
    run(*command, mounted.path)
    wait_until(lambda: has_ended(mounted.pid), "the process ends")
    assert not os.path.ismount(mounted.path)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("b\xfccher", "b\\134xc3\\134xbccher"),
        (b"\xff".decode(errors="surrogateescape"), "\\134xff"),
        ("a,b\\c", "a,b\\134c"),
    ],
)
def test_mount8_may_name_any_store(tmp_path: Path, name: str, shown: str) -> None:
    store, mountpoint = tmp_path / name, tmp_path / "mnt"
    mountpoint.mkdir()
    done = subprocess.run([*IMGFS, store, mountpoint, "-o", "rw"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    try:
        mounts = Path("/proc/self/mounts").read_text(errors="surrogateescape").splitlines()
        (line,) = [line for line in mounts if line.split()[1] == str(mountpoint)]
        assert line.startswith(f"{tmp_path}/{shown} {mountpoint} fuse.imgfs ")
        assert os.listdir(store)
    finally:
        run(*IMGFS, "umount", mountpoint)


@pytest.fixture
def waited_for(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the processes that `imgfs umount`, called in this process, has waited for."""
    pids: list[int] = []
    monkeypatch.setattr(unmounting, "_wait_for_end", lambda _path, pid, *_: pids.append(pid))
    return pids


@pytest.mark.parametrize("given", ["beside/../mnt", "link/mnt", "linked"])
def test_a_mount_is_known_by_its_path_without_symlinks_and_by_the_given_one(
    mount: Callable[..., Mounted], tmp_path: Path, waited_for: list[int], given: str
) -> None:
    real = tmp_path.resolve() / "mnt"
    real.mkdir()
    (tmp_path / "beside").mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "linked").symlink_to("mnt")
    mounted = mount(at=given)
    mounted.load(ARCHIVE)
    assert mounted.status("mountpoint") == str(real)
    for number, path in enumerate((mounted.path, real), 2):
        os.symlink(path / "app:1", real / f"app:{number}")
    assert mounted.names() == ["app:1", "app:2", "app:3", "import"]
    again = [*IMGFS, "--store", str(mounted.store), "mount", "--nonempty", str(mounted.path)]
    refused = subprocess.run(again, capture_output=True, text=True, check=False)
    assert refused.stderr.startswith(f"imgfs: {mounted.path}: is an imgfs mount already ")
    assert cli.run(["umount", str(real)]) == 0
    assert waited_for == [mounted.pid]


def test_a_mount_point_need_not_be_utf8(
    mount: Callable[..., Mounted], waited_for: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    mounted = mount(at=b"\xff".decode(errors="surrogateescape"))
    used = os.open(mounted.path, os.O_RDONLY)
    try:
        assert cli.run(["umount", str(mounted.path)]) == 1
        assert ": is busy: " in capsys.readouterr().err
    finally:
        os.close(used)
    again = [*IMGFS, "--store", str(mounted.store), "mount", str(mounted.path)]
    refused = subprocess.run(again, capture_output=True, check=False)
    assert refused.returncode == 1
    assert b": is an imgfs mount already " in refused.stderr
    assert cli.run(["umount", str(mounted.path)]) == 0
    assert waited_for == [mounted.pid]


def test_umount_takes_a_path_that_ends_in_dots(mounted: Mounted, waited_for: list[int]) -> None:
    assert cli.run(["umount", str(mounted / "import/..")]) == 0
    assert waited_for == [mounted.pid]


SLOW_START = """
import signal, sys
from pathlib import Path
from imgfs.cli import main
from imgfs.fuse import mount

def serve(*_):
    Path(sys.argv[1]).touch()
    signal.pause()

mount.serve = serve
main(["--store", sys.argv[2], "mount", sys.argv[3]])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_the_mount_is_ready_leaves_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    begun, store, mountpoint = (tmp_path / name for name in ("begun", "store", "mountpoint"))
    script = (sys.executable, "-c", SLOW_START)
    with subprocess.Popen([*script, begun, store, mountpoint], stderr=subprocess.PIPE) as process:
        wait_until(begun.exists, "the child serves")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        (child,) = map(int, children.read_text(encoding="ascii").split())
        process.send_signal(number)
        try:
            _, err = process.communicate(timeout=60)
            assert has_ended(child)
        finally:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
    assert process.returncode == (130 if number == signal.SIGINT else 128 + number)
    assert b"Traceback" not in err
    assert not mountpoint.exists()


def test_loaded_images_are_there_after_a_remount(mount: Callable[..., Mounted]) -> None:
    first = mount()
    first.load(ARCHIVE)
    run(*IMGFS, "umount", first.path)
    second = mount()
    assert second.names() == ["app:1", "import"]
    assert second.names("import") == []


def test_two_mounts_of_one_store_show_the_same_images(mount: Callable[..., Mounted]) -> None:
    first, second = mount(at="one"), mount(at="two")
    first.load(ARCHIVE)
    wait_until(lambda: second.names() == ["app:1", "import"], "the other mount shows it", 1.0)


def test_mount_replaces_a_mount_whose_process_was_killed(mount: Callable[..., Mounted]) -> None:
    first = mount()
    first.load(ARCHIVE)
    os.kill(first.pid, signal.SIGKILL)
    wait_until(lambda: has_ended(first.pid), "the process ends")
    with pytest.raises(OSError, match="not connected"):
        os.listdir(first.path)
    assert mount().names() == ["app:1", "import"]


def test_a_load_that_is_killed_leaves_no_listed_image(mount: Callable[..., Mounted]) -> None:
    first = mount()
    descriptor = os.open(first.drop / "x.tar", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, ARCHIVE[: len(ARCHIVE) // 2])
    os.kill(first.pid, signal.SIGKILL)
    with pytest.raises(OSError):  # noqa: PT011 (ENOTCONN or ECONNABORTED)
        os.close(descriptor)
    wait_until(lambda: has_ended(first.pid), "the process ends")
    second = mount()
    assert second.names() == ["import"]
    second.load(ARCHIVE)
    assert second.names() == ["app:1", "import"]


def test_ending_a_mount_takes_back_running_loads(mount: Callable[..., Mounted]) -> None:
    first = mount()
    first.load(BIG, "before.tar")
    with LocalEngine(first.store) as engine:
        before = [engine.database.read(f"SELECT * FROM {t}") for t in ("blobs", "images", "leases")]
    descriptor = os.open(first.drop / "x.tar", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, BIG[: len(BIG) - 20_000])
    os.kill(first.pid, signal.SIGTERM)
    wait_until(lambda: has_ended(first.pid), "the process ends")
    with pytest.raises(OSError, match=r"not connected|abort"):
        os.close(descriptor)
    with LocalEngine(first.store) as engine:
        after = [engine.database.read(f"SELECT * FROM {t}") for t in ("blobs", "images", "leases")]
    assert after == before
    assert list((first.store / "ingest").iterdir()) == []


def test_a_foreground_mount_serves_until_sigterm(tmp_path: Path) -> None:
    path = tmp_path / "mnt"
    path.mkdir()
    with foreground(tmp_path / "store", path) as process:
        wait_until(lambda: os.path.ismount(path), "it is mounted")
        assert json.loads((path / ".imgfs/status.json").read_bytes())["pid"] == process.pid
        process.terminate()
        assert process.wait(60) == 0
        assert not os.path.ismount(path)


def test_a_second_mount_at_the_same_path_is_refused(mounted: Mounted) -> None:
    command = [*IMGFS, "--store", str(mounted.store), "mount", str(mounted.path)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1


def test_mounting_on_a_file_or_with_a_bad_store_fails_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "mnt").mkdir()
    (tmp_path / "store").mkdir()
    (tmp_path / "store/version").write_text("99\n")
    for store, path in (("new", "file"), ("store", "mnt"), ("file", "mnt")):
        command = [*IMGFS, "--store", str(tmp_path / store), "mount", str(tmp_path / path)]
        done = subprocess.run(command, capture_output=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith(b"imgfs: ")
        assert done.stderr.count(b"\n") == 1
        assert b"Traceback" not in done.stderr
    assert not os.path.ismount(tmp_path / "mnt")


SOMEBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def as_a_user(tmp_path: Path, archive: bytes, script: str) -> list[str]:
    """Run a script as an ordinary user who has an archive; return the words that it prints.

    In the script {imgfs} is the command with a store, and {python} the interpreter.
    """
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    if reason := closed_to_others():
        pytest.skip(reason)
    home = tmp_path / "home"
    (home / "mnt").mkdir(parents=True)
    (home / "x.tar").write_bytes(archive)
    for path in (home, home / "mnt"):
        os.chown(path, 65534, 65534)
    for parent in home.parents[:-2]:
        parent.chmod(parent.stat().st_mode | 0o111)
    file = home / "script"
    file.write_text(
        AS_A_USER
        + script.format(imgfs=" ".join([*IMGFS, "--store", "$HOME/store"]), python=sys.executable)
    )
    # In a mount namespace whose /dev/fuse everybody may open, as distributions set it up.
    enter = f"""
        mknod {tmp_path}/fuse c 10 229 && chmod 666 {tmp_path}/fuse
        mount --bind {tmp_path}/fuse /dev/fuse
        exec {" ".join(SOMEBODY)} bash -e {file}
    """
    environment = {**os.environ, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    done = run("unshare", "-m", "bash", "-ec", enter, env=environment, cwd=Path.cwd())
    return done.stdout.decode().split()


AS_A_USER = """
cd $HOME/..
export PYTHONPATH=$OLDPWD
"""


def test_an_ordinary_user_can_mount(tmp_path: Path) -> None:
    script = """
        {imgfs} mount $HOME/mnt
        trap '{imgfs} umount $HOME/mnt' EXIT
        cp $HOME/x.tar $HOME/mnt/import/
        ls $HOME/mnt
        mv $HOME/mnt/app:1 $HOME/mnt/app:2
        ls $HOME/mnt
        stat -c %u:%g $HOME/mnt/app:2/index.json | grep -qx 65534:65534
    """
    found = as_a_user(tmp_path, ARCHIVE, script)
    assert found == ["app:1", "import", "app:2", "import"]


def test_an_ordinary_user_owns_and_reads_all_of_a_root(tmp_path: Path) -> None:
    root = layer(
        directory("etc", mode=0o700),
        file("etc/shadow", "secret", mode=0o000, uid=0, gid=42),
        file("bin", "x", mode=0o4755, uid=7),
    )
    script = """
        {imgfs} load -q -i $HOME/x.tar
        {imgfs} mount --layout rootfs $HOME/mnt
        trap '{imgfs} umount $HOME/mnt' EXIT
        cd $HOME
        stat -c %u:%g mnt/app:1/etc mnt/app:1/etc/shadow mnt/app:1/bin
        cat mnt/app:1/etc/shadow
        owner='import os; print(os.getxattr("mnt/app:1/etc/shadow", "user.oci.owner").decode())'
        {python} -c "$owner"
    """
    found = as_a_user(tmp_path, archives.docker_archive((ImageParts([root]), ["app:1"])), script)
    assert found == [*["65534:65534"] * 3, "secret0:42"]

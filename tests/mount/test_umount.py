"""`imgfs umount` of a busy mount: the error names its users at once."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from imgfs.cli import umount as unmounting
from imgfs.mounts import mounts_at
from tests import archives
from tests.archives import ImageParts
from tests.mounts import IMGFS, Mounted, closed_to_others, has_ended, run, started
from tests.waiting import wait_until

ARCHIVE = archives.docker_archive((ImageParts(), ["app:1"]))

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can mount")


def error_of_umount(path: Path) -> str:
    done = subprocess.run([*IMGFS, "umount", str(path)], capture_output=True, check=False)
    said = done.stderr.decode()
    assert done.returncode == 1, said
    assert said.startswith(f"imgfs: {path}: ")
    assert said.count("\n") == 1, "it would say that it waits"
    return said


@contextmanager
def running(code: str, *words: str | Path, launcher: tuple[str, ...] = ()) -> Iterator[int]:
    """Run Python code in a process that then waits; provide its ID."""
    script = f"import mmap, os, sys\n{code}\nprint(flush=True)\nsys.stdin.read()"
    command = [*launcher, sys.executable, "-c", script, *map(str, words)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"\n"
        yield process.pid
        process.stdin.close()


USES = {
    "a working directory": "os.chdir(sys.argv[1])",
    "a directory": "kept = os.open(sys.argv[1], os.O_RDONLY)",
    "a file": "kept = open(sys.argv[1] + '/index.json')",
    "a path": "kept = os.open(sys.argv[1] + '/index.json', os.O_PATH)",
    "a mapping": (
        "with open(sys.argv[1] + '/index.json', 'rb') as file:"
        " kept = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)"
    ),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_umount_names_a_process_that_uses_the_mount(mounted: Mounted, use: str) -> None:
    mounted.load(ARCHIVE)
    image = mounted / "app:1"
    with running(use, image) as pid:
        said = error_of_umount(mounted.path)
        command = Path(f"/proc/{pid}/comm").read_text().strip()
        assert f": is busy: process {pid} ({command}) at {image}" in said
        assert said.endswith(f"imgfs umount -l {mounted.path}\n")
        assert os.path.ismount(mounted.path)
    run(*IMGFS, "umount", mounted.path)
    wait_until(lambda: has_ended(mounted.pid), "the process ends")


def test_umount_counts_further_processes(mounted: Mounted) -> None:
    with ExitStack() as users:
        users.callback(os.close, os.open(mounted.path, os.O_RDONLY))
        for _ in range(5):
            users.enter_context(started("cat", stdin=subprocess.PIPE, cwd=mounted.path))
        said = error_of_umount(mounted.path)
        assert said.count(": process ") + said.count(", process ") == 4
        assert ", 2 more; " in said


@as_root
def test_umount_names_a_mount_inside_the_mount(mounted: Mounted) -> None:
    run("mount", "-t", "tmpfs", "none", mounted / "import")
    try:
        assert f": is busy: a mount at {mounted.path}/import; " in error_of_umount(mounted.path)
    finally:
        run("umount", mounted / "import")


@as_root
def test_umount_names_another_mount_namespace(mounted: Mounted) -> None:
    with running("", launcher=("unshare", "-m", "--propagation", "private")) as pid:
        said = error_of_umount(mounted.path)
        assert f": is unmounted, but its process {mounted.pid} goes on, because of a mount" in said
        assert f"at {mounted.path} in the mount namespace of process {pid} (" in said
        assert f"nsenter -t {pid} -m umount {mounted.path}" in said
        assert not os.path.ismount(mounted.path)
        assert not has_ended(mounted.pid)
        run("nsenter", "-t", str(pid), "-m", "umount", mounted.path)
        wait_until(lambda: has_ended(mounted.pid), "the process ends")


@as_root
def test_umount_names_a_bind_mount(mounted: Mounted, tmp_path: Path) -> None:
    mounted.load(ARCHIVE)
    (tmp_path / "bound").mkdir()
    run("mount", "--bind", mounted / "app:1", tmp_path / "bound")
    try:
        said = error_of_umount(mounted.path)
        assert f"because of a mount at {tmp_path}/bound (umount {tmp_path}/bound)\n" in said
    finally:
        run("umount", tmp_path / "bound")
    wait_until(lambda: has_ended(mounted.pid), "the process ends")


@as_root
def test_umount_names_an_overlay(mount: Callable[..., Mounted], tmp_path: Path) -> None:
    mounted = mount(options=("--no-passthrough",))
    mounted.load(ARCHIVE)
    (tmp_path / "over").mkdir()
    lower = f"lowerdir={mounted.path}/app\\:1:{tmp_path}"
    run("mount", "-t", "overlay", "none", "-o", lower, tmp_path / "over")
    try:
        said = error_of_umount(mounted.path)
        assert f"because of an overlay at {tmp_path}/over (umount {tmp_path}/over)\n" in said
    finally:
        run("umount", tmp_path / "over")
    wait_until(lambda: has_ended(mounted.pid), "the process ends")


def test_ending_a_detached_mount_leaves_the_new_mount_at_its_path(
    mount: Callable[..., Mounted],
) -> None:
    detached = mount()
    used = os.open(detached.path, os.O_RDONLY)
    try:
        run(*IMGFS, "umount", "-l", detached.path)
        assert not has_ended(detached.pid), "it serves its user"
        new = mount()
        os.kill(detached.pid, signal.SIGTERM)
        wait_until(lambda: has_ended(detached.pid), "the detached mount's process ends")
        assert os.path.ismount(new.path)
        assert new.status("pid") == new.pid
    finally:
        os.close(used)


@as_root
def test_ending_leaves_what_is_mounted_over_it(mounted: Mounted) -> None:
    run("mount", "-t", "tmpfs", "none", mounted.path)
    try:
        os.kill(mounted.pid, signal.SIGTERM)
        wait_until(lambda: has_ended(mounted.pid), "the process ends")
        assert os.path.ismount(mounted.path)
    finally:
        run("umount", mounted.path)


@as_root
def test_what_covers_a_mount_is_not_unmounted(mounted: Mounted) -> None:
    run("mount", "-t", "tmpfs", "none", mounted.path)
    try:
        (mounted.path / "mine").touch()
        assert "another mount (tmpfs) covers the imgfs mount" in error_of_umount(mounted.path)
        assert (mounted.path / "mine").exists()
    finally:
        run("umount", mounted.path)


@as_root
def test_without_mtab_an_ordinary_user_unmounts(tmp_path: Path) -> None:
    """fusermount3 refuses here; umount(8) and the end of the mount's process succeed."""
    if reason := closed_to_others():
        pytest.skip(reason)
    home, etc = tmp_path / "home", tmp_path / "etc"
    for path in (home / "mnt", etc):
        path.mkdir(parents=True)
    for name in ("passwd", "group"):
        (etc / name).write_bytes(Path("/etc", name).read_bytes())
    for path in (home, home / "mnt"):
        os.chown(path, 65534, 65534)
    for parent in home.parents[:-2]:
        parent.chmod(parent.stat().st_mode | 0o111)
    script = home / "script"
    script.write_text(WITHOUT_MTAB.format(imgfs=" ".join(IMGFS)))
    enter = f"""
        mknod {tmp_path}/fuse c 10 229 && chmod 666 {tmp_path}/fuse
        mount --bind {tmp_path}/fuse /dev/fuse
        mount --bind {etc} /etc
        exec setpriv --reuid=65534 --regid=65534 --clear-groups bash -e {script}
    """
    environment = {**os.environ, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    run("unshare", "-m", "bash", "-ec", enter, env=environment, cwd=Path.cwd())


WITHOUT_MTAB = """
cd $HOME/..
export PYTHONPATH=$OLDPWD
test ! -e /etc/mtab
is_mounted() {{ grep -q " $HOME/mnt fuse.imgfs " /proc/self/mounts; }}
is_free() {{ if is_mounted; then exit 1; fi; }}
mount() {{ {imgfs} --store $HOME/store mount $HOME/mnt; is_mounted; }}
mount
{imgfs} umount $HOME/mnt
is_free
mount
{imgfs} umount -l $HOME/mnt
is_free
{imgfs} --store $HOME/store mount -f $HOME/mnt 2> /dev/null &
until is_mounted; do sleep 0.05; done
kill -TERM $!
wait $!
is_free
"""


def test_a_later_mount_with_the_same_device_is_not_taken_for_this_one(
    mount: Callable[..., Mounted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel gives the device of a file system that has gone to the next one."""
    ours, later = mount(at="ours"), mount(at="later")
    (info,) = mounts_at(later.path)
    entry = tmp_path / "connections" / info.device.partition(":")[2]
    entry.mkdir(parents=True)
    unmount = unmounting.unmount

    def unmount_and_mount(path: Path, lazily: bool) -> None:
        unmount(path, lazily)
        entry.rename(tmp_path / "gone")
        entry.mkdir()

    monkeypatch.setattr(unmounting, "_CONNECTIONS", entry.parent)
    monkeypatch.setattr(unmounting, "mounts_at", lambda _: [info])
    monkeypatch.setattr(unmounting, "unmount", unmount_and_mount)
    unmounting.UMOUNT.call("imgfs umount", [str(ours.path)], "")
    wait_until(lambda: has_ended(ours.pid), "the process has ended")

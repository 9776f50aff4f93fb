"""The permissions of other users: in a mount with and without allow_other, in a store, and on the
way to files that imgfs writes.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.filetree.layers import directory, file, layer
from tests.mounts import IMGFS, Mounted, closed_to_others, lacking, mounts, run

SOMEBODY = 65534
APP = ImageParts()
ARCHIVE = archives.docker_archive((APP, ["app:1"]))

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")


@pytest.fixture
def room() -> Iterator[Path]:
    """Return a directory that other users can enter; they cannot enter tmp_path."""
    path = Path(tempfile.mkdtemp(prefix="imgfs-access-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def start(room: Path) -> Iterator[Callable[..., Mounted]]:
    if reason := lacking():
        pytest.skip(reason)
    with mounts(room) as start:
        yield start


def run_as_other_user(*command: str | Path) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [str(part) for part in command],
        user=SOMEBODY,
        group=SOMEBODY,
        extra_groups=[],
        capture_output=True,
        check=False,
        cwd="/",
    )


def imgfs(store: Path, *command: str | Path) -> "subprocess.CompletedProcess[bytes]":
    words = [*IMGFS, "--store", str(store), *map(str, command)]
    return subprocess.run(words, capture_output=True, check=False)


def test_others_see_nothing_without_allow_other(start: Callable[..., Mounted]) -> None:
    mounted = start()
    mounted.load(ARCHIVE)
    for command in (("ls", mounted.path), ("cat", mounted / "app:1/index.json")):
        assert b"Permission denied" in run_as_other_user(*command).stderr


def test_others_read_with_allow_other(start: Callable[..., Mounted]) -> None:
    mounted = start(options=("-o", "allow_other"))
    mounted.load(ARCHIVE)
    assert run_as_other_user("ls", mounted.path).stdout == b"app:1\nimport\n"
    saved = run_as_other_user("tar", "-C", mounted / "app:1", "-c", ".")
    assert saved.returncode == 0
    assert b"index.json" in saved.stdout
    assert run_as_other_user("ls", mounted.store).returncode != 0


def test_root_has_the_access_that_it_has_on_a_disk(start: Callable[..., Mounted]) -> None:
    mounted = start()
    modes = {"none": 0o000, "others": 0o001, "shadow": 0o640}
    members = [file(name, "x", mode=mode) for name, mode in modes.items()]
    image = ImageParts([layer(*members, directory("closed", 0o000), file("closed/a", "y"))])
    mounted.load(archives.oci_archive((image, "app:2"), gzipped=True))
    root = mounted / "rootfs/app:2"
    for name in (*modes, "closed"):
        assert os.access(root / name, os.R_OK | os.W_OK), name
    assert [name for name in modes if os.access(root / name, os.X_OK)] == ["others"]
    assert os.access(root / "closed", os.X_OK)
    assert run("cat", "a", cwd=root / "closed").stdout == b"y"


WRITES = {
    "a new file": "cp {archive} {mnt}/import/y.tar",
    "over a receipt": "cp {archive} {mnt}/import/x.tar",
    "append to a receipt": "cat {archive} >> {mnt}/import/x.tar",
    "truncate a receipt": "truncate -s 0 {mnt}/import/x.tar",
    "remove a receipt": "rm -f {mnt}/import/x.tar",
    "rename a receipt": "mv {mnt}/import/x.tar {mnt}/import/y.tar",
    "chmod a receipt": "chmod 666 {mnt}/import/x.tar",
    "chmod the directory": "chmod 777 {mnt}/import",
    "chmod the mount": "chmod 777 {mnt}",
    "attribute of a receipt": "setfattr -n user.x -v y {mnt}/import/x.tar",
    "rename": "mv {mnt}/app:1 {mnt}/app:2",
    "tag": "ln -s app:1 {mnt}/app:2",
    "remove": "rmdir {mnt}/app:1",
}


@pytest.mark.parametrize(("mode", "owner"), [(0o666, 0), (0o644, SOMEBODY)])
def test_others_change_nothing(start: Callable[..., Mounted], mode: int, owner: int) -> None:
    mounted = start(options=("-o", "allow_other"))
    mounted.load(ARCHIVE)
    (mounted.drop / "x.tar").chmod(mode)
    os.chown(mounted.drop / "x.tar", owner, owner)  # as cp -a does
    archive = mounted.path.parent / "y.tar"
    archive.write_bytes(archives.docker_archive((APP, ["evil:1"])))
    before = mounted.names(), mounted.names("import"), (mounted.drop / "x.tar").stat()
    for what, command in WRITES.items():
        done = run_as_other_user("bash", "-c", command.format(archive=archive, mnt=mounted.path))
        assert done.returncode != 0, what
        now = mounted.names(), mounted.names("import"), (mounted.drop / "x.tar").stat()
        assert now == before, what


AS_A_USER = """
set -e
export PYTHONPATH=$1 HOME=$2 LC_ALL=C PYTHONDONTWRITEBYTECODE=1
imgfs() {{ {imgfs} --store $HOME/store "$@"; }}
M=$HOME/mnt
imgfs mount -o allow_other $M
cp $HOME/x.tar $M/import/
stat -c %a $M/app:1
"""
"""The steps of a user who mounts for others to read, before they come."""


def test_others_change_nothing_in_a_users_mount(room: Path) -> None:
    """The kernel checks no modes in this mount, so that its owner can remove images."""
    if reason := closed_to_others():
        pytest.skip(reason)
    stranger = SOMEBODY - 1
    home = room / "home"
    (home / "mnt").mkdir(parents=True)
    (home / "x.tar").write_bytes(ARCHIVE)
    for path in (home, home / "mnt"):
        os.chown(path, SOMEBODY, SOMEBODY)
    (room / "y.tar").write_bytes(archives.docker_archive((APP, ["evil:1"])))
    (room / "fuse.conf").write_text("user_allow_other\n")
    (room / "user").write_text(AS_A_USER.format(imgfs=" ".join(IMGFS)))
    more = {"unlink": "rm -f {mnt}/app:1/index.json", "namespace": "mkdir {mnt}/team"}
    tries = [c.format(archive=room / "y.tar", mnt=home / "mnt") for c in (WRITES | more).values()]
    (room / "stranger").write_text(
        "".join(f"{command} && echo done: {command!r}\n" for command in tries)
        + f"cat {home}/mnt/app:1/index.json >/dev/null && ls {home}/mnt {home}/mnt/app:1\n"
        + f"test -w {home}/mnt/app:1/index.json || test -w {home}/mnt || echo may not write\n"
    )
    become = "setpriv --clear-groups --reuid={0} --regid={0}"
    script = f"""
        mknod {room}/fuse c 10 229 && chmod 666 {room}/fuse
        mount --bind {room}/fuse /dev/fuse && mount --bind {room}/fuse.conf /etc/fuse.conf
        trap 'PYTHONPATH={Path.cwd()} {" ".join(IMGFS)} umount {home}/mnt' EXIT
        {become.format(SOMEBODY)} bash {room}/user {Path.cwd()} {home}
        {become.format(stranger)} bash {room}/stranger
        {become.format(SOMEBODY)} bash -c 'rm -r {home}/mnt/app:1 && ls {home}/mnt'
    """
    done = run("unshare", "-m", "bash", "-ec", script, cwd="/")
    reported = done.stdout.decode().splitlines()
    assert reported[0] == "555"
    assert not [line for line in reported if line.startswith("done: ")]
    assert {"app:1", "index.json"} < set(reported), "he could read"
    end = reported.index("may not write") + 1
    assert reported[end] == "import"
    assert [name[:7] for name in reported[end + 1 :]] == ["sha256:"]


# -- the store ------------------------------------------------------------------------------------


def test_other_users_cannot_enter_a_store(room: Path) -> None:
    (room / "store").mkdir()
    (room / "store").chmod(0o777)
    (room / "x.tar").write_bytes(ARCHIVE)
    assert imgfs(room / "store", "load", room / "x.tar").returncode == 0
    assert (room / "store").stat().st_mode & 0o7777 == 0o700


def plant(store: Path, how: str) -> None:
    """Put something of another user on the path of a store."""
    other = store.parent / "other"
    other.mkdir()
    os.chown(other, SOMEBODY, SOMEBODY)
    match how:
        case "his directory":
            other.rename(store)
        case "his symlink":
            store.symlink_to(other)
            os.chown(store, SOMEBODY, SOMEBODY, follow_symlinks=False)
        case "his symlink to ours":
            (store.parent / "ours").mkdir(mode=0o700)
            store.symlink_to("ours")
            os.chown(store, SOMEBODY, SOMEBODY, follow_symlinks=False)
        case "ingest":
            store.mkdir(mode=0o777)
            (store / "ingest").symlink_to(other)
            os.chown(store / "ingest", SOMEBODY, SOMEBODY, follow_symlinks=False)
        case "blobs":
            store.mkdir(mode=0o777)
            other.rename(store / "blobs")
        case "a directory of everybody":
            store.parent.chmod(0o777)


@pytest.mark.parametrize(
    "how",
    [
        "his directory",
        "his symlink",
        "his symlink to ours",
        "ingest",
        "blobs",
        "a directory of everybody",
    ],
)
def test_no_store_is_made_on_a_path_that_another_user_can_redirect(room: Path, how: str) -> None:
    store = room / "way/store"
    store.parent.mkdir()
    plant(store, how)
    (room / "x.tar").write_bytes(ARCHIVE)
    done = imgfs(store, "load", "-i", room / "x.tar")
    assert done.returncode == 1
    assert done.stderr.startswith(b"imgfs: ")
    assert done.stderr.count(b"\n") == 1
    assert [p for p in room.rglob("*") if p.is_file()] == [room / "x.tar"]


def test_a_store_behind_the_users_own_symlink_is_used(room: Path) -> None:
    (room / "real").mkdir()
    (room / "store").symlink_to("real")
    (room / "x.tar").write_bytes(ARCHIVE)
    assert imgfs(room / "store", "load", room / "x.tar").returncode == 0
    assert imgfs(room / "store", "images", "app:1").returncode == 0
    assert (room / "real/imgfs.db").exists()


# -- files and mount points -----------------------------------------------------------------------


@pytest.fixture
def shared(room: Path) -> Path:
    """Return a directory with the mode of /tmp; another user has a symlink to root's file in it."""
    path = room / "shared"
    path.mkdir()
    path.chmod(0o1777)
    (room / "ours").write_bytes(b"precious")
    (path / "out").symlink_to(room / "ours")
    os.chown(path / "out", SOMEBODY, SOMEBODY, follow_symlinks=False)
    return path


@pytest.mark.parametrize(
    "words",
    [
        ("save", "-o", "{}", "app:1"),
        ("commit", "--iidfile", "{}", "rootfs", "new:1"),
        ("commit", "--metadata-file", "{}", "rootfs", "new:1"),
        ("mount", "{}"),
        ("umount", "{}"),
    ],
    ids=" ".join,
)
def test_no_file_is_written_through_a_symlink_of_another_user(
    room: Path, shared: Path, words: tuple[str, ...]
) -> None:
    (room / "x.tar").write_bytes(ARCHIVE)
    (room / "rootfs").mkdir()
    run(*IMGFS, "--store", room / "store", "load", "-q", "-i", room / "x.tar")
    command = [
        word.format(shared / "out").replace("rootfs", str(room / "rootfs")) for word in words
    ]
    done = imgfs(room / "store", *command)
    assert done.returncode == 1
    assert b"symlink of user" in done.stderr
    assert (room / "ours").read_bytes() == b"precious"
    assert [path.name for path in shared.iterdir()] == ["out"]


def test_files_are_written_through_the_users_own_symlink(room: Path, shared: Path) -> None:
    (room / "x.tar").write_bytes(ARCHIVE)
    run(*IMGFS, "--store", room / "store", "load", "-q", "-i", room / "x.tar")
    (shared / "mine").symlink_to(room / "ours")
    assert imgfs(room / "store", "save", "-o", shared / "mine", "app:1").returncode == 0
    assert (room / "ours").stat().st_size > 2000
    assert (shared / "mine").is_symlink()

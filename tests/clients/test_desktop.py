"""Desktop and backup programs on a mount: copy in, delete, back up."""

import os
import pty
import re
import select
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.clients.client import Client, find
from tests.mounts import Mounted, lacking
from tests.waiting import wait_until

APP = ImageParts(layers=[archives.layer("a", os.urandom(50_000)), archives.layer("b")])
ARCHIVE = archives.docker_archive((APP, ["app:1", "ghcr.io/org/app:1"]))

pytestmark = pytest.mark.skipif(lacking() is not None, reason=lacking() or "")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "app.tar"
    path.write_bytes(ARCHIVE)
    return path


@pytest.fixture
def truncated(tmp_path: Path) -> Path:
    path = tmp_path / "cut.tar"
    path.write_bytes(ARCHIVE[:-20_000])
    return path


@pytest.fixture
def app(mounted: Mounted, archive: Path) -> Mounted:
    """Return a mount with images, a loaded file and a failure."""
    shutil.copyfile(archive, mounted.drop / "app.tar")
    with pytest.raises(OSError, match="Bad message"):
        mounted.load(ARCHIVE[:-20_000], "cut.tar")
    return mounted


def client(tmp_path: Path, *command: str) -> Client:
    """Return a program restricted to the settings in the test's directory."""
    home = str(tmp_path / "home")
    own = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"), home)
    return Client((find(command[0]), *command[1:]), {**own, "LC_ALL": "C.UTF-8", "TERM": "xterm"})


COPIERS = {
    "gio": ("gio", "copy"),
    "rclone": ("rclone", "copy", "--retries", "1"),
    "rsync": ("rsync", "-a"),
    "install": ("install", "-p"),
    "cp": ("cp", "-a"),
}


@pytest.mark.parametrize("command", COPIERS.values(), ids=list(COPIERS))
def test_programs_copy_archives_in(
    command: tuple[str, ...], mounted: Mounted, archive: Path, truncated: Path, tmp_path: Path
) -> None:
    copy = client(tmp_path, *command)
    assert copy.run(truncated, f"{mounted.drop}/").returncode != 0
    assert mounted.names("import") == ["cut.tar.failed.txt"]
    assert "truncated" in (mounted.drop / "cut.tar.failed.txt").read_text()
    shutil.copyfile(archive, truncated)
    copy(truncated, f"{mounted.drop}/")
    assert mounted.names() == ["app:1", "ghcr.io", "import"]
    assert mounted.names("import") == []


@pytest.mark.parametrize("again", [("cp", "-u"), ("cp", "-n"), ("rsync", "-a"), ("rsync", "-u")])
def test_a_failed_copy_can_be_repeated(
    again: tuple[str, ...], mounted: Mounted, archive: Path, tmp_path: Path
) -> None:
    with pytest.raises(OSError, match="Bad message"):
        mounted.load(ARCHIVE[:-20_000], archive.name)
    client(tmp_path, *again)(archive, f"{mounted.drop}/")
    assert "app:1" in mounted.names()
    assert mounted.names("import") == []


# -- deleting -------------------------------------------------------------------------------------


def test_gio_removes_from_the_leaves(app: Mounted, tmp_path: Path) -> None:
    """File managers remove so, because they use gio's library."""
    remove = client(tmp_path, "gio", "remove")
    image = app / "ghcr.io/org/app:1"
    for path in [*sorted(image.rglob("*"), reverse=True), image, image.parent, app / "ghcr.io"]:
        remove(path)
    assert app.names() == ["app:1", "import"]


def test_gio_has_no_trash_here(app: Mounted, tmp_path: Path) -> None:
    """Therefore file managers ask whether to delete at once."""
    before = sorted(app.path.rglob("*"))
    trash = client(tmp_path, "gio", "trash")
    for path in (app / "app:1", app / "app:1/index.json", app.drop / "cut.tar.failed.txt"):
        done = trash.run(path)
        assert done.returncode == 1
        assert b"trash" in done.stderr
    assert sorted(app.path.rglob("*")) == before


def test_mv_moves_an_image_out_of_the_mount(app: Mounted, tmp_path: Path) -> None:
    client(tmp_path, "mv")(app / "app:1", tmp_path / "out")
    assert (tmp_path / "out/blobs/sha256" / APP.id[7:]).is_file()
    assert app.names() == ["ghcr.io", "import"]


ESCAPES = re.compile(rb"\x1b[\[(][0-9;?]*[a-zA-Z]")


@contextmanager
def terminal(command: Client, *arguments: str | Path) -> Iterator[Callable[[str, str], None]]:
    """Run a program on a terminal; provide a function that waits for a text and then types keys."""
    pid, descriptor = pty.fork()
    if not pid:
        try:
            words = [*command.command, *map(str, arguments)]
            os.execve(words[0], words, {**os.environ, **command.environment})
        finally:
            os._exit(127)
    seen = bytearray()

    def read() -> None:
        with suppress(OSError):  # the program has ended
            while select.select([descriptor], [], [], 0)[0]:
                seen.extend(os.read(descriptor, 1 << 16))

    def shows(text: str) -> bool:
        read()
        return text.encode() in ESCAPES.sub(b"", seen)

    def type_after(text: str, keys: str) -> None:
        wait_until(lambda: shows(text), f"it shows {text!r}")
        seen.clear()
        os.write(descriptor, keys.encode())

    try:
        yield type_after
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(descriptor)


DOWN, DELETE, ENTER = "\x1bOB", "\x1b8", "\r"


def test_mc_deletes_an_image(app: Mounted, tmp_path: Path) -> None:
    mc = client(tmp_path, "mc", "-b", "-u", "-d")
    with terminal(mc, app.path, app.path) as type_after:
        type_after("10Quit", DOWN)
        type_after("app:1", DELETE)
        type_after("Delete directory", ENTER)
        type_after("Delete it recursively", ENTER)
        wait_until(lambda: app.names() == ["ghcr.io", "import"], "mc has deleted it")


def test_rm_on_a_terminal_asks_no_question(app: Mounted, tmp_path: Path) -> None:
    with terminal(client(tmp_path, "rm", "-rv"), app / "app:1") as type_after:
        type_after(f"removed directory '{app.path}/app:1'", "")
    assert app.names() == ["ghcr.io", "import"]


# -- backing up -----------------------------------------------------------------------------------


def same(one: Path, other: Path) -> bool:
    done = subprocess.run(["diff", "-r", one, other], capture_output=True, check=False)
    return done.returncode == 0


def test_rsync_backs_up_the_mount(app: Mounted, tmp_path: Path) -> None:
    rsync = client(tmp_path, "rsync", "-aHi")
    assert rsync(f"{app.path}/", tmp_path / "copy") != ""
    assert rsync(f"{app.path}/", tmp_path / "copy") == ""
    assert same(app.path, tmp_path / "copy")


def test_cp_backs_up_the_mount(app: Mounted, tmp_path: Path) -> None:
    cp = client(tmp_path, "cp", "-auv")
    assert cp(f"{app.path}/.", tmp_path / "copy") != ""
    assert " -> " not in cp(f"{app.path}/.", tmp_path / "copy")
    assert same(app.path, tmp_path / "copy")


def test_restic_backs_up_the_mount(app: Mounted, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    options = ("--repo", str(tmp_path / "repository"), "--password-file", str(secret))
    restic = client(tmp_path, "restic", *options)
    restic("init")
    files = len([path for path in app.path.rglob("*") if path.is_file()])
    assert f"Files: {files:11} new" in restic("backup", app.path)
    reported = restic("backup", app.path)
    assert f"Files: {0:11} new, {0:5} changed, {files:5} unmodified" in reported
    restic("restore", "latest", "--target", tmp_path / "restored")
    assert same(app.path, tmp_path / "restored" / app.path.relative_to("/"))


def test_borg_backs_up_the_mount(app: Mounted, tmp_path: Path) -> None:
    borg = client(tmp_path, "borg")
    repository = tmp_path / "repository"
    borg("init", "-e", "none", repository)
    listing = ("create", "--list", "--filter", "AMCE", "--files-cache", "ctime,size,inode")
    first = borg.run(*listing, f"{repository}::1", app.path)
    second = borg.run(*listing, f"{repository}::2", app.path)
    assert (first.returncode, second.returncode) == (0, 0)
    newest = f"A {app.drop}/cut.tar.failed.txt".encode()
    assert newest in first.stderr.splitlines()
    assert len(first.stderr.splitlines()) > 10
    assert second.stderr.splitlines() in ([], [newest]), "borg reads what is newest twice"


def test_rclone_backs_up_the_mount(app: Mounted, tmp_path: Path) -> None:
    rclone = client(tmp_path, "rclone", "sync", "-v")
    assert b"Copied (new)" in rclone.run(app.path, tmp_path / "copy").stderr
    assert b"nothing to transfer" in rclone.run(app.path, tmp_path / "copy").stderr
    assert same(app.path, tmp_path / "copy")

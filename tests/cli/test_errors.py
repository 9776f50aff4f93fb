"""Messages and exit statuses of commands that fail."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import names
from imgfs import cli
from tests import archives
from tests.archives import ImageParts
from tests.cli.command import Command, Done, refusal, succeeded
from tests.faults import disks
from tests.mounts import IMGFS

APP = ImageParts(extra={"history": [{"created_by": f"ADD bücher {'x' * 100}"}]})
ARCHIVE = archives.docker_archive((APP, ["app:1"]))

USAGE = [
    [],
    ["bogus"],
    ["bo\x1b[31mgus\n"],
    ["--bogus"],
    ["--store"],
    ["load", "--bogus"],
    ["load", "-i"],
    ["load", "--max-bytes", "many"],
    ["load", "--max-bytes", "-1"],
    ["load", "--limit", "max_images=many"],
    ["load", "--limit", "max_\x1b[31m=1"],
    ["load", "--format", "yaml"],
    ["save"],
    ["save", "-o", "x.tar"],
    ["save", "--platform", "linux", "--all-platforms", "app:1"],
    ["images", "--format", "\x1b[31m\n"],
    ["inspect"],
    ["inspect", "--format", "table", "app:1"],
    ["history"],
    ["history", "app:1", "app:2"],
    ["info", "app:1"],
    ["tag"],
    ["tag", "app:1"],
    ["rm"],
    ["mount"],
    ["mount", "/a", "/b"],
    ["mount", "--cache", "/a", "/b"],
    ["mount", "--cache-size", "1G", "/b"],
    ["umount"],
]


@pytest.mark.parametrize("arguments", USAGE, ids=" ".join)
def test_usage_errors_have_status_2(inside: Callable[..., Done], arguments: list[str]) -> None:
    done = inside(*arguments)
    said = refusal(done, status=2)
    assert done.out == b""
    assert "--help" in said


def test_a_usage_error_ends_a_process_with_status_2(imgfs: Command) -> None:
    assert refusal(imgfs(), status=2) == "missing command (see 'imgfs --help')"
    assert refusal(imgfs("rm"), status=2).endswith("(see 'imgfs rm --help')")


def test_help_lists_the_commands(imgfs: Command) -> None:
    reported = succeeded(imgfs("--help")).out.decode()
    commands = ("mount", "umount", "load", "save", "images", "inspect", "history", "tag", "rm")
    assert all(f"\n  {command} " in reported for command in commands)
    assert succeeded(imgfs("--version")).out.startswith(b"imgfs ")
    assert not imgfs.store.exists()


@pytest.mark.parametrize("command", ["mount", "umount", "load", "save", "ls", "history", "rmi"])
def test_each_command_has_help(inside: Callable[..., Done], command: str) -> None:
    for flag in ("--help", "-h"):
        assert f" {command} " in succeeded(inside(command, flag)).lines[0]


NEWCOMERS: dict[str, tuple[int, str]] = {
    "pull alpine": (2, "no such command 'pull'; skopeo copy docker://NAME oci:MOUNT/import/NAME"),
    "run app:1": (2, "podman run --rootfs MOUNT/rootfs/NAME:O"),
    "remove app:1": (2, "imgfs rm removes images"),
    "save --layout dockr app:1": (2, "--layout: expected one of combined, docker, found dockr"),
    "save --layout docker --append x app:1": (2, "name all images in one save instead"),
    "save --layout docker --since a app:1": (2, "uncompresses the layers, so that they are none"),
    "save --layout docker --trim-index app:1": (2, "saves one platform without an index"),
    "load --rename app x.tar": (1, "app: expected OLD=NEW, such as app=team/app, found no equals"),
    "import / app:2": (1, "/: is a directory; imgfs commit makes images of directories"),
    "inspect --platform linux/s390x app:1": (1, "in app:1 (it has linux/amd64): not found"),
    "prune --filter until=foo": (2, "--filter until=foo: expected RFC 3339, seconds since 1970"),
    "events --since foo": (2, "--since foo: expected RFC 3339, seconds since 1970, or a duration"),
    "save --append /etc/passwd app:1": (1, "/etc/passwd: expected an uncompressed tar"),
    "images --store foo://x": (1, "foo://x: expected a path or a URL of containerd, docker, reg"),
}
"""Command lines of users who do not know imgfs yet."""


@pytest.mark.parametrize("line", NEWCOMERS)
def test_a_mistake_is_explained(
    inside: Callable[..., Done], stock: Callable[..., None], line: str
) -> None:
    stock(ARCHIVE)
    status, part = NEWCOMERS[line]
    assert part in refusal(inside(*line.split()), status)


def test_the_exit_statuses_of_processes(imgfs: Command) -> None:
    succeeded(imgfs("load", "-q", stdin=ARCHIVE))
    assert refusal(imgfs("inspect", "nope:1"), status=1) == "image nope:1: not found"
    assert refusal(imgfs("inspect"), status=2)


@pytest.mark.parametrize("arguments", [["images"], ["inspect", "app:1"], ["info"], ["--help"]])
def test_a_closed_pipe_ends_a_command_silently(
    imgfs: Command, stock: Callable[..., None], arguments: list[str]
) -> None:
    stock(ARCHIVE)
    read_end, write_end = os.pipe()
    os.close(read_end)
    with imgfs.start(*arguments, stdout=write_end, stderr=subprocess.PIPE) as process:
        os.close(write_end)
        _, err = process.communicate()
    assert (process.returncode, err) == (1, b"")


def test_a_full_disk_is_reported(
    imgfs: Command, stock: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    stock(ARCHIVE)
    with (
        open("/dev/full", "wb") as full,
        imgfs.start("images", stdout=full, stderr=subprocess.PIPE) as process,
    ):
        _, err = process.communicate()
    assert refusal(Done(process.returncode, b"", err)) == "standard output: No space left on device"


def test_a_full_device_is_named(imgfs: Command, stock: Callable[..., None]) -> None:
    stock(ARCHIVE)
    for command in ("save", "export"):
        said = refusal(imgfs(command, "-o", "/dev/full", "app:1"))
        assert said == "/dev/full: No space left on device"


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk needs root")
def test_an_archive_that_is_cut_by_a_full_disk_is_an_error(
    imgfs: Command, stock: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream without a buffer writes a part, and says so by a number only."""
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    parts = ImageParts(layers=[archives.layer("larger than two pages", bytes(9000))])
    stock(archives.docker_archive((parts, ["app:1"])))
    with (
        disks.memory(tmp_path / "disk", "8192") as disk,
        open(disk / "x", "wb") as file,
        imgfs.start("export", "app:1", stdout=file, stderr=subprocess.PIPE) as process,
    ):
        _, err = process.communicate()
    said = refusal(Done(process.returncode, b"", err))
    assert said == "standard output: No space left on device"


CLOSED = {
    "imgfs load <&-": ("standard input: Bad file descriptor", 1),
    "imgfs images >&-": ("standard output: Bad file descriptor", 1),
    "imgfs save app:1 >&-": ("standard output: Bad file descriptor", 1),
    "imgfs save nope:1 <&- >&-": ("image nope:1: not found", 1),
    "imgfs inspect nope:1 2>&-": (None, 1),
    "imgfs inspect 2>&-": (None, 2),
    "imgfs rm app:1 <&- 2>&-": (None, 0),
}


@pytest.mark.parametrize("line", CLOSED)
def test_closed_standard_streams_are_reported(
    imgfs: Command, stock: Callable[..., None], line: str
) -> None:
    stock(ARCHIVE)
    expected, status = CLOSED[line]
    shell = ["sh", "-c", line.replace("imgfs", '"$@"', 1), "sh", *IMGFS]
    done = subprocess.run(shell, env=imgfs.environment, capture_output=True, check=False)
    assert done.returncode == status
    if expected is None:
        assert done.stderr == b""
    else:
        assert refusal(Done(status, b"", done.stderr), status) == expected


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_characters_that_the_output_cannot_encode_are_escaped(
    imgfs: Command, stock: Callable[..., None], encoding: str
) -> None:
    stock(ARCHIVE)
    done = succeeded(imgfs("history", "app:1", PYTHONIOENCODING=encoding))
    line = done.out.decode(encoding).splitlines()[1]
    assert ("bücher" in line) is (encoding != "ascii")
    refused = imgfs("inspect", "x" * 1000, PYTHONIOENCODING=encoding)
    assert (f"{'x' * 10}…" in refused.err.decode(encoding)) is (encoding == "utf-8")


def test_an_interrupt_has_status_130(
    inside: Callable[..., Done], stock: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stock()
    monkeypatch.setattr(names, "find", interrupt)
    done = inside("save", "-o", "/dev/null", "app:1")
    assert refusal(done, status=130) == "interrupted"


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_an_unexpected_exception_is_one_line(
    inside: Callable[..., Done],
    stock: Callable[..., None],
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stock()

    def raise_value_error(*_: object) -> None:
        raise ValueError("first\nsecond\x1b[31m")

    monkeypatch.delenv("IMGFS_DEBUG", raising=False)
    monkeypatch.setattr(names, "find", raise_value_error)
    done = inside("save", "-o", "/dev/null", "app:1")
    assert done.status == 1
    assert done.err.decode() == (
        r"imgfs: internal error: ValueError: first\nsecond\x1b[31m (IMGFS_DEBUG=1 shows where)"
        "\n"
    )
    monkeypatch.setenv("IMGFS_DEBUG", "1")
    with pytest.raises(ValueError, match="first"):
        cli.run(["--store", str(store), "save", "-o", "/dev/null", "app:1"])


def test_a_very_long_name_is_cut(inside: Callable[..., Done], stock: Callable[..., None]) -> None:
    stock()
    assert len(refusal(inside("inspect", "x" * 100_000))) < 1000

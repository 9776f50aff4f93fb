"""`imgfs save` into directories."""

import json
import os
import signal
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.cli.command import Command, Done, names, refusal, succeeded
from tests.mounts import run
from tests.waiting import wait_until

APP = ImageParts(layers=[archives.layer("app"), archives.layer("shared")])
NEXT = ImageParts(layers=[archives.layer("next"), archives.layer("shared")])
LARGE = ImageParts(layers=[archives.layer("large", os.urandom(40 << 20))])
STOCK = archives.docker_archive((APP, ["app:1", "app:latest"]), (NEXT, ["app:2"]))


@pytest.fixture(autouse=True)
def _stocked(stock: Callable[..., None]) -> None:
    stock(STOCK)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def files(path: Path) -> dict[str, bytes]:
    """Return the files of a layout; check its blobs."""
    found = {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    for name, data in found.items():
        assert not name.startswith("blobs/") or name == f"blobs/sha256/{archives.digest(data)[7:]}"
    return found


def tags(path: Path) -> list[list[str]]:
    return [item["RepoTags"] for item in json.loads((path / "manifest.json").read_bytes())]


def unpacked(archive: Path, path: Path) -> dict[str, bytes]:
    path.mkdir()
    run("tar", "-C", path, "-xf", archive)
    return files(path)


@pytest.mark.parametrize("options", [(), ("--layout", "docker"), ("--since", "app:1")])
def test_it_is_what_the_archive_holds(
    inside: Callable[..., Done], out: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    succeeded(inside("save", *options, "-o", f"{out}/", "app:2"))
    succeeded(inside("save", *options, "-o", tmp_path / "x.tar", "app:2"))
    assert files(out) == unpacked(tmp_path / "x.tar", tmp_path / "unpacked")


def test_a_slash_or_a_directory_means_a_directory(
    inside: Callable[..., Done], tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("linked")
    (tmp_path / "linked").mkdir()
    for given, is_directory in (("new/", True), ("there", True), ("link", True), ("new", True)):
        succeeded(inside("save", "-o", f"{tmp_path}/{given}", "app:1"))
        assert (tmp_path / given / "index.json").exists() == is_directory
    succeeded(inside("save", "-o", tmp_path / "archive", "app:1"))
    assert tarfile.is_tarfile(tmp_path / "archive")
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("option", ["-o", "--append"])
def test_images_are_added(inside: Callable[..., Done], out: Path, option: str) -> None:
    succeeded(inside("save", "-o", f"{out}/", "app:1"))
    succeeded(inside("save", option, out, "app:2", "app:latest"))
    assert tags(out) == [["app:1", "app:latest"], ["app:2"]]


def test_only_a_directory_that_is_there_is_appended_to(
    inside: Callable[..., Done], out: Path
) -> None:
    assert refusal(inside("save", "--append", f"{out}/", "app:1")) == (
        f"{out}: No such file or directory"
    )
    assert not out.exists()


@pytest.mark.parametrize("layout", ["combined", "docker"])
def test_two_saves_are_the_same(inside: Callable[..., Done], tmp_path: Path, layout: str) -> None:
    for name in ("a", "b", "b"):
        succeeded(inside("save", "--layout", layout, "-o", f"{tmp_path}/{name}/", "app:1", "app:2"))
    run("diff", "-r", tmp_path / "a", tmp_path / "b")
    todo = run("rsync", "-a", "--itemize-changes", "-n", f"{tmp_path}/a/", f"{tmp_path}/b/")
    assert todo.stdout == b""


def test_two_saves_at_once_both_end_up_in_it(
    imgfs: Command, out: Path, stock: Callable[..., None]
) -> None:
    stock(archives.docker_archive((LARGE, ["large:1"])))
    wanted = ("large:1", "app:1", "app:2", "app:latest")
    started = [
        imgfs.start("save", "-q", "-o", f"{out}/", name, stderr=subprocess.PIPE) for name in wanted
    ]
    for process in started:
        _, err = process.communicate()
        assert (process.returncode, err) == (0, b"")
    assert {tag for found in tags(out) for tag in found} == set(wanted)
    files(out)


def test_a_killed_save_is_taken_up(imgfs: Command, out: Path, stock: Callable[..., None]) -> None:
    stock(archives.docker_archive((LARGE, ["large:1"])))
    succeeded(imgfs("save", "-o", f"{out}/", "app:1"))
    with imgfs.start("save", "-q", "-o", out, "large:1", stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: any(out.glob(".imgfs-*")) or process.poll() is not None, "it copies")
        process.send_signal(signal.SIGKILL)
    assert tags(out) in ([["app:1"]], [["app:1"], ["large:1"]])
    succeeded(imgfs("save", "-o", out, "large:1"))
    assert tags(out) == [["app:1"], ["large:1"]]
    assert sorted(os.listdir(out)) == ["blobs", "index.json", "manifest.json", "oci-layout"]
    files(out)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_save_that_is_ended_leaves_no_temporary_file(
    imgfs: Command, out: Path, stock: Callable[..., None], number: signal.Signals
) -> None:
    stock(archives.docker_archive((LARGE, ["large:1"])))
    with imgfs.start("save", "-q", "-o", f"{out}/", "large:1", stderr=subprocess.PIPE) as process:
        wait_until(lambda: any(out.glob(".imgfs-*")) or process.poll() is not None, "it copies")
        process.send_signal(number)
        _, err = process.communicate()
    assert process.returncode in (0, 130 if number == signal.SIGINT else 128 + number)
    assert b"Traceback" not in err
    assert not list(out.glob(".imgfs-*"))


def test_a_tar_of_it_is_loaded_again(imgfs: Command, out: Path, tmp_path: Path) -> None:
    succeeded(imgfs("save", "-o", f"{out}/", "app:1", "app:2"))
    again = Command(tmp_path / "again")
    succeeded(again("load", stdin=run("tar", "-C", out, "-c", ".").stdout))
    assert names(again.store) == {"app:1": APP.id, "app:2": NEXT.id}


@pytest.mark.parametrize("layout", ["combined", "docker"])
def test_a_directory_is_loaded_again(
    imgfs: Command, out: Path, tmp_path: Path, layout: str
) -> None:
    succeeded(imgfs("save", "--layout", layout, "-o", f"{out}/", "app:1"))
    succeeded(imgfs("save", "--layout", layout, "-o", out, "app:2"))
    (out / ".imgfs-0123456789abcdef").write_bytes(b"of a save that was killed")
    again = Command(tmp_path / "again")
    succeeded(again("load", "-q", out))
    assert names(again.store) == {"app:1": APP.id, "app:2": NEXT.id}


def test_progress_ends_with_the_size_of_all_files(imgfs: Command, out: Path) -> None:
    done = imgfs("save", "--progress", "json", "-o", f"{out}/", "app:1")
    last = json.loads(done.err.splitlines()[-1])
    size = sum(len(data) for data in files(out).values())
    assert (last["bytes"], last["total"], last["layers"]) == (size, size, 2)


def test_absent_platforms_are_refused_or_skipped(inside: Callable[..., Done], out: Path) -> None:
    wanted = ("--platform", "linux/riscv64", "--platform", "linux/amd64")
    assert "linux/riscv64" in refusal(inside("save", *wanted, "-o", f"{out}/", "app:1"))
    assert not out.exists(), "nothing is made for what cannot be saved"
    done = inside("save", *wanted, "--skip-missing", "-o", f"{out}/", "app:1")
    assert done.err == b"imgfs: left out: linux/riscv64 of app:1\n"
    assert tags(out) == [["app:1"]]


def test_an_unknown_image_makes_no_directory(inside: Callable[..., Done], out: Path) -> None:
    assert refusal(inside("save", "-o", f"{out}/", "nope")) == "image nope: not found"
    assert not out.exists()


def test_other_files_are_refused(inside: Callable[..., Done], out: Path) -> None:
    out.mkdir()
    (out / "photo.jpg").write_bytes(b"")
    assert refusal(inside("save", "-o", out, "app:1")) == (
        f"{out}: expected an empty directory or an OCI layout, found other files"
    )
    assert os.listdir(out) == ["photo.jpg"]


def test_a_file_with_a_slash_is_refused(inside: Callable[..., Done], out: Path) -> None:
    out.write_bytes(b"mine")
    assert refusal(inside("save", "-o", f"{out}/", "app:1")) == f"{out}: Not a directory"
    assert out.read_bytes() == b"mine"


def test_parents_are_not_made(inside: Callable[..., Done], out: Path) -> None:
    said = refusal(inside("save", "-o", f"{out}/below/", "app:1"))
    assert said == f"{out}/below: No such file or directory"
    assert not out.exists()


def test_a_symlink_of_another_user_is_not_followed(
    inside: Callable[..., Done], out: Path, tmp_path: Path
) -> None:
    if os.geteuid():
        pytest.skip("another user's symlink needs root")
    (tmp_path / "elsewhere").mkdir()
    out.symlink_to("elsewhere")
    os.lchown(out, 12345, 12345)
    assert "is a symlink of user 12345" in refusal(inside("save", "-o", out, "app:1"))
    assert os.listdir(tmp_path / "elsewhere") == []


def test_a_damaged_blob_is_named(inside: Callable[..., Done], store: Path, out: Path) -> None:
    layer = archives.digest(APP.layers[0])
    blob = store / "blobs/sha256" / layer[7:]
    blob.chmod(0o644)
    blob.write_bytes(bytes(blob.stat().st_size))
    assert layer in refusal(inside("save", "-o", f"{out}/", "app:1"))
    assert not (out / "blobs/sha256" / layer[7:]).exists()
    assert not (out / "index.json").exists()
    assert not list(out.glob(".imgfs-*"))

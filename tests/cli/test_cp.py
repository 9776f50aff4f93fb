"""`imgfs cp`: the rules are those of docker cp."""

import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.cli.command import Command, Done, refusal, succeeded
from tests.filetree.layers import directory, file, hardlink, layer, symlink, with_xattrs

LAYERS = [
    layer(
        directory("etc", mtime=7),
        file("etc/passwd", "root", mtime=5),
        file("etc/old", "old"),
        symlink("etc/link", "passwd"),
        symlink("abs", "/etc/passwd"),
        symlink("loop", "loop"),
        file("usr/lib/x", "one"),
        symlink("lib", "usr/lib"),
    ),
    layer(file("etc/.wh.old"), file("etc/new", "new"), hardlink("etc/again", "etc/passwd")),
]


@pytest.fixture(autouse=True)
def _stocked(stock: Callable[..., None]) -> None:
    stock(archives.docker_archive((ImageParts(layers=LAYERS), ["app:1"])))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "here"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


def test_a_file_gets_the_name_of_the_destination(inside: Callable[..., Done], here: Path) -> None:
    succeeded(inside("cp", "app:1:/etc/passwd", "mine"))
    assert (here / "mine").read_text() == "root"
    assert (here / "mine").stat().st_mtime == 5
    (here / "mine").write_text("changed")
    succeeded(inside("cp", "app:1:etc/passwd", "mine"))
    assert (here / "mine").read_text() == "root"


@pytest.mark.parametrize("destination", [".", "./"])
def test_a_directory_receives_a_file_by_its_name(
    inside: Callable[..., Done], here: Path, destination: str
) -> None:
    succeeded(inside("cp", "app:1:/etc/passwd", destination))
    assert os.listdir(here) == ["passwd"]


@pytest.mark.parametrize("destination", ["new", "new/", "new/."])
def test_a_directory_that_is_not_there_becomes_the_copy(
    inside: Callable[..., Done], here: Path, destination: str
) -> None:
    succeeded(inside("cp", "app:1:/etc", destination))
    assert sorted(os.listdir(here / "new")) == ["again", "link", "new", "passwd"]
    assert os.readlink(here / "new/link") == "passwd"
    assert (here / "new/again").stat().st_ino == (here / "new/passwd").stat().st_ino
    assert (here / "new").stat().st_mtime == 7


def test_a_directory_that_is_there_receives_a_copy_or_with_a_dot_the_content(
    inside: Callable[..., Done], here: Path
) -> None:
    (here / "etc").mkdir()
    (here / "etc/mine").touch()
    succeeded(inside("cp", "app:1:/etc", "."))
    assert sorted(os.listdir(here / "etc")) == ["again", "link", "mine", "new", "passwd"]
    (here / "content").mkdir()
    succeeded(inside("cp", "app:1:/etc/.", "content"))
    assert sorted(os.listdir(here / "content")) == ["again", "link", "new", "passwd"]


def test_symlinks_on_the_way_are_followed_and_at_the_end_only_if_asked(
    inside: Callable[..., Done], here: Path
) -> None:
    succeeded(inside("cp", "app:1:/lib/x", "x"))
    assert (here / "x").read_text() == "one"
    succeeded(inside("cp", "app:1:/abs", "."))
    assert os.readlink(here / "abs") == "/etc/passwd"
    (here / "abs").unlink()
    succeeded(inside("cp", "-L", "app:1:/abs", "."))
    assert (here / "abs").read_text() == "root"
    assert "symlinks" in refusal(inside("cp", "-L", "app:1:/loop", "."))


def test_a_dash_gives_a_tar_below_the_name(imgfs: Command) -> None:
    with tarfile.open(fileobj=io.BytesIO(succeeded(imgfs("cp", "app:1:/etc", "-")).out)) as found:
        names = found.getnames()
        assert names == ["etc", "etc/again", "etc/link", "etc/new", "etc/passwd"]
        assert found.getmember("etc/passwd").linkname == "etc/again"
    with tarfile.open(fileobj=io.BytesIO(imgfs("cp", "app:1:/etc/.", "-").out)) as found:
        assert found.getnames() == [".", "again", "link", "new", "passwd"]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("destination", ["copy", "-"])
def test_entries_below_the_path_that_are_left_out_are_reported(
    inside: Callable[..., Done], stock: Callable[..., None], destination: str
) -> None:
    members = [file("d/f"), hardlink("d/broken", "no"), hardlink("db", "no"), file("e/f")]
    stock(archives.docker_archive((ImageParts(layers=[layer(*members)]), ["odd:1"])))
    done = inside("cp", "odd:1:/e/../d", destination)
    reason = "is a hard link of what is not there: no"
    assert (done.status, done.err.decode()) == (0, f"imgfs: left out: d/broken: {reason}\n")
    assert b", and 1 more" in inside("cp", "odd:1:/", destination).err
    assert inside("cp", "odd:1:/e", destination).err == b""


@pytest.mark.usefixtures("here")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root restores extended attributes")
def test_attributes_that_the_disk_refuses_are_reported(
    inside: Callable[..., Done], stock: Callable[..., None]
) -> None:
    odd = layer(with_xattrs("d/fifo", tarfile.FIFOTYPE, {"user.a": "x"}))
    stock(archives.docker_archive((ImageParts(layers=[odd]), ["odd:1"])))
    done = inside("cp", "-a", "odd:1:/d", "copy")
    reason = "has no attribute user.a on a disk, since it is a fifo"
    assert (done.status, done.err.decode()) == (0, f"imgfs: left out: d/fifo: {reason}\n")
    assert stat.S_ISFIFO(Path("copy/fifo").lstat().st_mode)


@pytest.mark.parametrize("path", ["/etc/../", "/etc/..", "../", "..", "/usr/../../"])
def test_a_path_to_the_root_by_dots_is_the_root(
    inside: Callable[..., Done], here: Path, path: str
) -> None:
    (here / "to").mkdir()
    succeeded(inside("cp", f"app:1:{path}", "to"))
    assert os.listdir(here) == ["to"]
    assert sorted(os.listdir(here / "to")) == ["abs", "etc", "lib", "loop", "usr"]
    with tarfile.open(fileobj=io.BytesIO(inside("cp", f"app:1:{path}", "-").out)) as found:
        assert found.getnames()[0] == "abs"


@pytest.mark.parametrize("path", ["/usr/lib/..", "/usr/lib/../", "/lib/..//"])
def test_a_path_that_ends_in_two_dots_is_the_directory_above_by_its_name(
    inside: Callable[..., Done], here: Path, path: str
) -> None:
    succeeded(inside("cp", f"app:1:{path}", "."))
    assert (here / "usr/lib/x").read_text() == "one"


def test_a_dot_means_the_content_with_slashes_behind_it_too(
    inside: Callable[..., Done], here: Path
) -> None:
    succeeded(inside("cp", "app:1:/usr/lib/.//", "."))
    assert os.listdir(here) == ["x"]


@pytest.mark.parametrize(
    ("source", "destination", "reason"),
    [
        ("app:1:/nothing", ".", "path /nothing: not found"),
        ("app:1:/etc/old", ".", "path /etc/old: not found"),
        ("app:1:/etc/passwd/", ".", "not found"),
        ("app:1:/etc/passwd", "no/where", "directory no: not found"),
        ("app:1:/etc/passwd", "new/", "new/: is not a directory that is there"),
        ("app:1:/etc/passwd", "new/.", "new/: is not a directory that is there"),
        ("app:1:/etc", "full/.", "file full: already exists"),
        ("app:1:/etc/passwd", "full/.", "full/: is not a directory that is there"),
        ("app:1:/etc", "full", "file full: already exists"),
        ("app:1:/etc", "other", "file other/etc: already exists"),
        ("app:1:/etc/passwd", "third", "directory third/passwd: already exists"),
        ("none:1:/etc", ".", "image none:1: not found"),
    ],
)
def test_what_cannot_be_copied_is_refused_in_one_line(
    inside: Callable[..., Done], here: Path, source: str, destination: str, reason: str
) -> None:
    (here / "full").touch()
    (here / "other").mkdir()
    (here / "other/etc").touch()
    (here / "third/passwd").mkdir(parents=True)
    assert reason in refusal(inside("cp", source, destination))
    assert not (here / "new").exists()


def test_a_path_is_needed(inside: Callable[..., Done]) -> None:
    for text, found in (("app", ""), ("app:1", ", found an image without a path")):
        said = refusal(inside("cp", text, "."), status=2)
        assert said.startswith(f"{text}: expected IMAGE:PATH, such as app:1:/etc/passwd{found} (")


def test_an_empty_destination_is_refused(inside: Callable[..., Done], here: Path) -> None:
    said = refusal(inside("cp", "app:1:/etc/passwd", ""), status=2)
    assert said.startswith("DEST: expected a path or -, found an empty text")
    assert os.listdir(here) == []


def test_copying_into_an_image_is_refused_with_the_way_to_do_it(
    inside: Callable[..., Done],
) -> None:
    said = refusal(inside("cp", "/etc/passwd", "app:1:/etc"), status=2)
    assert "images do not change: imgfs commit makes new ones" in said


def test_a_symlink_in_the_destination_is_replaced_and_not_followed(
    inside: Callable[..., Done], here: Path
) -> None:
    (here / "outside").mkdir()
    (here / "outside/passwd").write_text("kept")
    (here / "etc").mkdir()
    (here / "etc/passwd").symlink_to(here / "outside/passwd")
    succeeded(inside("cp", "app:1:/etc", "."))
    assert (here / "outside/passwd").read_text() == "kept"
    assert (here / "etc/passwd").read_text() == "root"
    (here / "usr").mkdir()
    (here / "usr/lib").symlink_to(here / "outside")
    assert "already exists" in refusal(inside("cp", "app:1:/usr", "."))
    assert os.listdir(here / "outside") == ["passwd"]


@pytest.mark.parametrize("source", ["app:1:/etc/passwd", "app:1:/etc"])
def test_a_destination_that_is_neither_a_file_nor_a_directory_is_refused(
    inside: Callable[..., Done], here: Path, source: str
) -> None:
    os.mkfifo(here / "fifo")
    (here / "pipe").symlink_to("fifo")
    (here / "null").symlink_to("/dev/null")
    for destination in ("fifo", "pipe", "null"):
        said = refusal(inside("cp", source, destination))
        assert said.startswith(f"{destination}: is neither a file nor a directory")
    assert (here / "fifo").is_fifo()
    assert (here / "null").is_char_device()


@pytest.mark.skipif(os.geteuid() != 0, reason="devices need root")
def test_a_device_as_the_destination_is_refused(inside: Callable[..., Done], here: Path) -> None:
    os.mknod(here / "nul", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    assert "neither a file nor a directory" in refusal(inside("cp", "app:1:/etc/passwd", "nul"))
    assert (here / "nul").is_char_device()


def test_a_symlink_that_is_the_destination_is_followed(
    inside: Callable[..., Done], here: Path
) -> None:
    (here / "directory").mkdir()
    (here / "file").touch()
    links = {"to-directory": "directory", "to-file": "../here/file", "to-nothing": "new"}
    for name, target in links.items():
        (here / name).symlink_to(target)
    succeeded(inside("cp", "app:1:/etc/.", "to-directory"))
    succeeded(inside("cp", "app:1:/usr", "to-directory"))
    assert sorted(os.listdir(here / "directory")) == ["again", "link", "new", "passwd", "usr"]
    succeeded(inside("cp", "app:1:/etc/passwd", "to-file"))
    succeeded(inside("cp", "app:1:/etc/passwd", "to-nothing"))
    assert (here / "file").read_text() == (here / "new").read_text() == "root"
    assert {name: os.readlink(here / name) for name in links} == links


@pytest.mark.skipif(os.geteuid() != 0, reason="owners need root")
def test_a_symlink_of_another_user_as_the_destination_is_refused(
    inside: Callable[..., Done], here: Path
) -> None:
    (here / "theirs").symlink_to("new")
    os.lchown(here / "theirs", 12345, 12345)
    assert "is a symlink of user 12345" in refusal(inside("cp", "app:1:/etc/passwd", "theirs"))
    assert os.listdir(here) == ["theirs"]


@pytest.mark.skipif(os.geteuid() != 0, reason="owners and devices need root")
def test_owners_and_setuid_are_kept_only_in_an_archive(
    inside: Callable[..., Done], stock: Callable[..., None], here: Path
) -> None:
    special = tarfile.TarInfo("ping")
    special.mode, special.uid, special.gid, special.size = 0o4755, 7, 8, 0
    null = tarfile.TarInfo("null")
    null.type, null.devmajor, null.devminor = tarfile.CHRTYPE, 1, 3
    stock(archives.docker_archive((ImageParts(layers=[_tar(special, null)]), ["own:1"])))
    succeeded(inside("cp", "own:1:/.", "plain"))
    succeeded(inside("cp", "-a", "own:1:/.", "kept"))
    plain, kept = (here / "plain/ping").stat(), (here / "kept/ping").stat()
    assert (plain.st_uid, stat.S_IMODE(plain.st_mode)) == (0, 0o755)
    assert (kept.st_uid, kept.st_gid, stat.S_IMODE(kept.st_mode)) == (7, 8, 0o4755)
    assert (here / "kept/null").stat().st_rdev == os.makedev(1, 3)


def _tar(*members: tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for member in members:
            tar.addfile(member)
    return out.getvalue()


@pytest.mark.skipif(os.geteuid() != 0, reason="owners need root")
@pytest.mark.parametrize(
    ("told", "found"),
    [(-2, (1 << 32) - 2), ((1 << 40) + 7, 7), ((1 << 32) - 1, 0), (-1, 0)],
)
def test_an_owner_of_more_than_32_bits_is_cut_as_chown_does(
    inside: Callable[..., Done], here: Path, stock: Callable[..., None], told: int, found: int
) -> None:
    odd = layer(file("f", uid=told, gid=told), format_=tarfile.GNU_FORMAT)
    stock(archives.docker_archive((ImageParts(layers=[odd]), ["odd:1"])))
    succeeded(inside("cp", "-a", "odd:1:/f", "."))
    assert ((here / "f").stat().st_uid, (here / "f").stat().st_gid) == (found, found)

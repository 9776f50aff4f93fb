"""Tests of `imgfs mount` and `umount` that need no mount: options, and what is refused."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import imgfs.fuse.mount
import imgfs.fuse.native.library
from engine.errors import StoreError
from engine.limits import Limits
from engine.spec import platforms
from imgfs.cli import mount as mounting
from imgfs.fuse.mount import MountOptions
from imgfs.vfs.names import SAFE
from imgfs.vfs.views import CombinedView
from tests.cli.command import Done, refusal, succeeded


@dataclass
class Served:
    """The mounts that would have been served."""

    calls: list[tuple[Path, Path, MountOptions]] = field(default_factory=list)

    def __call__(
        self, location: str, mountpoint: Path, options: MountOptions, ready: Callable[[], None]
    ) -> None:
        self.calls.append((Path(location), mountpoint, options))
        ready()

    @property
    def only(self) -> tuple[Path, Path, MountOptions]:
        (call,) = self.calls
        return call


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    serve = Served()
    monkeypatch.setattr(imgfs.fuse.mount, "serve", serve)
    monkeypatch.setattr(mounting, "raise_open_files", lambda: None)
    monkeypatch.setattr(imgfs.fuse.native.library, "load", lambda: "a session")
    return serve


@pytest.fixture
def place(tmp_path: Path) -> Path:
    path = tmp_path / "mnt"
    path.mkdir()
    return path


def test_mount_uses_defaults_without_options(
    inside: Callable[..., Done], served: Served, store: Path, place: Path
) -> None:
    succeeded(inside("mount", "-f", place))
    assert served.only == (store, place, MountOptions(native="a session"))


@pytest.mark.parametrize("option", [("--no-passthrough",), ("-o", "no_passthrough")])
def test_passthrough_can_be_switched_off(
    inside: Callable[..., Done], served: Served, place: Path, option: tuple[str, ...]
) -> None:
    succeeded(inside("mount", "-f", *option, place))
    assert served.only[2] == MountOptions(native="a session", passthrough=False)


@pytest.mark.parametrize("option", [("--names", "safe"), ("-o", "names=safe")])
def test_names_without_colons_can_be_chosen(
    inside: Callable[..., Done], served: Served, place: Path, option: tuple[str, ...]
) -> None:
    succeeded(inside("mount", "-f", *option, place))
    assert served.only[2] == MountOptions(native="a session", names=SAFE)


def test_a_missing_relative_mount_point_is_made(
    inside: Callable[..., Done], served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = inside("mount", "-f", "new")
    assert (done.status, done.err) == (
        0,
        f"imgfs: made the directory {tmp_path / 'new'}\n".encode(),
    )
    assert served.only[1] == tmp_path / "new"
    assert (tmp_path / "new").is_dir()


def test_a_mount_point_that_was_made_is_removed_if_the_mount_fails(
    inside: Callable[..., Done], monkeypatch: pytest.MonkeyPatch, served: Served, tmp_path: Path
) -> None:
    def fail(*_: object) -> None:
        raise StoreError(str(tmp_path / "store"), "is not one")

    monkeypatch.setattr(imgfs.fuse.mount, "serve", fail)
    refusal(inside("mount", "-f", tmp_path / "new"))
    assert not (tmp_path / "new").exists()
    assert not served.calls


def test_a_mount_point_that_is_not_empty_is_refused(
    inside: Callable[..., Done], served: Served, place: Path
) -> None:
    (place / "mine").touch()
    said = refusal(inside("mount", "-f", place))
    assert said == (
        f"{place}: is not empty (it has 'mine');"
        " mount on an empty directory, or hide what it has with --nonempty"
    )
    assert not served.calls


@pytest.mark.parametrize("below", [".", "images", "images/here"])
def test_a_mount_point_that_contains_the_store_is_refused(
    inside: Callable[..., Done], served: Served, store: Path, below: str
) -> None:
    store.parent.joinpath("link").symlink_to(store.parent)
    for place in (store.parent, store.parent / "link"):
        refused = inside("--store", place / below, "mount", "--nonempty", str(place))
        assert "has the store" in refusal(refused)
    assert served.calls == []
    assert not store.parent.joinpath("images").exists()


def test_the_url_of_a_store_is_no_path(
    bare: Callable[..., Done], served: Served, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    succeeded(bare("--store", "registry://h.example", "mount", "-f", "."))
    assert served.only[1] == place


@pytest.mark.parametrize("status", ["[]", '{{"mountpoint": "{place}"}}', '"{place}"'])
def test_a_directory_that_looks_like_a_mount_is_none(
    inside: Callable[..., Done], served: Served, place: Path, status: str
) -> None:
    (place / ".imgfs").mkdir()
    (place / ".imgfs" / "status.json").write_text(status.format(place=place))
    succeeded(inside("mount", "-f", "--nonempty", place))
    assert served.only[1] == place


def test_a_mount_point_without_a_parent_is_refused(
    inside: Callable[..., Done], served: Served, tmp_path: Path
) -> None:
    absent, link = tmp_path / "absent", tmp_path / "link"
    link.symlink_to(absent)
    assert f"there is no directory {absent} to make" in refusal(inside("mount", str(absent / "m")))
    assert f"is a symlink to {absent}, which is missing" in refusal(inside("mount", str(link)))
    assert served.calls == []
    assert not absent.exists()


@pytest.mark.parametrize("option", [("--nonempty",), ("-o", "nonempty"), ("-o", "ro,nonempty")])
def test_nonempty_allows_a_mount_point_with_content(
    inside: Callable[..., Done], served: Served, place: Path, option: tuple[str, ...]
) -> None:
    (place / "mine").touch()
    succeeded(inside("mount", "-f", *option, place))
    assert "nonempty" not in served.only[2].fuse


def test_mount_options_are_parsed(
    inside: Callable[..., Done], served: Served, place: Path, tmp_path: Path
) -> None:
    limits = "max_archive_bytes=1000,max_images=7"
    given = f"allow_other,ro,{limits},platform=linux/s390x,store={tmp_path}/other"
    succeeded(
        inside("mount", "-f", "--platform", "linux/arm64", "-o", given, "-o", "auto_unmount", place)
    )
    store, _, options = served.only
    assert store == tmp_path / "other"
    assert options.fuse == ("allow_other", "ro", "auto_unmount")
    assert options.limits == Limits(max_archive_bytes=1000, max_images=7)
    wanted = tuple(platforms.parse(name) for name in ("linux/arm64", "linux/s390x"))
    assert options.view == CombinedView(wanted)


def test_options_of_fstab_for_other_programs_are_ignored(
    inside: Callable[..., Done], served: Served, place: Path
) -> None:
    given = "defaults,rw,nosuid,nodev,relatime,noauto,user,_netdev,nofail,x-systemd.automount,,"
    succeeded(inside("mount", "-f", "-o", given, place))
    assert served.only[2].fuse == ()


def test_setuid_and_devices_are_for_imgfs_mount_since_mount8_asks_for_them_unasked(
    inside: Callable[..., Done], bare: Callable[..., Done], served: Served, place: Path
) -> None:
    succeeded(inside("mount", "-f", "-o", "suid,dev", place))
    succeeded(bare("none", place, "-o", "rw,suid,dev", "-f"))
    assert [options.fuse for _, _, options in served.calls] == [("suid", "dev"), ()]


@pytest.mark.parametrize(
    "word",
    [
        "bogus",
        "bogus=1",
        "max_archive_bytes",
        "max_archive_bytes=",
        "max_archive_bytes=-1",
        "max_archive_bytes=1k",
        "max_images=",
        "max_nothing=1",
        "platform=",
        "store=",
        "allow_other=1",
        "bo\x1b[31mgus\n",
    ],
)
def test_unknown_mount_options_are_refused(
    inside: Callable[..., Done], served: Served, place: Path, word: str
) -> None:
    said = refusal(inside("mount", "-f", "-o", f"rw,{word}", place), status=2)
    assert said.startswith("unknown mount option: ")
    assert not served.calls


# -- as mount(8) calls it -------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["-o", "rw,nosuid"]])
def test_the_source_is_the_store(
    bare: Callable[..., Done], served: Served, place: Path, tmp_path: Path, options: list[str]
) -> None:
    succeeded(bare(tmp_path / "other", place, *options, "-f"))
    store, mountpoint, parsed = served.only
    assert (store, mountpoint) == (tmp_path / "other", place)
    assert parsed.source == str(tmp_path / "other")


@pytest.mark.parametrize("source", ["none", "imgfs"])
def test_a_source_that_is_no_path_leaves_the_store_to_the_options(
    bare: Callable[..., Done], served: Served, place: Path, tmp_path: Path, source: str
) -> None:
    succeeded(bare(source, place, "-o", f"store={tmp_path}/other", "-f"))
    store, _, options = served.only
    assert store == tmp_path / "other"
    assert options.source == source


def test_without_a_store_the_users_own_is_mounted(
    bare: Callable[..., Done], served: Served, place: Path
) -> None:
    succeeded(bare("none", place, "-o", "rw", "-f"))
    assert served.only[0] == Path(os.environ["IMGFS_STORE"])


@pytest.mark.parametrize("line", [["lod"], ["lod", "-q"], ["unmout", "-l"], ["sav", "x:1"]])
def test_a_mistyped_command_mounts_nothing(
    bare: Callable[..., Done], served: Served, place: Path, line: list[str]
) -> None:
    word, *rest = line
    assert refusal(bare(word, place, *rest), status=2).startswith(f"no such command '{word}'")
    assert not served.calls


# -- where it cannot be ---------------------------------------------------------------------------


def test_impossible_mount_points_are_refused(
    inside: Callable[..., Done], served: Served, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.touch()
    said = refusal(inside("mount", "-f", file))
    assert said == f"{file}: is not a directory to mount on"
    assert refusal(inside("mount", "-f", file / "x")) == f"{file}/x: Not a directory"
    assert not served.calls


def test_invalid_platforms_are_refused(
    inside: Callable[..., Done], served: Served, place: Path
) -> None:
    assert "!!" in refusal(inside("mount", "-f", "--platform", "!!", place))
    assert "a/b/c/d" in refusal(inside("mount", "-f", "-o", "platform=a/b/c/d", place))
    assert not served.calls


@pytest.mark.parametrize("options", [[], ["-l"]])
def test_umount_refuses_what_is_not_mounted(
    inside: Callable[..., Done], place: Path, options: list[str]
) -> None:
    for path in (place, place / "nowhere"):
        assert refusal(inside("umount", *options, path)) == f"{path}: is not an imgfs mount"
    assert refusal(inside("unmount", place)) == f"{place}: is not an imgfs mount"


def test_umount_leaves_other_file_systems_alone(inside: Callable[..., Done]) -> None:
    assert refusal(inside("umount", "/proc")) == "/proc: is not an imgfs mount"
    assert os.path.ismount("/proc")

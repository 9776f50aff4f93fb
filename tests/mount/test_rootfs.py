"""The roots of images in a mount."""

import errno
import mmap
import os
import re
import socket
import stat
import subprocess
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings

from engine.filetree.directory import scan
from tests import archives
from tests.archives import ImageParts
from tests.filetree.layers import Member, directory, file, hardlink, layer, member, symlink
from tests.filetree.test_tree_builder import fits, some_layers
from tests.hostile.test_layers import HARMLESS, REFUSED
from tests.local_engine import LocalEngine
from tests.mounts import IMGFS, Mounted, overlay, run
from tests.trees import make_odd, picture
from tests.vfs.roots import damage

BIG = "".join(f"line {number}\n" for number in range(100_000))
BASE = [
    directory("etc", mtime=5),
    file("etc/a", "one", mtime=1),
    hardlink("etc/b", "etc/a"),
    file("big", BIG),
    symlink("link", "etc/a"),
    file(".hidden", "x"),
    file("n" * 255, "long"),
    file("\udcff", "raw"),
]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="devices, owners and mounts need root")


def load(
    mounted: Mounted, *layers: list[Member], name: str = "app:1", gzipped: bool = True
) -> Path:
    """Load an image, and return its root."""
    image = ImageParts([layer(*members) for members in layers])
    mounted.load(archives.oci_archive((image, name), gzipped=gzipped))
    return mounted / f"rootfs/{name}"


@pytest.mark.parametrize("gzipped", [True, False])
def test_files_read_as_those_on_a_disk(mounted_each_way: Mounted, gzipped: bool) -> None:
    root = load(mounted_each_way, BASE, gzipped=gzipped)
    assert (root / "etc/a").read_text() == "one"
    assert (root / "link").read_text() == "one"
    assert Path(os.fsdecode(os.fsencode(root) + b"/\xff")).read_text() == "raw"
    assert (root / ("n" * 255)).read_text() == "long"
    assert (root / "big").read_text() == BIG
    assert sorted(os.listdir(root)) == sorted(
        ["etc", "big", "link", ".hidden", "n" * 255, "\udcff"]
    )
    with (root / "big").open("rb") as big:
        with mmap.mmap(big.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            assert mapped[500_000:500_100] == BIG.encode()[500_000:500_100]
        assert os.lseek(big.fileno(), 7, os.SEEK_DATA) == 7
        assert os.lseek(big.fileno(), 0, os.SEEK_HOLE) == len(BIG)
        one, other = socket.socketpair()
        with one, other:
            assert os.sendfile(one.fileno(), big.fileno(), 1000, 4000) == 4000
            assert other.recv(4000, socket.MSG_WAITALL) == BIG.encode()[1000:5000]
    assert os.statvfs(root).f_namemax == 255


def test_views_are_looked_up_and_not_listed(mounted: Mounted) -> None:
    load(mounted, BASE, name="ghcr.io/org/app:1")
    assert mounted.names() == ["ghcr.io", "import"]
    assert mounted.names("rootfs") == ["ghcr.io"]
    assert mounted.names("rootfs/ghcr.io/org") == ["app:1"]
    digest = os.getxattr(mounted / "ghcr.io/org/app:1", "user.oci.digest").decode()
    assert (mounted / f"rootfs/{digest}/etc/a").read_text() == "one"
    assert (mounted / f"rootfs/ghcr.io/org/app@{digest}/etc/a").read_text() == "one"


def test_names_are_never_stale(mounted: Mounted, engine: LocalEngine) -> None:
    root = load(mounted, BASE)
    with (root / "big").open() as big:
        assert big.readline() == "line 0\n"
        engine.tag("app:1", "app:2")
        assert (mounted / "rootfs/app:2/etc/a").samefile(root / "etc/a")
        engine.remove("app:1")
        assert not root.exists()
        engine.remove("app:2")
        assert mounted.names("rootfs") == []
        list(engine.store.collect())
        assert big.read() == BIG.partition("\n")[2], "an open file is readable to the end"


def test_a_name_that_moves_shows_the_other_image(mounted: Mounted) -> None:
    root = load(mounted, BASE)
    before = (root / "etc").stat().st_ino
    assert not (root / "etc/new").exists(), "the kernel remembers that"
    load(mounted, BASE, [file("etc/a", "two"), file("etc/new", "three")])
    assert (root / "etc/a").read_text() == "two"
    assert (root / "etc/new").read_text() == "three"
    assert (root / "etc").stat().st_ino != before


def test_readers_while_images_come_and_go(mounted: Mounted, engine: LocalEngine) -> None:
    root = load(mounted, BASE)

    def read(number: int) -> bool:
        with (root / "big").open() as big:
            big.seek(number * 1000)
            return big.read(50) == BIG[number * 1000 : number * 1000 + 50]

    with ThreadPoolExecutor(2) as pool:
        reads = pool.map(read, range(600))
        for number in range(10):
            other = load(mounted, [file("a", str(number))], name=f"other:{number}")
            assert (other / "a").read_text() == str(number)
            engine.remove(f"other:{number}")
            list(engine.store.collect())
        assert all(reads)


def test_hostile_layers_stay_below_their_roots(mounted: Mounted) -> None:
    for number, (members, expected) in enumerate(HARMLESS.values()):
        name = f"hostile:{number}"
        root = load(mounted, members, name=name)
        found = {str(path.relative_to(root)) for path in sorted(root.rglob("*"))}
        assert found == {path.rstrip("/") for path in expected}
        assert exported(mounted, name) == found
        changes = run(*IMGFS, "--store", mounted.store, "diff", "--layers", name).stdout.decode()
        assert {line.partition("/")[2] for line in changes.splitlines() if "/" in line} == found


def test_what_is_refused_of_a_layer_is_left_out(mounted: Mounted) -> None:
    for number, (members, says) in enumerate(REFUSED.values()):
        name = f"hostile:{number}"
        root = load(mounted, [*members, file("fine", "x")], name=name)
        assert (root / "fine").read_text() == "x"
        assert says in str(mounted.status("roots")["left_out"])
        assert "fine" in exported(mounted, name)


def exported(mounted: Mounted, name: str) -> set[str]:
    """Return the paths of what imgfs export writes."""
    archive = mounted.store.with_name("exported.tar")
    run(*IMGFS, "--store", mounted.store, "export", "-q", "-o", archive, name)
    with tarfile.open(archive, errorlevel=2) as tar:
        return {os.path.relpath(one.name) for one in tar} - {"."}


def test_one_file_of_one_layer_is_one_inode(mounted: Mounted) -> None:
    one, two = load(mounted, BASE), load(mounted, BASE, [file("new")], name="app:2")
    assert (one / "etc/a").samefile(two / "etc/a")
    assert (one / "etc/a").samefile(one / "etc/b")
    assert (one / "etc/a").stat().st_nlink == 2
    assert not (one / "etc").samefile(two / "etc")
    fewer = load(mounted, BASE, [file("etc/.wh.b")], name="app:3")
    assert (fewer / "etc/a").stat().st_nlink == 1
    assert (one / "etc/a").stat().st_nlink == 2


def test_a_directory_stays_where_it_is_when_its_image_is_looked_up_by_another_name(
    mounted: Mounted, engine: LocalEngine
) -> None:
    """Linux moves a directory that is found by a second name, and its `..` with it."""
    root = load(mounted, [directory("a"), directory("a/b"), file("a/b/c")])
    names = ["app:1", "ghcr.io/o/app:1", "ghcr.io/o/p/q/app:1"]
    for name in names[1:]:
        engine.tag("app:1", name)
    digest = os.getxattr(mounted / "app:1", "user.oci.digest").decode()
    views = [
        *(f"rootfs/{name}" for name in [*names, digest, f"app@{digest}"]),
        *(f"layers/{name}/00" for name in names),
    ]
    for path in ("", "/a", "/a/b"):
        descriptors = [os.open(f"{mounted.path}/{view}{path}", os.O_PATH) for view in views]
        try:
            for view, descriptor in zip(views, descriptors, strict=True):
                shown = os.readlink(f"/proc/self/fd/{descriptor}")
                assert shown == f"{mounted.path}/{view}{path}"
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
    assert (root / "a/b/c").samefile(mounted / "rootfs/ghcr.io/o/app:1/a/b/c")


def test_inodes_are_the_same_after_a_remount(mount: Callable[..., Mounted]) -> None:
    def numbers(root: Path) -> dict[bytes, int]:
        return {
            os.path.join(folder, name): os.lstat(os.path.join(folder, name)).st_ino
            for folder, directories, files in os.walk(os.fsencode(root))
            for name in (*directories, *files)
        }

    first = mount()
    before = numbers(load(first, BASE))
    run("fusermount3", "-u", first.path)
    assert numbers(mount() / "rootfs/app:1") == before


def test_a_directory_of_many_entries(mounted: Mounted) -> None:
    root = load(mounted, [file(f"d/{number}") for number in range(20_000)])
    assert len(os.listdir(root / "d")) == 20_000
    assert (root / "d/19999").stat().st_size == 0


def test_a_directory_is_listed_again_from_its_start(mounted: Mounted) -> None:
    root = load(mounted, [file(f"d/{number:04}") for number in range(3000)])
    names = sorted(f"{number:04}" for number in range(3000))
    for _ in range(2):
        assert sorted(os.listdir(root / "d")) == names
    with os.scandir(root / "d") as entries:
        assert sum(entry.stat().st_size == 0 for entry in entries) == 3000


def test_nothing_can_be_changed(mounted: Mounted) -> None:
    root = load(mounted, BASE)
    changes: list[Callable[[], object]] = [
        lambda: (root / "etc/a").write_text("x"),
        lambda: (root / "new").touch(),
        lambda: (root / "new").mkdir(),
        lambda: (root / "etc/a").unlink(),
        lambda: root.rmdir(),
        lambda: (root / "etc/a").rename(root / "x"),
        lambda: (root / "etc/a").chmod(0o777),
        lambda: os.setxattr(root / "etc/a", "user.x", b"y"),
        lambda: os.link(root / "etc/a", root / "x"),
        lambda: (mounted / "rootfs/new").mkdir(),
        lambda: root.rename(mounted / "rootfs/app:2"),
    ]
    for number, change in enumerate(changes):
        with pytest.raises(OSError, match=r"Read-only|not permitted") as caught:
            change()
        assert caught.value.errno in (errno.EROFS, errno.EPERM), number
    assert (root / "etc/a").read_text() == "one"


@needs_root
def test_every_kind_of_entry(mounted: Mounted, tmp_path: Path) -> None:
    make_odd(tmp_path / "odd")
    run(
        "tar", "-C", tmp_path / "odd", "--format=posix", "--xattrs", "--xattrs-include=*",
        "--exclude=./s", "-cf", tmp_path / "odd.tar", ".",
    )  # fmt: skip
    image = ImageParts([(tmp_path / "odd.tar").read_bytes()])
    mounted.load(archives.oci_archive((image, "odd:1"), gzipped=True))
    (tmp_path / "odd/s").unlink()
    assert picture(scan(mounted / "rootfs/odd:1")) == picture(scan(tmp_path / "odd"))
    assert (mounted / "rootfs/odd:1/null").stat().st_rdev == os.makedev(1, 3)


def test_a_flipped_byte_is_an_error_where_it_is(mounted: Mounted, engine: LocalEngine) -> None:
    root = load(mounted, [file("a", "a" * 600_000), file("b", "b" * 600_000)], gzipped=False)
    (blob,) = engine.details("app:1").manifest.manifest.layers
    path = mounted.store / "blobs" / blob.digest.replace(":", "/")
    path.chmod(0o600)
    with path.open("r+b") as stored:
        stored.seek(1_100_000)
        stored.write(b"!")
    with (root / "b").open("rb") as damaged, pytest.raises(OSError, match="Input/output error"):
        damaged.read()
    assert (root / "a").read_text() == "a" * 600_000
    assert mounted.names("rootfs") == ["app:1"]


def test_a_repaired_layer_is_shown_at_once(mounted: Mounted, engine: LocalEngine) -> None:
    layers = [
        [directory("etc"), file("etc/passwd", "x"), *(file(f"many/{n}") for n in range(9))],
        [file("etc/.wh.passwd"), file("many/.wh..wh..opq"), file("many/new", "y")],
    ]
    image = ImageParts([layer(*members) for members in layers])
    mounted.load(archives.oci_archive((image, "app:2"), gzipped=True))
    damage(engine, "app:2", 1)
    root = mounted / "rootfs/app:2"
    assert (root / "etc/passwd").read_text() == "x"
    assert not (root / "many/new").exists(), "the kernel remembers that"
    assert len(os.listdir(root / "many")) == 9
    subprocess.run([*IMGFS, "--store", mounted.store, "fsck", "--repair"], check=False)
    mounted.load(archives.oci_archive((image, "app:2"), gzipped=True))
    assert not (root / "etc/passwd").exists()
    assert (root / "many/new").read_text() == "y"
    assert os.listdir(root / "many") == ["new"]
    assert os.listdir(mounted / "layers/app:2/01/many") == ["new"]


def test_a_copy_of_all_roots_has_the_modes_and_times_of_the_layers(
    mounted_each_way: Mounted, tmp_path: Path
) -> None:
    for number in range(5):
        members = [directory("./", 0o711, mtime=100 + number), file("a", "x")]
        load(mounted_each_way, members, name=f"app:{number}")
    for copy in ("first", "second"):
        run("cp", "-a", mounted_each_way / "rootfs", tmp_path / copy)
        found = [(tmp_path / copy / f"app:{number}").stat() for number in range(5)]
        assert [stat.S_IMODE(one.st_mode) for one in found] == [0o711] * 5
        assert [one.st_mtime for one in found] == [100 + number for number in range(5)]


def test_a_listing_of_names_makes_no_root(mounted: Mounted, engine: LocalEngine) -> None:
    load(mounted, BASE)
    digest = engine.details("app:1").manifest.descriptor.digest
    assert os.listdir(mounted / "rootfs") == ["app:1"]
    assert run("ls", "-U", "--color=never", mounted / "rootfs").stdout == b"app:1\n"
    assert engine.store.tables.get(digest) is None
    assert (mounted / "rootfs/app:1").stat().st_nlink == 1
    assert engine.store.tables.get(digest) is not None


@needs_root
def test_owners_have_32_bits(mounted_each_way: Mounted) -> None:
    root = load(mounted_each_way, [file("a", uid=5_000_000_000, gid=(1 << 32) + 7)])
    for _ in "again":
        shown = (root / "a").stat()
        assert (shown.st_uid, shown.st_gid) == (705_032_704, 7)
    assert os.getxattr(root / "a", "user.oci.owner") == b"5000000000:4294967303"


@pytest.mark.parametrize("layout", ["rootfs", "layers", "additional-layers"])
def test_a_mount_of_one_kind_of_view_has_nothing_of_its_name(
    mount: Callable[..., Mounted], layout: str
) -> None:
    mounted = mount(options=("--layout", layout))
    with pytest.raises(FileNotFoundError):
        (mounted / layout).lstat()


def test_roots_as_the_mount_itself(mount: Callable[..., Mounted]) -> None:
    mounted = mount(options=("--layout", "rootfs"))
    load(mounted, BASE, name="ghcr.io/org/app:1")
    assert mounted.names() == ["ghcr.io", "import"]
    assert (mounted / "ghcr.io/org/app:1/etc/a").read_text() == "one"
    assert (mounted / "layers/ghcr.io/org/app:1/00/etc/a").read_text() == "one"
    assert mounted.status("images") == 1


def test_what_is_left_out_is_in_the_status(mounted: Mounted) -> None:
    load(mounted, [member("x", tarfile.CONTTYPE), hardlink("y", "nowhere"), file("z", "1")])
    assert sorted(mounted.names("rootfs/app:1"))[-1] == "z"
    (reasons,) = mounted.status("roots")["left_out"].values()
    assert reasons == ["layer 00: y: is a hard link of what is not there: nowhere"]


@needs_root
def test_layers_stacked_by_the_kernels_overlayfs_are_the_root(
    mounted: Mounted, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()

    @settings(max_examples=20)
    @given(some_layers())
    def check(layers: list[list[Member]]) -> None:
        load(mounted, *fits(layers))
        stack = sorted((mounted / "layers/app:1").iterdir(), reverse=True)
        with overlay(tmp_path / "overlay", [*stack, tmp_path / "empty"], "ro") as merged:
            assert picture(scan(merged)) == picture(scan(mounted / "rootfs/app:1"))

    check()


@needs_root
def test_setuid_programs_and_devices_work_only_if_root_asks_for_them(
    mount: Callable[..., Mounted],
) -> None:
    unsafe = os.ST_NOSUID | os.ST_NODEV
    assert os.statvfs(mount(at="usual").path).f_flag & unsafe == unsafe
    asked = mount(at="asked", options=("-o", "suid,dev"))
    assert os.statvfs(asked.path).f_flag & unsafe == 0


def test_a_large_directory_is_listed_in_bounded_memory(mounted: Mounted) -> None:
    names = [f"f{number:05}" for number in range(20_000)]
    root = load(mounted, [directory("flat"), *(file(f"flat/{name}") for name in names)])
    listed = os.listdir(root / "flat")
    assert sorted(listed) == names
    assert len(set(listed)) == len(names)
    assert stat.S_ISREG((root / "flat" / names[-1]).stat().st_mode)
    with pytest.raises(FileNotFoundError):
        (root / "flat/f20000").stat()
    status = Path(f"/proc/{mounted.pid}/status").read_text()
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    assert int(peak) < 100_000

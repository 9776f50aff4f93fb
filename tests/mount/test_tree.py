"""The tree of a mount: names, attributes and content."""

import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.image import Image
from tests import archives
from tests.archives import ImageParts
from tests.local_engine import LocalEngine
from tests.mounts import Mounted, run

APP = ImageParts(layers=[archives.layer("a"), archives.layer("b")])
OTHER = ImageParts(
    layers=[archives.layer("a"), archives.layer("c")], created="2020-01-01T00:00:00Z"
)
CREATED = 1706933106


def files(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def test_an_empty_store_shows_only_import(mounted: Mounted) -> None:
    assert mounted.names() == ["import"]
    assert mounted.names("import") == []


def test_an_image_directory_has_both_layouts(mounted: Mounted) -> None:
    mounted.load(archives.docker_archive((APP, ["app:1"])))
    directory = mounted / "app:1"
    assert os.listdir(directory) == ["blobs", "index.json", "manifest.json", "oci-layout"]
    index = json.loads((directory / "index.json").read_bytes())
    (entry,) = index["manifests"]
    assert entry["annotations"] == {
        "io.containerd.image.name": "docker.io/library/app:1",
        "org.opencontainers.image.ref.name": "1",
    }
    (item,) = json.loads((directory / "manifest.json").read_bytes())
    assert item["RepoTags"] == ["app:1"]
    assert item["Config"] == f"blobs/sha256/{APP.id[7:]}"
    assert [(directory / path).read_bytes() for path in item["Layers"]] == list(APP.layers)
    for path in (directory / "blobs" / "sha256").iterdir():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name


def test_modes_times_and_owner_are_fixed(mounted: Mounted) -> None:
    mounted.load(archives.docker_archive((APP, ["app:1"])))
    for path in [mounted / "app:1", *(mounted / "app:1").rglob("*")]:
        status = path.lstat()
        assert stat.S_IMODE(status.st_mode) == (0o555 if path.is_dir() else 0o444), path
        assert (status.st_uid, status.st_gid) == (os.getuid(), os.getgid())
        blob = path.parent.name == "sha256"
        assert status.st_mtime == (0 if blob else CREATED), path
        assert status.st_blocks * 512 >= status.st_size


def test_image_directories_have_the_names_that_docker_prints(mounted: Mounted) -> None:
    names = [
        "ghcr.io/org/app:1.2",
        "localhost:5000/team/app:1",
        "app:1",
        "org/tool:2",
        "import/x:1",
    ]
    mounted.load(archives.docker_archive((APP, names)))
    assert mounted.names() == ["app:1", "docker.io", "ghcr.io", "import", "localhost:5000", "org"]
    assert mounted.names("ghcr.io/org") == ["app:1.2"]
    assert mounted.names("localhost:5000/team") == ["app:1"]
    assert mounted.names("docker.io/import") == ["x:1"]
    for path in ("ghcr.io/org/app:1.2", "localhost:5000/team/app:1", "org/tool:2"):
        assert (mounted / path / "oci-layout").is_file()


def test_a_repository_is_a_layout_with_every_tag_and_is_not_listed(mounted: Mounted) -> None:
    mounted.load(archives.docker_archive((APP, ["app:1", "app:2"]), (OTHER, ["app:old"])))
    assert mounted.names() == ["app:1", "app:2", "app:old", "import"]
    index = json.loads((mounted / "app" / "index.json").read_bytes())
    tags = [e["annotations"]["org.opencontainers.image.ref.name"] for e in index["manifests"]]
    assert tags == ["1", "2", "old"]
    items = json.loads((mounted / "app" / "manifest.json").read_bytes())
    assert [item["RepoTags"] for item in items] == [["app:1", "app:2"], ["app:old"]]
    blobs = set(os.listdir(mounted / "app" / "blobs" / "sha256"))
    assert blobs == {
        name for tag in ("1", "old") for name in os.listdir(mounted / f"app:{tag}/blobs/sha256")
    }


def test_a_repository_that_is_a_namespace_too_is_listed_and_shows_both(mounted: Mounted) -> None:
    mounted.load(archives.docker_archive((APP, ["org:1", "org/app:1"])))
    assert mounted.names() == ["import", "org", "org:1"]
    assert mounted.names("org") == ["app:1", "blobs", "index.json", "manifest.json", "oci-layout"]
    assert (mounted / "org" / "app:1" / "oci-layout").is_file()


def test_an_untagged_image_is_shown_by_its_digest(mounted: Mounted) -> None:
    mounted.load(archives.docker_archive((APP, None)))
    (name,) = [n for n in mounted.names() if n != "import"]
    assert name.startswith("sha256:")
    (entry,) = json.loads((mounted / name / "index.json").read_bytes())["manifests"]
    assert entry["digest"] == name
    assert "annotations" not in entry
    assert json.loads((mounted / name / "manifest.json").read_bytes())[0]["RepoTags"] is None


def test_a_tagged_image_resolves_by_digest_but_is_not_listed_so(mounted: Mounted) -> None:
    mounted.load(archives.docker_archive((APP, ["org/app:1"])))
    digest = os.getxattr(mounted / "org/app:1", "user.oci.digest").decode()
    assert files(mounted / digest).keys() == files(mounted / "org/app:1").keys()
    assert (mounted / f"org/app@{digest}" / "oci-layout").is_file()
    assert mounted.names() == ["import", "org"]
    assert mounted.names("org") == ["app:1"]


@pytest.mark.parametrize(
    "name",
    [
        "nope",
        "nope:1",
        "UPPER:1",
        "a b",
        "sha256:12",
        "app@sha256:12",
        "ü",
        "-x",
        "a:b:c",
        "x" * 300,
    ],
)
def test_impossible_names_are_enoent(mounted: Mounted, name: str) -> None:
    assert not os.path.lexists(mounted / name)


def test_extended_attributes_describe_images_and_blobs(mounted: Mounted) -> None:
    mounted.load(archives.docker_archive((APP, ["app:1"])))
    directory = mounted / "app:1"
    reported = {name: os.getxattr(directory, name).decode() for name in os.listxattr(directory)}
    (entry,) = json.loads((directory / "index.json").read_bytes())["manifests"]
    assert reported == {
        "user.oci.digest": entry["digest"],
        "user.oci.mediatype": "application/vnd.oci.image.manifest.v1+json",
        "user.oci.name": "docker.io/library/app:1",
        "user.oci.platform": "linux/amd64",
        "user.oci.created": "2024-02-03T04:05:06Z",
    }
    blob = directory / "blobs/sha256" / APP.id[7:]
    assert os.getxattr(blob, "user.oci.digest").decode() == APP.id
    with pytest.raises(OSError, match="No data available"):
        os.getxattr(directory, "user.nope")


def test_a_blob_is_one_inode_with_a_true_link_count(mounted: Mounted) -> None:
    mounted.load(archives.docker_archive((APP, ["app:1"])), "1.tar")
    shared = f"blobs/sha256/{archives.digest(APP.layers[0])[7:]}"
    assert (mounted / "app:1" / shared).stat().st_nlink == 1
    mounted.load(archives.docker_archive((OTHER, ["other:1"])), "2.tar")
    first, second = (mounted / "app:1" / shared).stat(), (mounted / "other:1" / shared).stat()
    assert first.st_ino == second.st_ino
    assert first.st_nlink == second.st_nlink == 2
    own = mounted / f"app:1/blobs/sha256/{archives.digest(APP.layers[1])[7:]}"
    assert own.stat().st_nlink == 1


def test_tars_of_two_images_hold_a_shared_layer_once(mounted: Mounted) -> None:
    big = ImageParts(layers=[archives.layer("big", os.urandom(1 << 20)), archives.layer("x")])
    more = ImageParts(layers=[*big.layers, archives.layer("y")])
    mounted.load(archives.docker_archive((big, ["big:1"]), (more, ["more:1"])))
    both = run("tar", "-C", mounted.path, "-c", "big:1", "more:1").stdout
    assert len(both) < 1.5 * (1 << 20)


def test_tars_are_the_same_across_remounts_and_stores(
    mount: Callable[..., Mounted],
) -> None:
    tars = []
    for i in range(2):
        one = mount(store=f"store{i}", at=f"mnt{i}")
        one.load(archives.docker_archive((OTHER, ["other:1"]), (APP, ["app:1"]))[:], "both.tar")
        tars.append(run("tar", "-C", one / "app:1", "-c", ".").stdout)
    inodes = {p.name: p.stat().st_ino for p in (one / "app:1").rglob("*")}
    run("fusermount3", "-u", one.path)
    again = mount(store="store1", at="mnt1")
    tars.append(run("tar", "-C", again / "app:1", "-c", ".").stdout)
    assert tars[0] == tars[1] == tars[2]
    assert inodes == {p.name: p.stat().st_ino for p in (again / "app:1").rglob("*")}


def test_changes_of_another_process_show(mounted: Mounted, engine: LocalEngine) -> None:
    mounted.load(archives.docker_archive((APP, ["app:1"])))
    assert (mounted / "app:1").is_dir()
    engine.tag("app:1", "app:2")
    assert "app:2" in mounted.names()
    engine.remove("app:1")
    assert not (mounted / "app:1").exists()
    assert mounted.names() == ["app:2", "import"]


def test_an_open_directory_never_shows_another_image(mounted: Mounted, engine: LocalEngine) -> None:
    other = ImageParts(layers=[archives.layer("other")])
    mounted.load(archives.docker_archive((APP, ["app:1"]), (other, ["other:1"])))
    engine.tag("app:1", "moved:1")
    held = os.open(mounted / "moved:1", os.O_PATH | os.O_DIRECTORY)
    try:
        before = os.stat(held)
        engine.tag("other:1", "moved:1")
        assert not same(before, mounted / "moved:1")
        assert APP.id[7:] in os.listdir(f"/proc/self/fd/{held}/blobs/sha256")
        engine.tag("app:1", "moved:1")
        assert same(before, mounted / "moved:1")
    finally:
        os.close(held)
    for name in ("index.json", "manifest.json"):
        shown = (mounted / "moved:1" / name).read_bytes()
        assert shown == (mounted / "app:1" / name).read_bytes().replace(b"app:1", b"moved:1")


def test_an_open_directory_shows_its_image_again_when_it_returns(
    mounted: Mounted, engine: LocalEngine
) -> None:
    mounted.load(archives.docker_archive((APP, ["app:1"])))
    held = os.open(mounted / "app:1", os.O_PATH | os.O_DIRECTORY)
    try:
        target = engine.find_one("app:1").target
        summary = engine.images.summary(target.digest)
        engine.remove("app:1")
        assert not (mounted / "app:1").exists()
        os.listdir(f"/proc/self/fd/{held}")
        engine.images.record(target.digest, summary)
        engine.images.create(Image("docker.io/library/app:1", target))
        assert (mounted / "app:1").exists()
    finally:
        os.close(held)
    assert len(os.listdir(mounted / "app:1")) == 4


def test_layout_files_win_over_namespaces_of_the_same_name(
    mounted: Mounted,
) -> None:
    images = [(APP, f"ghcr.io/a{name}:1") for name in ("", "/blobs", "/index.json/x")]
    mounted.load(archives.oci_archive(*images))
    assert sorted(os.listdir(mounted / "ghcr.io/a/blobs")) == ["sha256"]
    assert (mounted / "ghcr.io/a/index.json").is_file()
    assert len(os.listdir(mounted / "ghcr.io/a/blobs:1")) == 4


def same(known: os.stat_result, path: Path) -> bool:
    return os.path.samestat(known, path.stat())


def test_an_open_file_stays_readable_when_its_image_is_removed(
    mounted: Mounted, engine: LocalEngine
) -> None:
    mounted.load(archives.docker_archive((APP, ["app:1"])))
    digest = archives.digest(APP.layers[0])
    with open(mounted / "app:1/blobs/sha256" / digest[7:], "rb", buffering=0) as file:
        engine.remove("app:1")
        engine.content.delete(digest)
        assert file.read() == APP.layers[0]


def test_an_absent_platform_leaves_the_others(mounted: Mounted) -> None:
    arm = ImageParts(layers=[archives.layer("arm")], architecture="arm64")
    absent = ImageParts(layers=[archives.layer("s390x")], architecture="s390x")
    mounted.load(archives.multi_platform("docker.io/library/multi:1", [APP, arm], [absent]))
    blobs = set(os.listdir(mounted / "multi:1/blobs/sha256"))
    assert {APP.id[7:], arm.id[7:]} < blobs
    assert absent.id[7:] not in blobs
    platforms = os.getxattr(mounted / "multi:1", "user.oci.platform").decode()
    assert platforms == "linux/amd64,linux/arm64"


def test_a_requested_platform_restricts_what_is_shown(mount: Callable[..., Mounted]) -> None:
    arm = ImageParts(layers=[archives.layer("arm")], architecture="arm64")
    one = mount(options=("--platform", "linux/arm64"))
    one.load(archives.multi_platform("docker.io/library/multi:1", [APP, arm]))
    blobs = os.listdir(one / "multi:1/blobs/sha256")
    assert arm.id[7:] in blobs
    assert APP.id[7:] not in blobs
    (item,) = json.loads((one / "multi:1/manifest.json").read_bytes())
    assert item["Config"].endswith(arm.id[7:])


def test_an_image_without_the_requested_platform_is_shown_whole(
    mount: Callable[..., Mounted],
) -> None:
    arm = ImageParts(layers=[archives.layer("arm")], architecture="arm64")
    one = mount(options=("--platform", "linux/riscv64"))
    one.load(archives.multi_platform("docker.io/library/multi:1", [APP, arm]))
    blobs = os.listdir(one / "multi:1/blobs/sha256")
    assert {arm.id[7:], APP.id[7:]} <= set(blobs)
    assert (one / "multi:1/manifest.json").exists()


def test_statfs_describes_the_disk_of_the_store(mounted: Mounted) -> None:
    shown, disk = os.statvfs(mounted.path), os.statvfs(mounted.store)
    assert (shown.f_blocks, shown.f_frsize) == (disk.f_blocks, disk.f_frsize)

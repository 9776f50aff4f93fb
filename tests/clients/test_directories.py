"""Real tools write OCI layouts into `import/`, and pull into them only what is missing."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import directories
from tests.clients import layouts
from tests.clients.client import Client
from tests.clients.containers import Podman
from tests.clients.images import Image
from tests.clients.layouts import Layout
from tests.directories import images, status
from tests.mounts import IMGFS, Mounted, run


@pytest.fixture(scope="session")
def layout(umoci: Client, tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """Two images, `1` and `2`, that share their first layers."""
    return layouts.make(umoci, tmp_path_factory.mktemp("layouts"))


def digest_of(image: Path) -> str:
    (entry,) = json.loads((image / "index.json").read_bytes())["manifests"]
    return str(entry["digest"])


def id_of(image: Path) -> str:
    """The image ID of an image directory."""
    (item,) = json.loads((image / "manifest.json").read_bytes())
    return "sha256:" + str(item["Config"]).removeprefix("blobs/sha256/")


def debugged(client: Client, *arguments: str) -> str:
    """What a tool prints to stderr with --debug."""
    done: subprocess.CompletedProcess[bytes] = client.run("--debug", *arguments)
    assert done.returncode == 0, done.stderr.decode()
    return done.stderr.decode()


def ends_well(mounted: Mounted, directory: Path, *names: str) -> None:
    """The directory is loaded and goes; its images stay, whole."""
    assert status(directory) == "loaded"
    assert sorted(images(directory)) == sorted(f"docker.io/library/{name}" for name in names)
    assert mounted.report(directory.name)["status"] == "loaded"
    assert "missing" not in mounted.report(directory.name)
    run("rm", "-r", directory)
    run(*IMGFS, "--store", mounted.store, "gc")
    tagged = [name for name in mounted.names() if not name.startswith("sha256:")]
    assert tagged == sorted([*names, "import"])
    directories.check(mounted)


# -- skopeo ---------------------------------------------------------------------------------------


def test_skopeo_copies_two_tags_into_one_directory(
    layout: Layout, skopeo: Client, mounted: Mounted
) -> None:
    for tag in ("1", "2"):
        skopeo("copy", f"oci:{layout.image(tag)}", f"oci:{mounted.drop}/app:{tag}")
        assert digest_of(mounted / f"app:{tag}") == layout.digests[tag]
    ends_well(mounted, mounted.drop / "app", "app:1", "app:2")


def test_skopeo_skips_what_the_store_holds(
    layout: Layout, skopeo: Client, mounted: Mounted
) -> None:
    skopeo("copy", f"oci:{layout.image('1')}", f"oci-archive:{mounted.drop}/x.tar:app:1")
    target = f"oci:{mounted.drop}/app:2"
    said = debugged(skopeo, "copy", f"oci:{layout.image('2')}", target)
    assert f"Skipping blob {layout.largest('1')} (already present)" in said
    assert said.count("Skipping blob") == 2
    assert digest_of(mounted / "app:2") == layout.digests["2"]
    assert status(mounted.drop / "app") == "loaded"


def test_skopeo_copies_the_same_again(layout: Layout, skopeo: Client, mounted: Mounted) -> None:
    for _ in range(3):
        skopeo("copy", f"oci:{layout.image('1')}", f"oci:{mounted.drop}/app:1")
        assert digest_of(mounted / "app:1") == layout.digests["1"]
    ends_well(mounted, mounted.drop / "app", "app:1")


def test_skopeo_copies_from_one_mount_to_another(
    layout: Layout, skopeo: Client, mounted: Mounted, tmp_path: Path
) -> None:
    with_both = layouts.copied(layout, mounted.drop / "app")
    assert with_both.digests == layout.digests
    target = tmp_path / "other"
    skopeo("copy", f"oci:{mounted.path}/app:1", f"oci:{target}:1")
    said = debugged(skopeo, "copy", f"oci:{mounted.path}/app:2", f"oci:{mounted.drop}/again:2")
    assert said.count("Skipping blob") == 3
    assert digest_of(mounted / "again:2") == layout.digests["2"]


def test_skopeo_converts_a_docker_archive(
    layout: Layout, skopeo: Client, mounted: Mounted, tmp_path: Path
) -> None:
    archive = f"docker-archive:{tmp_path}/x.tar"
    skopeo("copy", f"oci:{layout.image('1')}", f"{archive}:app:1")
    for _ in range(2):
        skopeo("copy", archive, f"oci:{mounted.drop}/app:1")
    assert len(list((mounted / "app:1/blobs/sha256").iterdir())) == 4
    assert id_of(mounted / "app:1").startswith("sha256:")
    ends_well(mounted, mounted.drop / "app", "app:1")


def test_skopeo_syncs_a_whole_layout(layout: Layout, skopeo: Client, mounted: Mounted) -> None:
    """A copy without a tag: the image has the directory's name."""
    skopeo("copy", f"oci:{layout.image('1')}", f"oci:{mounted.drop}/app")
    assert digest_of(mounted / "app:latest") == layout.digests["1"]


def test_skopeo_reads_what_it_has_written(layout: Layout, skopeo: Client, mounted: Mounted) -> None:
    target = f"oci:{mounted.drop}/app:1"
    skopeo("copy", f"oci:{layout.image('1')}", target)
    assert json.loads(skopeo("inspect", target))["Digest"] == layout.digests["1"]


# -- podman and buildah ---------------------------------------------------------------------------


def test_podman_pushes_into_it(podman: Podman, podman_built_image: Image, mounted: Mounted) -> None:
    for _ in range(2):
        podman.podman("push", podman_built_image.name, f"oci:{mounted.drop}/built:1")
    assert id_of(mounted / "built:1") == podman_built_image.id
    ends_well(mounted, mounted.drop / "built", "built:1")


@pytest.mark.parametrize("is_there", [False, True])
def test_podman_saves_a_directory_into_it(
    is_there: bool, podman: Podman, podman_built_image: Image, mounted: Mounted
) -> None:
    target = mounted.drop / "built"
    if is_there:
        target.mkdir()
    podman.podman("save", "--format", "oci-dir", "-o", target, podman_built_image.name)
    assert status(target) == "loaded"
    (found,) = [path for path in mounted.path.rglob("manifest.json") if "import" not in path.parts]
    assert id_of(found.parent) == podman_built_image.id


def test_podman_saves_a_docker_dir_into_it(
    podman: Podman, podman_image: Image, mounted: Mounted
) -> None:
    target = mounted.drop / "imported"
    podman.podman("save", "--format", "docker-dir", "-o", target, podman_image.name)
    assert status(target) == "loaded"


def test_buildah_pushes_into_it(buildah: Client, buildah_image: Image, mounted: Mounted) -> None:
    buildah("push", buildah_image.name, f"oci:{mounted.drop}/committed:1")
    assert id_of(mounted / "committed:1") == buildah_image.id
    ends_well(mounted, mounted.drop / "committed", "committed:1")


def test_podman_pulls_what_it_has_pushed(
    podman: Podman, podman_built_image: Image, mounted: Mounted
) -> None:
    podman.podman("push", podman_built_image.name, f"oci:{mounted.drop}/built:1")
    podman.clear()
    shutil.rmtree(mounted.drop / "built")
    pulled = podman.podman("pull", f"oci:{mounted.path}/built:1")
    assert podman.run(pulled.splitlines()[-1]) == podman_built_image.says


# -- umoci ----------------------------------------------------------------------------------------


def test_umoci_makes_a_layout_in_it(umoci: Client, mounted: Mounted, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "file").write_bytes(b"hello\n")
    image = Layout(mounted.drop / "app")
    umoci("init", "--layout", image.path)
    assert mounted.names() == ["import"]
    umoci("new", "--image", image.image("1"))
    layouts.insert(umoci, image.image("1"), root)
    umoci("tag", "--image", image.image("1"), "2")
    layouts.insert(umoci, image.image("2"), root / "file")
    for tag in ("1", "2"):
        assert digest_of(mounted / f"app:{tag}") == image.digests[tag]
    umoci("gc", "--layout", image.path)
    assert sorted(image.digests) == ["1", "2"]
    ends_well(mounted, image.path, "app:1", "app:2")


def test_umoci_repacks_and_removes(umoci: Client, mounted: Mounted, tmp_path: Path) -> None:
    image = layouts.make(umoci, mounted.drop)
    bundle = tmp_path / "bundle"
    umoci("unpack", "--image", image.image("1"), bundle)
    (bundle / "rootfs" / "new").write_bytes(b"new\n")
    umoci("repack", "--image", image.image("3"), bundle)
    umoci("config", "--image", image.image("3"), "--config.cmd", "new")
    assert digest_of(mounted / "layout:3") == image.digests["3"]
    umoci("rm", "--image", image.image("1"))
    umoci("gc", "--layout", image.path)
    assert sorted(image.digests) == ["2", "3"]
    assert status(image.path) == "loaded"


def test_umoci_works_on_what_the_store_holds(
    layout: Layout, skopeo: Client, umoci: Client, mounted: Mounted, tmp_path: Path
) -> None:
    """Documents alone make a layout; its layers are read out of the store."""
    skopeo("copy", f"oci:{layout.image('1')}", f"oci-archive:{mounted.drop}/x.tar:app:1")
    image = Layout(mounted.drop / "app")
    image.path.mkdir()
    for name in ("oci-layout", "index.json"):
        shutil.copyfile(mounted / "app:1" / name, image.path / name)
    umoci("unpack", "--image", image.image("1"), tmp_path / "bundle")
    assert (tmp_path / "bundle/rootfs/root0/file").stat().st_size == layouts.SHARED_SIZE

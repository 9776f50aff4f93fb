"""Every tool writes an image into `import/` in its own way, and the image has the right ID."""

import json
from pathlib import Path

import pytest

from tests.clients.client import Client, shell
from tests.clients.containers import Podman
from tests.clients.daemons import Containerd, Dockerd
from tests.clients.images import Image
from tests.clients.saved import Saved
from tests.mounts import Mounted


def config_of(directory: Path) -> str:
    """Return the image ID of an image directory."""
    (item,) = json.loads((directory / "manifest.json").read_bytes())
    return "sha256:" + str(item["Config"]).removeprefix("blobs/sha256/")


@pytest.mark.parametrize(
    "writes",
    [
        "save -o {drop}/x.tar {name}",
        "save {name} > {drop}/x.tar",
        "save {name} | cat > {drop}/x.tar",
        "save {name} | dd of={drop}/x.tar bs=7777 status=none",
        "save {name} | dd of={drop}/x.tar ibs=333 obs=100001 status=none",
        "save {name} | tee {drop}/x.tar > /dev/null",
        "save {name} | gzip > {drop}/x.tar.gz",
        "save {name} | zstd -q > {drop}/x.tar.zst",
    ],
)
def test_docker_saves_into_import(
    writes: str, dockerd: Dockerd, docker_built_image: Image, mounted: Mounted
) -> None:
    shell(f"{dockerd.docker} {writes.format(drop=mounted.drop, name=docker_built_image.name)}")
    assert config_of(mounted / docker_built_image.name) == docker_built_image.id


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
@pytest.mark.parametrize("target", ["-o {drop}/x.tar {name}", "{name} | cat > {drop}/x.tar"])
def test_podman_saves_into_import(
    kind: str, target: str, podman: Podman, podman_built_image: Image, mounted: Mounted
) -> None:
    writes = target.format(drop=mounted.drop, name=podman_built_image.name)
    shell(f"{podman.podman} save --format {kind} {writes}")
    assert config_of(mounted / podman_built_image.name) == podman_built_image.id


def test_podman_saves_several_images_into_import(
    podman: Podman, podman_image: Image, podman_built_image: Image, mounted: Mounted
) -> None:
    names = f"{podman_image.name} {podman_built_image.name}"
    shell(f"{podman.podman} save -m -o {mounted.drop}/x.tar {names}")
    for image in (podman_image, podman_built_image):
        assert config_of(mounted / image.name) == image.id


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_buildah_pushes_into_import(
    kind: str, buildah: Client, buildah_image: Image, mounted: Mounted
) -> None:
    buildah("push", buildah_image.name, f"{kind}:{mounted.drop}/x.tar:{buildah_image.name}")
    assert config_of(mounted / buildah_image.name) == buildah_image.id


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_skopeo_copies_into_import(
    kind: str, skopeo: Client, umoci_image: Image, mounted: Mounted
) -> None:
    target = f"{kind}:{mounted.drop}/x.tar:docker.io/library/copied:2"
    skopeo("copy", f"oci:{umoci_image.name}", target)
    assert config_of(mounted / "copied:2") == umoci_image.id


def test_skopeo_copies_from_a_mount_into_import(
    skopeo: Client, umoci_image: Image, mounted: Mounted
) -> None:
    for source, name in ((f"oci:{umoci_image.name}", "a:1"), (f"oci:{mounted.path}/a:1", "b:1")):
        skopeo("copy", source, f"oci-archive:{mounted.drop}/x.tar:docker.io/library/{name}")
    assert (mounted / "b:1").is_dir()
    assert config_of(mounted / "b:1") == umoci_image.id


@pytest.mark.parametrize("saved", ["podman save oci-archive"], indirect=True)
def test_ctr_exports_into_import(containerd: Containerd, saved: Saved, mounted: Mounted) -> None:
    containerd.ctr("images", "import", saved.archive)
    (name,) = containerd.ctr("images", "ls", "-q").splitlines()
    containerd.ctr("images", "export", f"{mounted.drop}/x.tar", name)
    assert config_of(mounted / str(saved.directory)) == saved.id


def test_the_tar_of_a_layout_of_umoci_loads(umoci_image: Image, mounted: Mounted) -> None:
    shell(f"tar -C {umoci_image.name.removesuffix(':1')} -cf {mounted.drop}/x.tar .")
    (untagged,) = [name for name in mounted.names() if name.startswith("sha256:")]
    assert config_of(mounted / untagged) == umoci_image.id


@pytest.mark.parametrize("saved", ["docker build", "tar of a layout by umoci"], indirect=True)
@pytest.mark.parametrize(
    "writes",
    [
        "cp {archive} {drop}/x.tar",
        "cp -a {archive} {drop}/",
        "cp --sparse=always {archive} {drop}/",
        "cp {archive} {copy} && mv {copy} {drop}/",
        "cat {archive} > {drop}/x.tar",
        "dd if={archive} of={drop}/x.tar bs=511 status=none",
        "dd if={archive} of={drop}/x.tar bs=10k conv=fsync status=none",
        "rsync -a {archive} {drop}/",
        "rsync -a --inplace {archive} {drop}/",
        "rsync -a --whole-file --times {archive} {drop}/ && rsync -a {archive} {drop}/",
        "curl -sS -o {drop}/x.tar file://{archive}",
        "install -m 600 {archive} {drop}/x.tar",
    ],
)
def test_an_archive_copied_into_import_loads(
    writes: str, saved: Saved, mounted: Mounted, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.tar"
    shell(writes.format(archive=saved.archive, drop=mounted.drop, copy=copy))
    (found,) = mounted.path.rglob("manifest.json")
    assert config_of(found.parent) == saved.id
    assert saved.directory in (None, str(found.parent.relative_to(mounted.path)))

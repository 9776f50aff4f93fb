"""An exported root is what podman exports and umoci unpacks, and other tools read it."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from engine.filetree.directory import scan
from engine.filetree.entry import FileEntry
from tests import archives
from tests.archives import ImageParts
from tests.clients.client import Client, shell
from tests.clients.containers import Podman
from tests.clients.daemons import Dockerd
from tests.filetree.layers import applied
from tests.filetree.sparse import LAYER, SPARSE_CONTENT
from tests.trees import make_odd, picture

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="devices and owners need root")


@pytest.fixture
def imgfs(tmp_path: Path) -> Client:
    return Client((sys.executable, "-m", "imgfs", "--store", str(tmp_path / "store")))


@pytest.fixture
def odd(busybox_root: Path, tmp_path: Path, imgfs: Client) -> Path:
    """A root with a shell and every kind of entry, stored in two layers as odd:2."""
    root = tmp_path / "odd"
    shutil.copytree(busybox_root, root, symlinks=True)
    shutil.rmtree(root / "etc")
    shutil.rmtree(root / "tmp")
    make_odd(root)
    (root / "s").unlink()
    imgfs("commit", "-c", 'CMD ["echo", "made"]', root, "odd:1")
    (root / "empty").unlink()
    os.link(root / "suid", root / "suid-too")
    imgfs("commit", "--base", "odd:1", root, "odd:2")
    return root


READERS = {
    "GNU tar": ("tar", "--xattrs", "--xattrs-include=*", "-x"),
    "bsdtar": ("env", "LC_ALL=C.UTF-8", "bsdtar", "--xattrs", "-p", "-x", "-f", "-"),
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_readers_make_the_root(
    odd: Path, imgfs: Client, tmp_path: Path, reader: tuple[str, ...]
) -> None:
    if shutil.which("bsdtar") is None:
        pytest.skip("bsdtar is not installed")
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run([*reader, "-C", out], input=imgfs.output("export", "odd:2"), check=True)
    assert picture(scan(out)) == picture(scan(odd))


def test_umoci_unpacks_the_same(odd: Path, imgfs: Client, umoci: Client, tmp_path: Path) -> None:
    assert odd.is_dir()
    shell(f"mkdir {tmp_path}/layout && {imgfs} save odd:2 | tar -C {tmp_path}/layout -x")
    umoci("unpack", "--image", f"{tmp_path}/layout:2", tmp_path / "bundle")
    exported = applied([imgfs.output("export", "odd:2")])
    assert picture(exported) == picture(scan(tmp_path / "bundle/rootfs"))


def test_podman_exports_the_same(odd: Path, imgfs: Client, podman: Podman) -> None:
    assert odd.is_dir()
    shell(f"{imgfs} save odd:2 | {podman.podman} load")
    container = podman.podman("create", "docker.io/library/odd:2")
    theirs = applied([podman.podman.output("export", container)])
    ours = applied([imgfs.output("export", "odd:2")])
    added = {path for path, _ in theirs.items()} - {path for path, _ in ours.items()}
    assert {path for path, _ in ours.items()} - {path for path, _ in theirs.items()} == set()
    assert added <= {"dev", "proc", "sys", "run", "etc/hosts", "etc/hostname", "etc/resolv.conf"}
    for path, entry in ours.items():
        if entry.kind != "dir":
            assert facts(theirs[path]) == facts(entry), path


def facts(entry: FileEntry) -> tuple[object, ...]:
    """What podman exports of an entry: whole seconds."""
    seconds = entry.mtime_ns // 10**9
    return entry.kind, entry.mode, entry.uid, entry.gid, seconds, entry.size, entry.linkname


def test_docker_imports_and_runs_it(odd: Path, imgfs: Client, dockerd: Dockerd) -> None:
    assert odd.is_dir()
    shell(f'{imgfs} export odd:2 | {dockerd.docker} import -c \'CMD ["echo", "in"]\' - flat:1')
    assert dockerd.run("flat:1") == "in"


def test_podman_imports_it(odd: Path, imgfs: Client, podman: Podman) -> None:
    shell(f"{imgfs} export odd:2 | {podman.podman} import - localhost/flat:1")
    place = podman.podman("image", "mount", "localhost/flat:1")
    try:
        assert picture(scan(Path(place))) == picture(scan(odd))
    finally:
        podman.podman("image", "unmount", "localhost/flat:1")


@pytest.fixture
def sparse(busybox_root: Path, imgfs: Client) -> None:
    """An image with a sparse file, stored as sparse:1."""
    command = ["tar", "-C", str(busybox_root), "-c", "."]
    packed = subprocess.run(command, capture_output=True, check=True).stdout
    archive = archives.oci_archive((ImageParts((packed, LAYER)), "sparse:1"))
    imgfs("load", stdin=archive)


@pytest.mark.usefixtures("sparse")
@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_readers_expand_sparse_files(
    imgfs: Client, tmp_path: Path, reader: tuple[str, ...]
) -> None:
    if shutil.which("bsdtar") is None:
        pytest.skip("bsdtar is not installed")
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run([*reader, "-C", out], input=imgfs.output("export", "sparse:1"), check=True)
    assert (out / "sparse").read_bytes() == SPARSE_CONTENT


@pytest.mark.usefixtures("sparse")
def test_docker_expands_sparse_files(imgfs: Client, dockerd: Dockerd) -> None:
    shell(f"{imgfs} export sparse:1 | {dockerd.docker} import - sparse:2")
    container = dockerd.docker("create", "sparse:2", "x")
    copied = dockerd.docker.output("cp", f"{container}:/sparse", "-")
    dockerd.docker("rm", container)
    with tarfile.open(fileobj=io.BytesIO(copied)) as tar:
        file = tar.extractfile("sparse")
        assert file is not None
        assert file.read() == SPARSE_CONTENT

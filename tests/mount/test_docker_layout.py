"""`imgfs mount --layout docker`: image directories as docker save writes them."""

import io
import os
import random
import subprocess
import tarfile
from collections.abc import Callable

import pytest

from engine.commit.source import CommitOptions, PlatformSource, Ref, Source, parse_names
from engine.compression.options import Compression
from tests import archives
from tests.archives import ImageParts
from tests.local_engine import LocalEngine
from tests.mounts import IMGFS, Mounted, run

BIG = ImageParts(layers=[archives.layer("big", random.Random(5).randbytes(3_000_000))])
WINDOWS = ImageParts(os="windows")
ARCHIVE = archives.oci_archive(
    (BIG, "docker.io/library/big:1"),
    (BIG, "docker.io/library/big:2"),
    (WINDOWS, "docker.io/library/win:1"),
    gzipped=True,
)


def members(archive: bytes) -> dict[str, tuple[int, int, bytes]]:
    """Return the mode, time and bytes of every member but the root."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {
            os.path.normpath(info.name): (
                info.mode,
                int(info.mtime),
                file.read() if (file := tar.extractfile(info)) else b"",
            )
            for info in tar
            if info.name not in (".", "./")
        }


@pytest.fixture(params=[("--layout", "docker"), ("-o", "layout=docker")])
def docker(request: pytest.FixtureRequest, mount: Callable[..., Mounted]) -> Mounted:
    mounted = mount(options=request.param)
    mounted.load(ARCHIVE)
    return mounted


def test_tar_of_an_image_directory_equals_the_archive_of_save(docker: Mounted) -> None:
    seen = subprocess.check_output(["tar", "-C", docker.path / "big:1", "-c", "."])
    saved = subprocess.check_output(
        [*IMGFS, "--store", docker.store, "save", "--layout", "docker", "big:1"]
    )
    expected = members(saved)
    assert {path: (mtime, data) for path, (_, mtime, data) in members(seen).items()} == {
        path: (mtime, data) for path, (_, mtime, data) in expected.items()
    }
    layer = f"blobs/sha256/{archives.digest(BIG.layers[0])[7:]}"
    assert expected[layer][2] == BIG.layers[0]


def test_a_layer_is_readable_at_every_offset(docker: Mounted) -> None:
    plain = BIG.layers[0]
    path = docker.path / "big:2" / "blobs/sha256" / archives.digest(plain)[7:]
    assert path.stat().st_size == len(plain)
    with path.open("rb") as first, path.open("rb") as second:
        for offset in (2_500_000, 0, 1_234_567, len(plain) - 5, len(plain)):
            for file in (first, second):
                assert os.pread(file.fileno(), 5000, offset) == plain[offset : offset + 5000]
    assert path.read_bytes() == plain


def test_an_image_that_docker_does_not_save_is_shown(docker: Mounted) -> None:
    blobs = docker.names("win:1/blobs/sha256")
    assert blobs == sorted(archives.digest(blob)[7:] for blob in WINDOWS.blobs(gzipped=True))


def test_the_archive_can_be_loaded_again(docker: Mounted) -> None:
    archive = subprocess.check_output(["tar", "-C", docker.path / "big:1", "-c", "."])
    run(*IMGFS, "--store", docker.store, "rm", "big:1", "big:2")
    docker.load(archive)
    assert "big:1" in docker.names()


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_committed_layer_is_shown_uncompressed(mount: Callable[..., Mounted], kind: str) -> None:
    mounted = mount(options=("--layout", "docker"))
    root = mounted.path.parent / "root"
    root.mkdir()
    (root / "file").write_bytes(BIG.layers[0])
    with LocalEngine(mounted.store) as engine:
        engine.commit(
            Source((PlatformSource(ref=Ref(root)),)),
            parse_names("made:1"),
            CommitOptions(Compression(kind)),
        )
        diff_id = engine.details("made:1").config.rootfs.diff_ids[0]
    layer = (mounted.path / "made:1" / "blobs" / diff_id.replace(":", "/")).read_bytes()
    assert archives.digest(layer) == diff_id

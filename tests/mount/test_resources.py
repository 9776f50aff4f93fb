"""The cost of a load: memory does not grow with the archive, no byte is written twice, and a full
disk damages nothing.
"""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.mounts import Mounted, has_ended, run
from tests.waiting import wait_until

SIZE = 150_000_000
LAYER = archives.layer("big", os.urandom(1 << 20) * (SIZE >> 20))
ARCHIVE = archives.docker_archive((ImageParts(layers=[LAYER]), ["big:1"]))


def figure(pid: int, file: str, name: str) -> int:
    """Return a number from /proc; memory is in kB."""
    found = re.search(rf"^{name}:\s+(\d+)", Path(f"/proc/{pid}/{file}").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def test_memory_is_bounded_and_each_blob_is_written_once(mounted: Mounted) -> None:
    mounted.load(ARCHIVE)
    assert (mounted / "big:1").is_dir()
    assert figure(mounted.pid, "status", "VmHWM") < 100_000
    # SQLite's own files are small; wchar counts bytes written to files of any kind.
    assert figure(mounted.pid, "io", "wchar") < 1.05 * len(ARCHIVE)


def test_blobs_of_the_store_are_not_written_again(mounted: Mounted) -> None:
    parts = ImageParts(layers=[LAYER])
    mounted.load(archives.oci_archive((parts, "docker.io/library/big:1")))
    before = figure(mounted.pid, "io", "wchar")
    mounted.load(archives.oci_archive((parts, "docker.io/library/again:1")), "again.tar")
    assert (mounted / "again:1").is_dir()
    assert figure(mounted.pid, "io", "wchar") - before < 10_000_000


def write_all_but_the_start(descriptor: int) -> None:
    """Write an archive without its first 4 KiB."""
    for offset in range(4096, 8 << 20, 1 << 20):
        os.pwrite(descriptor, ARCHIVE[offset : offset + (1 << 20)], offset)


def test_a_full_disk_is_reported_for_writes_in_and_out_of_order(
    tmp_path: Path, mount: Callable[..., Mounted]
) -> None:
    (tmp_path / "store").mkdir()
    size = ("-t", "tmpfs", "-o", "size=4m", "tmpfs", str(tmp_path / "store"))
    if subprocess.run(["mount", *size], capture_output=True, check=False).returncode:
        pytest.skip("a small disk needs root")
    try:
        mounted = mount()
        with pytest.raises(OSError, match="No space left"):
            mounted.load(ARCHIVE)
        descriptor = os.open(mounted.drop / "ahead.tar", os.O_WRONLY | os.O_CREAT)
        with pytest.raises(OSError, match="No space left"):
            write_all_but_the_start(descriptor)
        with pytest.raises(OSError, match="No space left"):
            os.close(descriptor)
        assert "No space left" in mounted.report("ahead.tar")["error"]
        mounted.load(archives.docker_archive((ImageParts(), ["small:1"])), "small.tar")
        assert mounted.names() == ["import", "small:1"]
        run("fusermount3", "-u", mounted.path)
        wait_until(lambda: has_ended(mounted.pid), "the mount's process ends")
    finally:
        run("umount", "--lazy", tmp_path / "store")

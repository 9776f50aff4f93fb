"""What a load costs: memory does not grow with the archive, and no byte is written twice."""

import os
import re
from pathlib import Path

from tests import archives
from tests.archives import ImageParts
from tests.mounts import Mounted

SIZE = 150_000_000
LAYER = archives.layer("big", os.urandom(1 << 20) * (SIZE >> 20))
ARCHIVE = archives.docker_archive((ImageParts(layers=[LAYER]), ["big:1"]))


def figure(pid: int, file: str, name: str) -> int:
    """A number from /proc; memory in kB."""
    found = re.search(rf"^{name}:\s+(\d+)", Path(f"/proc/{pid}/{file}").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def test_memory_is_bounded_and_each_blob_is_written_once(mounted: Mounted) -> None:
    mounted.load(ARCHIVE)
    assert (mounted / "big:1").is_dir()
    assert figure(mounted.pid, "status", "VmHWM") < 100_000
    # What SQLite keeps beside it is small; wchar counts what is written to files of any kind.
    assert figure(mounted.pid, "io", "wchar") < 1.05 * len(ARCHIVE)


def test_what_is_there_is_not_written_again(mounted: Mounted) -> None:
    parts = ImageParts(layers=[LAYER])
    mounted.load(archives.oci_archive((parts, "docker.io/library/big:1")))
    before = figure(mounted.pid, "io", "wchar")
    mounted.load(archives.oci_archive((parts, "docker.io/library/again:1")), "again.tar")
    assert (mounted / "again:1").is_dir()
    assert figure(mounted.pid, "io", "wchar") - before < 10_000_000

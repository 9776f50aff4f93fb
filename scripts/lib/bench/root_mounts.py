"""The root of an image as other tools show it: unpacked, or mounted by FUSE.

A tool that is not installed is None, and its contenders are left out.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.lib.bench.debian_roots import RootImage
from scripts.lib.bench.images import NAME
from scripts.lib.bench.mounting import IMGFS
from scripts.lib.bench.running import call


@dataclass(frozen=True, slots=True)
class RootMount:
    """A root that a FUSE program shows at `path` while it is mounted by `words`."""

    words: Sequence[str | Path]
    path: Path

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        self.path.mkdir(parents=True, exist_ok=True)
        call(*self.words, self.path)
        try:
            yield self.path
        finally:
            subprocess.run(["fusermount3", "-u", self.path], check=True)


def unpacked(image: RootImage, root: Path) -> Path:
    """Return the root on the disk, unpacked."""
    root.mkdir()
    script = '"$@" | tar -C "$0" -x'
    call("sh", "-c", script, root, *IMGFS, "--store", image.store, "export", "-q", NAME)
    return root


def squashfuse(root: Path, scratch: Path) -> RootMount | None:
    """Return a squashfs, compressed by gzip, of a root on the disk."""
    if not shutil.which("squashfuse") or not shutil.which("mksquashfs"):
        return None
    image = scratch / "root.squashfs"
    call("mksquashfs", root, image, "-quiet", "-no-progress", "-comp", "gzip")
    return RootMount(["squashfuse", image], scratch / "squashfuse")


def ratarmount(image: RootImage, scratch: Path) -> RootMount | None:
    """Return the layers over one another in ratarmount, which keeps its indexes in files."""
    program = Path(sys.executable).with_name("ratarmount")
    if not program.exists():
        return None
    indexes = scratch / "indexes"
    indexes.mkdir()
    found = RootMount([program, "--index-folders", indexes, *image.layers], scratch / "ratarmount")
    with found.mounted():  # which makes the indexes
        return found

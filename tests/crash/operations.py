"""A store with a history, and the operations on it that are interrupted: each is one `imgfs`
command.
"""

import contextlib
import io
import os
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engine.archive.import_options import ImportOptions
from engine.testing.blobs import write_blob
from imgfs import cli
from tests import archives
from tests.archives import ImageParts
from tests.local_engine import LocalEngine

Names = Mapping[str, str]
"""Full names, and the digests of their targets."""

_RANDOM = random.Random(5)
_SHARED = archives.layer("shared", _RANDOM.randbytes(90_000))
_KEPT = ImageParts(layers=[_SHARED, archives.layer("kept")])
_OTHER = ImageParts(layers=[archives.layer("other", _RANDOM.randbytes(20_000))])
_MOVED = ImageParts(layers=[_SHARED, archives.layer("moved")])
_GONE = ImageParts(layers=[_SHARED, archives.layer("gone", _RANDOM.randbytes(70_000))])
_REMOVED = ImageParts(layers=[archives.layer("removed"), archives.layer("removed too")])
_NEW = ImageParts(layers=[_SHARED, archives.layer("new", _RANDOM.randbytes(150_000))])
_NEWER = ImageParts(layers=[_SHARED, archives.layer("newer")])
_STOCK = (
    archives.docker_archive((_KEPT, ["keep:1", "keep:too"]), (_MOVED, ["moved:1"])),
    archives.oci_archive((_OTHER, "ghcr.io/org/other:2"), gzipped=True),
    archives.docker_archive((_GONE, ["gone:1"]), (_REMOVED, ["removed:1"]), (_OTHER, None)),
)
_ARCHIVE = archives.oci_archive(
    (_NEW, "docker.io/library/new:1"), (_NEWER, "docker.io/library/moved:1"), gzipped=True
)
_DOCKER_ARCHIVE = archives.docker_archive(
    (_NEW, ["new:1", "new:2"]), (_NEWER, ["moved:1"]), (_OTHER, ["gone:1"])
)


@dataclass(frozen=True)
class Place:
    """A directory with a store, and the files that commands read and write."""

    root: Path

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def output(self) -> Path:
        return self.root / "output.tar"

    @property
    def layout(self) -> Path:
        return self.root / "layout"

    def copy(self, root: Path) -> "Place":
        shutil.copytree(self.root, root, symlinks=True)
        return Place(root)

    def names(self) -> Names:
        with LocalEngine(self.store) as engine:
            return {image.name: image.target.digest for image in engine.images.all()}


@dataclass(frozen=True)
class Operation:
    """A command, with words for a place; `again` is its exit status when it is repeated."""

    name: str
    words: Sequence[str]
    again: int = 0
    stocked: bool = True
    files: Mapping[str, bytes] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name

    @property
    def replaces_output(self) -> bool:
        return "output.tar" in self.files

    def arguments(self, place: Place) -> list[str]:
        words = (word.replace("@", f"{place.root}/", 1) for word in self.words)
        return ["--store", str(place.store), *words]

    def prepare(self, root: Path) -> Place:
        """Create a place in which it can begin."""
        place = Place(root)
        root.mkdir()
        for name, data in self.files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
            os.utime(root / name, (1_700_000_000, 1_700_000_000))
        if self.stocked:
            stock(place.store)
        return place

    def run(self, place: Place) -> int:
        """Run it in this process; return its exit status."""
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return cli.run(self.arguments(place))


_TREE = {"rootfs/etc": b"made\n", "rootfs/data": _RANDOM.randbytes(140_000)}
OPERATIONS = (
    Operation("load", ("load", "-q", "-i", "@in.tar"), files={"in.tar": _ARCHIVE}),
    Operation("load-docker", ("load", "-q", "@in.tar"), files={"in.tar": _DOCKER_ARCHIVE}),
    Operation(
        "load-directory",
        ("load", "-q", "@layout"),
        files={f"layout/{name}": data for name, data in archives.members(_ARCHIVE)},
    ),
    Operation("first-load", ("load", "@in.tar"), stocked=False, files={"in.tar": _ARCHIVE}),
    Operation("save", ("save", "-q", "-o", "@output.tar", "keep:1", "ghcr.io/org/other:2")),
    Operation("save-docker", ("save", "-q", "--layout", "docker", "-o", "@output.tar", "keep:1")),
    Operation(
        "save-over",
        ("save", "-q", "-o", "@output.tar", "keep:1", "keep:too"),
        files={"output.tar": _STOCK[1]},
    ),
    Operation("save-directory", ("save", "-q", "-o", "@layout/", "keep:1", "ghcr.io/org/other:2")),
    Operation(
        "save-into",
        ("save", "-q", "-o", "@layout/", "keep:1", "keep:too"),
        files={f"layout/{name}": data for name, data in archives.members(_STOCK[1])},
    ),
    Operation("tag", ("tag", "keep:1", "moved:1")),
    Operation("rm", ("rm", "gone:1"), again=1),
    Operation("gc", ("gc",)),
    Operation(
        "commit",
        ("commit", "-q", "--reproducible", "--base", "keep:1", "@rootfs", "made:1"),
        files=_TREE,
    ),
)


def stock(path: Path) -> None:
    """Create a store with images, one of them removed, and with leftovers of killed processes."""
    with LocalEngine(path) as engine:
        for archive in _STOCK:
            load(engine, archive)
        engine.remove("removed:1")
        write_blob(engine.content, "stray", b"nobody needs it")
        with engine.content.unnamed_writer() as writer:
            writer.write(b"half")
    (path / "leases" / "0123456789abcdef0123456789abcdef").touch()
    (path / "blobs/sha256" / archives.digest(b"rowless")[7:]).write_bytes(b"rowless")


def load(engine: LocalEngine, archive: bytes, options: ImportOptions | None = None) -> None:
    with engine.begin_import(options) as session:
        session.feed(archive)
        session.finish()

"""Layouts as directories, written file by file, and what became of those in `import/`."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests import archives
from tests.archives import ImageParts
from tests.local_engine import LocalEngine
from tests.mounts import Mounted, write

Files = Mapping[str, bytes]
"""The bytes of each file, by its path in the directory."""

REF_NAME = "org.opencontainers.image.ref.name"


def layout(*images: tuple[ImageParts, str]) -> dict[str, bytes]:
    """Return the files of an OCI layout whose index gives each image a tag, or no name for ""."""
    entries = []
    for image, tag in images:
        annotations = {"annotations": {REF_NAME: tag}} if tag else {}
        manifest = image.manifest(gzipped=True)
        entries.append(archives.descriptor(manifest, archives.OCI_MANIFEST, **annotations))
    blobs = [blob for image, _ in images for blob in image.blobs(gzipped=True)]
    return dict(archives.oci_members(entries, blobs))


def blob_path(data: bytes) -> str:
    """Return the path of a blob in a layout."""
    return "blobs/" + archives.digest(data).replace(":", "/")


def put(directory: Path, files: Files) -> None:
    """Write files in place, in their order, with the directories that they need."""
    for name, data in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, data)


def only(files: Files, names: Iterable[str]) -> dict[str, bytes]:
    """Return some of the files, in the order of the names."""
    return {name: files[name] for name in names}


def listed(directory: Path) -> dict[str, bytes]:
    """Return what a recursive reader finds below a directory."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def status(directory: Path) -> str:
    """Return what the directory says of itself."""
    return os.getxattr(directory, "user.imgfs.status").decode()


def images(directory: Path) -> list[str]:
    """Return the names of the images that were loaded from a directory."""
    return os.getxattr(directory, "user.imgfs.images").decode().split("\n")


def check(mounted: Mounted) -> None:
    """Check that nothing in the store is wrong, and that each blob is needed."""
    with LocalEngine(mounted.store) as engine:
        assert [*engine.check(), *engine.check_layers()] == []
        assert [found.name for found in engine.collector().plan()] == []

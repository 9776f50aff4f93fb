"""Images whose roots are shown, for tests without a mount."""

import json
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from engine.spec import platforms
from imgfs.vfs.names import FAMILIAR, Names
from imgfs.vfs.nodes import Directory, File, Node
from imgfs.vfs.tree import ImageTree
from imgfs.vfs.views import CombinedView
from tests import archives
from tests.archives import ImageParts
from tests.filetree.layers import Member, file, layer
from tests.local_engine import LocalEngine

Images = Sequence[tuple[ImageParts, str | None]]


def image(*layers: Sequence[Member]) -> ImageParts:
    return ImageParts([layer(*members) for members in layers])


def roots(
    images: Images, called: Names = FAMILIAR
) -> AbstractContextManager[tuple[LocalEngine, ImageTree]]:
    """Return a store of images, and its tree."""
    return roots_of(archive_of_images(images), called)


@contextmanager
def roots_of(
    archive: bytes, called: Names = FAMILIAR, wanted: str = ""
) -> Iterator[tuple[LocalEngine, ImageTree]]:
    """Yield a store of the images in an archive, and its tree with one platform or all."""
    view = CombinedView((platforms.parse(wanted),) if wanted else ())
    with tempfile.TemporaryDirectory() as folder, LocalEngine(Path(folder)) as engine:
        with engine.begin_import() as session:
            session.feed(archive)
            session.finish()
        yield engine, ImageTree(engine.store, view, {}, called)


def archive_of(listed: Sequence[dict[str, Any]], parts: ImageParts) -> bytes:
    """Return the OCI archive of app:1, whose manifest has these descriptors of its layers."""
    manifest = archives.to_json({**json.loads(parts.manifest()), "layers": listed})
    annotations = {"io.containerd.image.name": "app:1"}
    entry = archives.descriptor(manifest, archives.OCI_MANIFEST, annotations=annotations)
    return archives.tar(archives.oci_members([entry], [manifest, *parts.blobs()[1:]]))


def encrypted() -> bytes:
    """Return the archive of app:1 with a plain layer and an encrypted one."""
    whole = ImageParts([layer(file("a", "1")), b"secret" * 500])
    kinds = (archives.OCI_LAYER, f"{archives.OCI_LAYER}+encrypted")
    listed = [archives.descriptor(*one) for one in zip(whole.layers, kinds, strict=True)]
    return archive_of(listed, whole)


def found(directory: Node | None, path: str) -> Node | None:
    """Return the node at a path, looked up name by name as the kernel does."""
    node = directory
    for name in path.split("/"):
        if node is None or not node.is_directory:
            return None
        node = entered(node).lookup(name)
    return node


def entered(node: Node | None) -> Directory:
    assert node is not None
    assert node.is_directory
    return node  # type: ignore[return-value]  # is_directory says so


def read(node: Node | None) -> bytes:
    assert node is not None
    file: File = node  # type: ignore[assignment]  # a file by its mode
    assert stat.S_ISREG(file.attributes().mode)
    reader = file.open()
    try:
        return reader.read(0, file.attributes().size)
    finally:
        reader.close()


def names(node: Node | None) -> list[str]:
    return [name for name, _ in entered(node).children()]


def archive_of_images(images: Images) -> bytes:
    """Return the archive from which `roots` loads."""
    return archives.oci_archive(*images, gzipped=True)


def damage(engine: LocalEngine, name: str, layer: int) -> str:
    """Damage a layer of an image, and drop every table that is made of it; return its digest."""
    manifest = engine.details(name).manifest
    digest = manifest.manifest.layers[layer].digest
    path = engine.store.directory / "blobs" / digest.replace(":", "/")
    path.chmod(0o600)
    with path.open("r+b") as stored:
        stored.seek(-(path.stat().st_size // 2), os.SEEK_END)
        stored.write(bytes(path.stat().st_size - stored.tell()))
    for table in (digest, manifest.descriptor.digest):
        engine.store.tables.delete(table)
    return digest

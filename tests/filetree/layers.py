"""Layers for tests, made by Python's own tarfile, and a short way to say what a tree holds."""

import io
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from engine.filetree.entry import FileEntry, LayerSpan
from engine.filetree.merged import MergedImage
from engine.filetree.tree import Tree
from engine.layers.layer import Layers
from engine.spec import digest as digests
from engine.spec.oci import Descriptor, Manifest
from engine.stores.protocols import Store
from engine.testing.blobs import write_blob
from tests.stores.memory import MemoryStore

Member = tuple[tarfile.TarInfo, bytes]
Shown = dict[str, str]


def member(
    name: str,
    kind: bytes = tarfile.REGTYPE,
    content: bytes = b"",
    link: str = "",
    records: Mapping[str, str] | None = None,
    **fields: int,
) -> Member:
    """`fields` are those of TarInfo, `records` go into a PAX header."""
    return _member(name, kind, content, link, records or {}, fields)


def with_xattrs(name: str, kind: bytes, xattrs: Mapping[str, str], **fields: int) -> Member:
    records = {f"SCHILY.xattr.{key}": value for key, value in xattrs.items()}
    return _member(name, kind, b"", "", records, fields)


def file(name: str, content: str = "", **fields: int) -> Member:
    return _member(name, tarfile.REGTYPE, content.encode(), "", {}, fields)


def directory(name: str, mode: int = 0o755, **fields: int) -> Member:
    return _member(name, tarfile.DIRTYPE, b"", "", {}, {"mode": mode, **fields})


def symlink(name: str, target: str, **fields: int) -> Member:
    return _member(name, tarfile.SYMTYPE, b"", target, {}, fields)


def hardlink(name: str, target: str, **fields: int) -> Member:
    return _member(name, tarfile.LNKTYPE, b"", target, {}, fields)


def _member(
    name: str,
    kind: bytes,
    content: bytes,
    link: str,
    records: Mapping[str, str],
    fields: Mapping[str, int],
) -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.pax_headers = kind, link, len(content), dict(records)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def fifo(name: str) -> Member:
    return member(name, tarfile.FIFOTYPE)


def layer(*members: Member, format_: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format_, errors="surrogateescape") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def stored(store: Store, layers: Sequence[bytes]) -> Manifest:
    """Return the manifest of an image of layers, which are stored."""
    found = [write_blob(store.content, "layer", data).info for data in layers]
    return Manifest(
        schema_version=2,
        config=Descriptor("any", digests.of_bytes(b"{}"), 2),
        layers=tuple(Descriptor("any", info.digest, info.size) for info in found),
    )


def image_of(layers: Sequence[bytes]) -> MergedImage:
    store = MemoryStore(Path(tempfile.gettempdir()))
    manifest = stored(store, layers)
    return MergedImage(Layers(store.content, store.tables, store.directory), manifest)


def applied(layers: Sequence[bytes]) -> Tree:
    return image_of(layers).tree


def content(entry: FileEntry, layers: Sequence[bytes]) -> bytes:
    if entry.content is None:
        return b""
    assert isinstance(entry.content, LayerSpan)
    store = MemoryStore(Path(tempfile.gettempdir()))
    (digest,) = (layer.digest for layer in stored(store, [layers[entry.content.layer]]).layers)
    with Layers(store.content, store.tables, store.directory).open(digest) as layer:
        return layer.pread(layer.table.entry(entry.content.index), entry.size, 0)


def shown(tree: Tree, layers: Sequence[bytes]) -> Shown:
    """Paths, with a slash behind directories, and "=content", "→target" or the kind."""
    found = {}
    for path, entry in tree.items():
        if entry.kind == "dir":
            found[f"{path}/"] = ""
        elif entry.kind == "file":
            found[path] = f"={content(entry, layers).decode()}"
        else:
            found[path] = f"→{entry.linkname}" if entry.kind == "symlink" else entry.kind
    del found["/"]
    return found


def merged(*layers: Iterable[Member]) -> Shown:
    """Return the tree that layers are merged to."""
    made = [layer(*members) for members in layers]
    return shown(applied(made), made)

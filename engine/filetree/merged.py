"""The merged root of an image, made of the tables of its layers without reading them.

A layer without a table is read once, to make it.
"""

from collections.abc import Callable, Iterator
from threading import Lock

from engine.errors import BrokenArchive, InvalidInput, NotFound, UnreadableLayer, printable
from engine.filetree.entry import FileEntry, LayerSpan
from engine.filetree.entry_tree import EntryTree, LeftOut
from engine.filetree.tree import Tree
from engine.filetree.tree_builder import TreeBuilder
from engine.layers.layer import Layers
from engine.layers.table import Entry, LayerTable
from engine.progress import Progress, ignore
from engine.spec import media_types as layer_types
from engine.spec.descriptor import Descriptor
from engine.spec.oci import Manifest

_PIECE = 1 << 20


def merged_root(layers: Layers, manifest: Manifest, on_progress: Progress = ignore) -> EntryTree:
    """Return the merged root of an image; its `left_out` tells what is missing in it.

    `on_progress` hears of stored bytes of a layer that has no table yet. Raise OSError.
    """
    builder = TreeBuilder()
    for layer in manifest.layers:
        _apply(builder, layer, lambda digest: layers.table(digest, on_progress))
    return builder.tree()


def known_left_out(layers: Layers, manifest: Manifest) -> tuple[LeftOut, ...]:
    """Return what `merged_root` leaves out, without reading a layer: one that has no table yet is
    listed with this as the reason.
    """
    builder = TreeBuilder()
    for layer in manifest.layers:
        _apply(builder, layer, layers.stored_table)
    return builder.left_out


def whole_root(layers: Layers, manifest: Manifest, on_progress: Progress = ignore) -> EntryTree:
    """Return the merged root as `merged_root` does; its `left_out` are single entries.

    Raise BrokenArchive, which names the layer, if a layer or the rest of one would be left out.
    """
    root = merged_root(layers, manifest, on_progress)
    _check_whole(root, manifest)
    return root


def growing_roots(
    layers: Layers, manifest: Manifest, on_progress: Progress = ignore
) -> Iterator[EntryTree]:
    """Yield an empty root, and the merged root up to each layer; raise as `whole_root`."""
    builder = TreeBuilder()
    yield builder.tree()
    for layer in manifest.layers:
        _apply(builder, layer, lambda digest: layers.table(digest, on_progress))
        root = builder.tree()
        _check_whole(root, manifest)
        yield root


def _check_whole(root: EntryTree, manifest: Manifest) -> None:
    for left in root.left_out:
        if not left.path:
            raise BrokenArchive(f"layer {manifest.layers[left.layer].digest}", left.reason)


def layer_changes(
    layers: Layers, manifest: Manifest, on_progress: Progress = ignore
) -> list[EntryTree]:
    """Return what each layer of an image changes, lowest first, in the form of overlayfs.

    Stacked by overlayfs they are the merged root. Raise OSError.
    """
    builder = TreeBuilder()
    found = []
    for layer in manifest.layers:
        _apply(builder, layer, lambda digest: layers.table(digest, on_progress))
        found.append(builder.changes())
    return found


class MergedImage:
    """The merged root of an image of which nothing may be left out; safe from any thread."""

    def __init__(self, layers: Layers, manifest: Manifest) -> None:
        self._layers = layers
        self._manifest = manifest
        self._lock = Lock()
        self._tree: Tree | None = None

    @property
    def tree(self) -> Tree:
        """The merged root, made on first use.

        Raise NotFound if a layer is not in the store, and UnreadableLayer or BrokenArchive if
        anything would be left out.
        """
        with self._lock:
            if self._tree is None:
                self._tree = _tree_of(self._merged())
            return self._tree

    def read(self, path: str) -> Iterator[bytes]:
        """Return an iterator of the content of a file, in pieces.

        Raise NotFound if there is no such path, InvalidInput if it is not a file. The iterator
        raises DamagedLayer.
        """
        found = self.tree.get(path)
        if found is None:
            raise NotFound("file", path)
        if found.kind != "file":
            raise InvalidInput(f"{printable(path)}: is a {found.kind} and not a file")
        return self._content(found.content) if isinstance(found.content, LayerSpan) else iter(())

    def _content(self, span: LayerSpan) -> Iterator[bytes]:
        with self._layers.open(self._manifest.layers[span.layer].digest) as layer:
            entry = layer.table.entry(span.index)
            for offset in range(0, entry.size, _PIECE):
                yield layer.pread(entry, _PIECE, offset)

    def _merged(self) -> EntryTree:
        builder = TreeBuilder()
        for layer in self._manifest.layers:
            if layer_types.is_encrypted(layer.media_type):
                raise UnreadableLayer(layer.digest, layer_types.unreadable(layer.media_type))
            try:
                builder.apply(self._layers.table(layer.digest))
            except BrokenArchive as error:
                raise _unreadable(layer, error.reason) from error
            for left in builder.left_out:
                raise _unreadable(layer, _said(left))
        return builder.tree()


def _apply(
    builder: TreeBuilder, layer: Descriptor, table_of: Callable[[str], LayerTable | None]
) -> None:
    if layer_types.is_encrypted(layer.media_type):
        builder.leave_out(layer_types.unreadable(layer.media_type))
        return
    if builder.excess:
        builder.leave_out(builder.excess)
        return
    try:
        table = table_of(layer.digest)
    except BrokenArchive as error:
        builder.leave_out(error.reason)
    except NotFound:
        builder.leave_out("is not in the store")
    else:
        if table is None:
            builder.leave_out(layer_types.unreadable(layer.media_type) or "has not been read yet")
        else:
            builder.apply(table)


def _unreadable(layer: Descriptor, reason: str) -> BrokenArchive:
    if why := layer_types.unreadable(layer.media_type):
        return UnreadableLayer(layer.digest, f"{reason}; it {why}")
    return BrokenArchive(f"layer {layer.digest}", reason)


def _said(left: LeftOut) -> str:
    path = left.path.decode("utf-8", "surrogateescape")
    return f"{path}: {left.reason}" if path else left.reason


def _tree_of(merged: EntryTree) -> Tree:
    """Return a merged root by paths, with one value for each entry."""
    found: dict[str, FileEntry] = {}
    inodes: dict[object, int] = {}
    for path, node in merged.walk():
        entry, place = merged.entry(node), merged.place(node)
        span = LayerSpan(place.layer, place.index, entry.checksum) if place and entry.size else None
        is_dir = entry.attributes.kind == "dir"
        inode = inodes.setdefault(node if is_dir else place, len(inodes) + 1)
        found[path.decode("utf-8", "surrogateescape")] = _file_entry(entry, span, inode)
    return Tree(found)


def _file_entry(entry: Entry, content: LayerSpan | None, inode: int) -> FileEntry:
    shared = entry.attributes
    is_file = shared.kind == "file"
    return FileEntry(
        kind=shared.kind,
        mode=shared.mode,
        uid=shared.uid,
        gid=shared.gid,
        mtime_ns=entry.mtime_ns,
        size=entry.size if is_file else 0,
        linkname=entry.link.decode("utf-8", "surrogateescape"),
        device=shared.device,
        xattrs=shared.xattrs,
        inode=inode,
        content=content if is_file else None,
    )

"""The nodes in image directories and repositories: the entries of their archives, cached."""

import errno
import mmap
import os
from collections.abc import Iterable, Mapping, Sequence

from engine.errors import InvalidDocument, NotFound
from engine.image import TreeEntry
from engine.layers.layer import Layers
from engine.layers.reader import UncompressedBlobs
from engine.layouts.entry import Decompressed, Entry
from engine.spec.digest import Digest, of_bytes
from engine.stores.protocols import Store
from engine.units import NS_PER_SECOND
from imgfs.vfs.blob_files import BlobFile, BlobSource, LayoutFile
from imgfs.vfs.lru_cache import LRUCache
from imgfs.vfs.name_changes import NameChanges
from imgfs.vfs.nodes import BytesFile, FixedDirectory, Node
from imgfs.vfs.removals import RemovableDirectory
from imgfs.vfs.turns import Turns
from imgfs.vfs.views import View

_KEPT = 128
_WINDOW = 1 << 20
_NOT_SHOWN = (NotFound, InvalidDocument)
_Archive = tuple[str, tuple[TreeEntry, ...]] | tuple[str, tuple[TreeEntry, ...], int]
"""The key of an archive and its places; also the version of the store, if it lacks some of them."""


class ArchiveNodes:
    """Makes the nodes of archives as a view lays them out, and keeps those of the last ones.

    The key of each node contains the name of its image, the target, and which of its blobs are
    stored. `blobs` are the files of blobs.
    """

    def __init__(self, store: Store, view: View, layers: Layers, changes: NameChanges) -> None:
        """`changes` removes the entries of image directories."""
        window = memoryview(mmap.mmap(-1, _WINDOW))
        self.blobs = BlobSource(store.content, self._links, window, store.images.is_remote)
        self._store = store
        self._view = view
        self._uncompressed = UncompressedBlobs(store.content, layers)
        self._changes = changes
        self._archives = LRUCache[_Archive, Mapping[str, Node]](_KEPT)
        self._turns = Turns()

    def of_image(self, place: TreeEntry) -> Mapping[str, Node]:
        """Return the children of an image directory, with those that are hidden."""
        if not place.target:  # it was listed, and never looked up
            found = self._store.images.place_at(place.path)
            if found is None:
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
            place = found
        return self._archive(f"image:{place.path}", (place,), "")

    def has(self, place: TreeEntry) -> bool:
        """Return whether `of_image` need not read the image's manifests."""
        return self._archives.get((f"image:{place.path}", (place,))) is not None

    def of_repository(self, path: str) -> Mapping[str, Node]:
        """Return the OCI layout of all images whose path continues `path` with a colon, named in
        its index by what follows the colon. There must be such images.
        """
        places = tuple(self._store.images.places(f"{path}:"))
        return self._archive(f"repository:{path}", places, f"{path}:")

    def _archive(self, key: str, places: tuple[TreeEntry, ...], prefix: str) -> Mapping[str, Node]:
        nodes = self._known(key, places)
        if nodes is None:
            with self._turns.of((key, places)):
                nodes = self._known(key, places) or self._make_archive(key, places, prefix)
        return nodes

    def _known(self, key: str, places: tuple[TreeEntry, ...]) -> Mapping[str, Node] | None:
        whole = self._archives.get((key, places))
        if whole is not None or len(places) == 1:
            return whole
        return self._archives.get((key, places, self._store.version()))

    def _make_archive(
        self, key: str, places: tuple[TreeEntry, ...], prefix: str
    ) -> Mapping[str, Node]:
        """Make the archive of some places and keep it, without those of several that cannot be
        shown; one without them is kept only until the store changes.
        """
        version = self._store.version()
        kept_as: _Archive = (key, places)
        try:
            entries = self._entries(places, prefix)
        except _NOT_SHOWN:
            shown = tuple(place for place in places if self._can_show(place, prefix))
            if not shown or len(places) == 1:
                raise
            entries = self._entries(shown, prefix)
            kept_as, places = (key, places, version), shown
        targets = "".join(f"\n{place.key}" for place in places)
        nodes = self._nodes(f"{key}{targets}", entries, None if prefix else places[0])
        self._archives.put(kept_as, nodes)
        return nodes

    def _entries(self, places: Sequence[TreeEntry], prefix: str) -> Iterable[Entry]:
        mtime = max(place.created for place in places)
        return self._view.entries(self._store, [place.image for place in places], mtime, prefix)

    def _can_show(self, place: TreeEntry, prefix: str) -> bool:
        try:
            self._entries([place], prefix)
        except _NOT_SHOWN:
            return False
        return True

    def _nodes(
        self, key: str, entries: Iterable[Entry], image: TreeEntry | None
    ) -> Mapping[str, Node]:
        """Return the nodes of a layout's entries, in which a directory precedes its contents. With
        an `image` they can be removed.
        """
        tree: dict[str, dict[str, Node]] = {"": {}}
        for entry in entries:
            parent, _, name = entry.path.rpartition("/")
            if entry.is_directory:
                tree[entry.path] = {}
            tree[parent][name] = self._node(f"{key}/{entry.path}", entry, tree, image)
        return tree[""]

    def _node(
        self,
        key: str,
        entry: Entry,
        tree: Mapping[str, Mapping[str, Node]],
        image: TreeEntry | None,
    ) -> Node:
        mtime, is_remote = entry.mtime * NS_PER_SECOND, self.blobs.is_remote
        match entry.content:
            case None if image is not None:
                entries = self._changes.entries(image, f"{entry.path}/")
                return RemovableDirectory(key, entries, tree[entry.path], mtime, is_remote)
            case None:
                return FixedDirectory(key, tree[entry.path], mtime, is_remote=is_remote)
            case Digest() as digest if not entry.mtime:
                return BlobFile(self.blobs, digest, entry.size, entry.media_type)
            case Digest() as digest:
                return LayoutFile(key, self._store.content, digest, entry.size, mtime)
            case Decompressed(digest, _):
                return LayoutFile(key, self._uncompressed, digest, entry.size, mtime)
            case data if entry.media_type:
                return _made_document(data, entry.media_type)
            case data:
                return BytesFile(key, data, mtime)

    def _links(self, digest: Digest) -> int:
        return self._store.images.links([digest])[digest]


def _made_document(data: bytes, media_type: str) -> BytesFile:
    """Return a manifest or index that is not stored: one inode in all directories."""
    digest = of_bytes(data)
    extra = {"user.oci.digest": digest.encode(), "user.oci.mediatype": media_type.encode()}
    return BytesFile(f"document:{digest}", data, extra=extra)

"""The roots of images and what their layers hold: trees that are made when they are looked at."""

import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec

from engine import graph
from engine.errors import MissingContent, NotFound
from engine.filetree.entry_tree import ROOT, LeftOut
from engine.filetree.merged import layer_changes, merged_root
from engine.filetree.stored_roots import root_table
from engine.filetree.tree_table import TreeTable, table_of
from engine.graph import ImageManifest
from engine.image import TreeEntry
from engine.layers.layer import Layers
from engine.layouts import selection
from engine.progress import Done
from engine.spec import oci
from engine.spec.descriptor import Descriptor
from engine.spec.oci import Manifest
from engine.stores.protocols import Store
from imgfs.vfs import keys
from imgfs.vfs.keys import TreeKey
from imgfs.vfs.lru_cache import LRUCache
from imgfs.vfs.nodes import Node
from imgfs.vfs.open_layers import OpenLayers
from imgfs.vfs.rootfs import Owners, RootDirectory, ShownLayer, ShownTree, entry_node, node_of
from imgfs.vfs.views import matcher_of

_KEPT_NODES: Final = 500_000
"""The number of nodes of trees that are kept in memory; the tree used last is kept anyway."""
ROOTFS: Final = "rootfs"
LAYERS: Final = "layers"
_KEPT_REPORTS: Final = 64
"""The number of images of which `left_out` is remembered."""
_KEPT_TOPS: Final = 4096
_MAX_REPORTED: Final = 20
"""The number of left-out entries of one image that are reported."""


class Top(msgspec.Struct, frozen=True):
    """The root directory of a tree; `extra` are attributes that are not its own."""

    directory: RootDirectory
    extra: Mapping[str, bytes]


class Made(msgspec.Struct, frozen=True):
    """The trees that a view shows of an image: its root, or one for each of its layers."""

    trees: tuple[ShownTree, ...]
    left_out: tuple[LeftOut, ...]
    unreadable: frozenset[int]
    """The trees of layers that cannot be read."""
    missing: frozenset[int]
    """The trees of layers that the store does not have."""

    @property
    def size(self) -> int:
        """The number of nodes."""
        return sum(len(shown.tree) for shown in self.trees)


class Roots:
    """The roots of the images of a store; safe from any thread."""

    def __init__(
        self, store: Store, layers: Layers, wanted: Sequence[oci.Platform], owners: Owners
    ) -> None:
        """`wanted` selects the manifest of an index, as `CombinedView` does."""
        self.owners = owners
        self.opened = OpenLayers(layers)
        self._store = store
        self._layers = layers
        self._wanted = wanted
        self._lock = threading.Lock()
        self._making: dict[str, threading.Lock] = {}
        self._learning: dict[str, Done] = {}
        self._made: OrderedDict[str, Made] = OrderedDict()
        self._shown_layers: dict[int, ShownLayer] = {}
        self._links: dict[int, int] = {}
        """The links of entries that have more than a number can tell."""
        self.tops = LRUCache[TreeKey, Top](_KEPT_TOPS)
        self._left_out: OrderedDict[str, tuple[LeftOut, ...]] = OrderedDict()

    def shown(self, kind: str, place: TreeEntry) -> "ShownImage":
        """Return the image at a place as `kind`, ROOTFS or LAYERS, shows it; it is the same under
        all of its names.
        """
        target = place.image.target
        key = f"{kind}:{target.digest}:{place.revision}"
        return ShownImage(self, kind, key, target, place.created)

    def is_made(self, image: "ShownImage") -> bool:
        """Return whether `make` returns at once."""
        return image.key in self._made

    def make(self, image: "ShownImage") -> Made:
        """Return the trees of an image; raise EngineError (NotFound if it is gone, MissingContent
        if its root lacks a layer) or OSError.
        """
        made = self._kept(image.key)
        if made is None:
            with self._alone(image.key):
                made = self._kept(image.key) or self._make(image)
                self._keep(image.key, made)
        return made

    def layers(self, target: Descriptor) -> tuple[Descriptor, ...]:
        """Return the layers of the manifest that is shown of a target; raise NotFound."""
        chosen = self._manifest(target)
        return chosen.manifest.layers if chosen else ()

    def entry(self, number: int) -> Node:
        """Return an entry of a layer by its inode number.

        Raise KeyError if no tree with the layer was made, and as `Layers.open` does.
        """
        layer, index = self._shown_layers[keys.layer_of(number)], keys.index_of(number)
        links = self._links.get(number) or keys.links_of(number)
        opened = self.opened.take(layer.digest)
        try:
            return entry_node(layer, opened.table.entry(index), index, links)
        finally:
            self.opened.give_back(layer.digest)

    def is_entry_at_hand(self, number: int) -> bool:
        """Return whether `entry` returns, or raises KeyError, at once."""
        layer = self._shown_layers.get(keys.layer_of(number))
        return layer is None or self.opened.is_open(layer.digest)

    def status(self) -> dict[str, object]:
        """Return the images whose layers are being read for the first time, with bytes, and what is
        left out of the images that were looked at last.
        """
        learning = {
            key: {"done": done.size, "total": done.total}
            for key, done in list(self._learning.items())
        }
        with self._lock:
            left_out = {
                key: [str(one) for one in left[:_MAX_REPORTED]]
                for key, left in self._left_out.items()
            }
        return {"learning": learning, "left_out": left_out}

    def _make(self, image: "ShownImage") -> Made:
        chosen = self._manifest(image.target)
        manifest = chosen.manifest if chosen else _empty(image.target)
        missing = _missing_layers(chosen) if chosen else {}
        if missing and image.kind == ROOTFS:
            raise MissingContent(image.target.digest, tuple(missing.values()))
        try:
            tables, left_out = self._tables(image, chosen, manifest)
        finally:
            self._learning.pop(image.key, None)
        layers = tuple(map(self._shown_layer, manifest.layers))
        trees = tuple(ShownTree(table, layers) for table in tables)
        for shown in trees:
            self._note_links(shown)
        unreadable: frozenset[int] = frozenset()
        if image.kind == LAYERS:
            gone = {one.layer for one in left_out if not one.path}
            unreadable = frozenset(layer for layer in gone if len(tables[layer]) == 1)
            unreadable -= missing.keys()
        self._keep_tops(image, trees, _extra(image.kind, manifest, chosen))
        return Made(trees, left_out, unreadable, frozenset(missing))

    def _tables(
        self, image: "ShownImage", chosen: ImageManifest | None, manifest: Manifest
    ) -> tuple[Sequence[TreeTable], tuple[LeftOut, ...]]:
        """Return the trees of an image, and what its root leaves out."""

        def learn(done: Done) -> None:
            self._learning[image.key] = done

        if chosen:
            digest = chosen.descriptor.digest
            root = root_table(self._layers, self._store.tables, digest, manifest, learn)
        else:
            root = table_of(merged_root(self._layers, manifest, learn))
        if image.kind == ROOTFS:
            return [root], root.left_out
        return [table_of(tree) for tree in layer_changes(self._layers, manifest)], root.left_out

    def _keep_tops(
        self, image: "ShownImage", trees: Sequence[ShownTree], extra: Sequence[Mapping[str, bytes]]
    ) -> None:
        for index, shown in enumerate(trees):
            source = image.source(index)
            directory = node_of(source, shown, ROOT)
            assert isinstance(directory, RootDirectory)
            self.tops.put(source.key, Top(directory, extra[index]))

    def _shown_layer(self, layer: Descriptor) -> ShownLayer:
        """Return a layer with a number that no other one has."""
        with self._lock:
            number = keys.layer_number(layer.digest)
            while (known := self._shown_layers.get(number)) and known.digest != layer.digest:
                number = keys.next_layer(number)
            shown = ShownLayer(layer.digest, number, self.opened, self.owners)
            self._shown_layers[number] = shown
        return shown

    def _note_links(self, shown: ShownTree) -> None:
        """Remember the links of entries whose numbers have no room for them."""
        tree = shown.tree
        for node, links in tree.links.items():
            if links >= keys.MOST_LINKS and (place := tree.place(node)):
                self._links[shown.layers[place.layer].key(place.index, links).number] = links

    def _manifest(self, target: Descriptor) -> ImageManifest | None:
        """Return the manifest to show of a target, None for an artifact; raise NotFound."""
        found = graph.graph(self._store.content, target)
        if not found.blobs:
            raise NotFound("blob", target.digest)
        wanted = matcher_of(self._wanted)
        best = found.best(wanted) if wanted else None
        return best or selection.any_complete(found) or next(iter(found.images), None)

    def _kept(self, key: str) -> Made | None:
        with self._lock:
            made = self._made.get(key)
            if made is not None:
                self._made.move_to_end(key)
            return made

    def _keep(self, key: str, made: Made) -> None:
        with self._lock:
            self._made[key] = made
            while len(self._made) > 1 and self._nodes() > _KEPT_NODES:
                self._made.popitem(last=False)
            if made.left_out:
                self._left_out[key] = made.left_out
                while len(self._left_out) > _KEPT_REPORTS:
                    self._left_out.popitem(last=False)

    def _nodes(self) -> int:
        return sum(made.size for made in self._made.values())

    @contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        """Let one thread at a time make the trees of an image."""
        with self._lock:
            lock = self._making.setdefault(key, threading.Lock())
        try:
            with lock:
                yield
        finally:
            with self._lock:
                self._making.pop(key, None)


class ShownImage(msgspec.Struct, frozen=True):
    """An image as a view shows it; `created` is in seconds since the epoch."""

    roots: Roots
    kind: str
    key: str
    target: Descriptor
    created: int

    def make(self) -> Made:
        """Return its trees, as `Roots.make`."""
        return self.roots.make(self)

    def is_made(self) -> bool:
        """Return whether `make` returns at once."""
        return self.roots.is_made(self)

    def source(self, index: int) -> "ImageSource":
        """Return one of its trees."""
        return ImageSource(self, index, TreeKey(f"{self.key}:{index}"))


class ImageSource(msgspec.Struct, frozen=True):
    """A tree of an image, as a `TreeSource`."""

    image: ShownImage
    index: int
    key: TreeKey

    @property
    def owners(self) -> Owners:
        return self.image.roots.owners

    def get(self) -> ShownTree:
        return self.image.make().trees[self.index]

    def is_made(self) -> bool:
        return self.image.is_made()

    def check_readable(self) -> None:
        """Raise MissingContent if the store lacks the layer, OSError (EIO) if it cannot be read."""
        made = self.image.make()
        if self.index in made.missing:
            layer = made.trees[self.index].layers[self.index].digest
            raise MissingContent(self.image.target.digest, (layer,))
        if self.index in made.unreadable:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def top(self) -> Top | None:
        """Return the root directory, None if the tree has not been made or that is long ago."""
        return self.image.roots.tops.get(self.key)


def _empty(target: Descriptor) -> Manifest:
    return Manifest(schema_version=2, config=target, layers=())


def _missing_layers(image: ImageManifest) -> dict[int, str]:
    """Return the digests of the layers that the store does not have, by their places."""
    missing = {descriptor.digest for descriptor in image.missing}
    layers = enumerate(image.manifest.layers)
    return {index: layer.digest for index, layer in layers if layer.digest in missing}


def _extra(
    kind: str, manifest: Manifest, chosen: ImageManifest | None
) -> Sequence[Mapping[str, bytes]]:
    """Return the attributes of the root directory of each tree that are not its own."""
    if kind == ROOTFS:
        return [{}]
    history = chosen.config.history if chosen and chosen.config else []
    commands = [one.created_by for one in history if not one.empty_layer]
    commands += [""] * len(manifest.layers)
    return [
        {name: value.encode() for name, value in values.items() if value}
        for layer, command in zip(manifest.layers, commands, strict=False)
        for values in [{"user.oci.layer": layer.digest, "user.oci.created_by": command}]
    ]

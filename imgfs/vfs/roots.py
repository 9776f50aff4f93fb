"""The roots of images and what their layers hold: trees that are made when they are looked at."""

import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

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
from engine.spec import media_types as layer_types
from engine.spec import oci
from engine.spec.descriptor import Descriptor
from engine.spec.oci import Manifest
from engine.stores.protocols import Store
from imgfs.vfs import keys
from imgfs.vfs.keys import TreeKey
from imgfs.vfs.lacking_layers import Lacking, times
from imgfs.vfs.lru_cache import LRUCache
from imgfs.vfs.nodes import Node
from imgfs.vfs.open_layers import OpenLayers
from imgfs.vfs.rootfs import Owners, RootDirectory, ShownLayer, ShownTree, entry_node, node_of
from imgfs.vfs.turns import Turns
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
    tops: tuple[Top, ...]
    left_out: tuple[LeftOut, ...]
    unreadable: frozenset[int]
    """The trees of layers that cannot be read."""
    missing: frozenset[int]
    """The trees of layers that the store does not have."""
    lacking: Lacking | None
    """None if nothing is lacking that may come."""

    @property
    def lacks(self) -> tuple[str, ...]:
        """The digests of layers that are lacking, in whole or in part, although they may come."""
        return tuple(self.lacking.times) if self.lacking else ()

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
        self._turns = Turns()
        self._learning: dict[str, Done] = {}
        self._made: OrderedDict[str, Made] = OrderedDict()
        self.dropped = 0
        """The number of times that trees in memory have been dropped or replaced."""
        self._shown_layers: dict[int, ShownLayer] = {}
        self._links: dict[int, int] = {}
        """The links of entries that have more than a number can tell."""
        self._tops = LRUCache[str, Top](_KEPT_TOPS)
        self._left_out: OrderedDict[str, tuple[LeftOut, ...]] = OrderedDict()

    def shown(self, kind: str, place: TreeEntry, path: str) -> "ShownImage":
        """Return the image at a place as `kind`, ROOTFS or LAYERS, shows it at a path of the mount.

        Its trees are made once for all of its paths, but each path has directories of its own.
        """
        target = place.image.target
        key = f"{kind}:{target.digest}:{place.revision}"
        made = self._made.get(key)
        lacks = made.lacks if made else ()
        return ShownImage(self, kind, key, path, target, place.created, lacks)

    def made(self, image: "ShownImage") -> Made | None:
        """Return the trees of an image if `make` returns them at once."""
        return self._current(image.key)

    def make(self, image: "ShownImage") -> Made:
        """Return the trees of an image; raise EngineError (NotFound if it is gone, MissingContent
        if its root lacks a layer) or OSError.
        """
        made = self._kept(image.key)
        if made is None:
            with self._turns.of(image.key):
                made = self._kept(image.key) or self._revalidated(image.key) or self._make(image)
                self._keep(image.key, made)
        return made

    def top(self, source: "ImageSource") -> Top | None:
        """Return the root directory of a tree, None if it has not been made or that is long ago."""
        found = self._tops.get(source.name)
        if found is None:
            made = self._made.get(source.image.key)
            if made is not None and made.lacks == source.image.lacks:
                found = made.tops[source.index]
        return found

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
        version = self._store.version()
        before = times(self._store, {layer.digest for layer in manifest.layers})
        try:
            tables, left_out, damaged = self._tables(image, chosen, manifest)
        finally:
            self._learning.pop(image.key, None)
        layers = tuple(map(self._shown_layer, manifest.layers))
        trees = tuple(ShownTree(table, layers) for table in tables)
        for shown in trees:
            self._note_links(shown)
        unreadable: frozenset[int] = frozenset()
        if image.kind == LAYERS:
            unreadable = frozenset(layer for layer in damaged if len(tables[layer]) == 1)
            unreadable -= missing.keys()
        may_come = [
            layer.digest
            for number, layer in enumerate(manifest.layers)
            if number in damaged and not layer_types.is_encrypted(layer.media_type)
        ]
        as_made = replace(image, lacks=tuple(may_come))
        tops = self._keep_tops(as_made, trees, _extra(image.kind, manifest, chosen))
        lacks = Lacking({digest: before[digest] for digest in may_come}, version)
        return Made(
            trees, tops, left_out, unreadable, frozenset(missing), lacks if may_come else None
        )

    def _revalidated(self, key: str) -> Made | None:
        """Return kept trees once the store has changed, None if it has got a layer they lack."""
        made = self._made.get(key)
        if made is None or made.lacking is None:
            return made
        renewed = made.lacking.renewed(self._store)
        return replace(made, lacking=renewed) if renewed else None

    def _tables(
        self, image: "ShownImage", chosen: ImageManifest | None, manifest: Manifest
    ) -> tuple[Sequence[TreeTable], tuple[LeftOut, ...], frozenset[int]]:
        """Return the trees of an image, what its root leaves out, and the numbers of the layers
        that the trees lack or lack a part of.
        """

        def learn(done: Done) -> None:
            self._learning[image.key] = done

        if chosen:
            digest = chosen.descriptor.digest
            root = root_table(self._layers, self._store.tables, digest, manifest, learn)
        else:
            root = table_of(merged_root(self._layers, manifest, learn))
        if image.kind == ROOTFS:
            damaged = frozenset(one.layer for one in root.left_out if not one.path)
            return [root], root.left_out, damaged
        changes = layer_changes(self._layers, manifest)
        read = changes[-1].tables if changes else ()
        damaged = frozenset(
            layer for layer, table in enumerate(read) if table is None or table.damage
        )
        return [table_of(tree) for tree in changes], root.left_out, damaged

    def _keep_tops(
        self, image: "ShownImage", trees: Sequence[ShownTree], extra: Sequence[Mapping[str, bytes]]
    ) -> tuple[Top, ...]:
        tops = []
        for index, shown in enumerate(trees):
            source = image.source(index)
            directory = node_of(source, shown, ROOT)
            assert isinstance(directory, RootDirectory)
            tops.append(Top(directory, extra[index]))
            self._tops.put(source.name, tops[index])
        return tuple(tops)

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
        """Return kept trees, which are used now, as `_current`."""
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
        return self._current(key)

    def _current(self, key: str) -> Made | None:
        """Return kept trees, but not those that lack layers once the store has changed."""
        made = self._made.get(key)
        if made is None or made.lacking is None or made.lacking.is_current(self._store):
            return made
        return None

    def _keep(self, key: str, made: Made) -> None:
        with self._lock:
            if key in self._made:
                self.dropped += 1
            self._made[key] = made
            while len(self._made) > 1 and self._nodes() > _KEPT_NODES:
                self._made.popitem(last=False)
                self.dropped += 1
            self._left_out.pop(key, None)
            if made.left_out:
                self._left_out[key] = made.left_out
                while len(self._left_out) > _KEPT_REPORTS:
                    self._left_out.popitem(last=False)

    def _nodes(self) -> int:
        return sum(made.size for made in self._made.values())


class ShownImage(msgspec.Struct, frozen=True):
    """An image as a view shows it at a path of the mount; `created` is in seconds since the epoch.

    `key` is equal for images with equal trees, unless a layer is damaged or not stored. `lacks` are
    the digests of such layers, so that what shows their trees has another key once they have come.
    """

    roots: Roots
    kind: str
    key: str
    path: str
    target: Descriptor
    created: int
    lacks: tuple[str, ...]

    def as_made(self) -> "ShownImage":
        """Return the image with what its trees lack now; make them, as `Roots.make`."""
        return replace(self, lacks=self.roots.make(self).lacks)

    def make(self) -> Made:
        """Return its trees, as `Roots.make`; raise OSError (ESTALE) if they lack other layers than
        this image does, so that the kernel looks its name up again.
        """
        made = self.roots.make(self)
        if made.lacks != self.lacks:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return made

    def is_made(self) -> bool:
        """Return whether `make` returns at once."""
        made = self.roots.made(self)
        return made is not None and made.lacks == self.lacks

    def source(self, index: int) -> "ImageSource":
        """Return one of its trees."""
        name = ":".join((self.key, *self.lacks, str(index)))
        return ImageSource(self, index, name, TreeKey(f"{self.path}\n{name}"))


class ImageSource(msgspec.Struct, frozen=True):
    """A tree of an image, as a `TreeSource`; `name` is equal for equal trees.

    `key` is another one at each path: Linux allows a directory one name, and moves one that is
    found by another.
    """

    image: ShownImage
    index: int
    name: str
    key: TreeKey

    @property
    def owners(self) -> Owners:
        return self.image.roots.owners

    def get(self) -> ShownTree:
        return self.image.make().trees[self.index]

    def is_made(self) -> bool:
        return self.image.is_made()

    def check_readable(self) -> None:
        """Raise MissingContent if the store lacks the layer, OSError (EIO) if it cannot be read, or
        as `ShownImage.make`.
        """
        made = self.image.make()
        if self.index in made.missing:
            layer = made.trees[self.index].layers[self.index].digest
            raise MissingContent(self.image.target.digest, (layer,))
        if self.index in made.unreadable:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def top(self) -> Top | None:
        """Return the root directory, None if the tree has not been made or that is long ago."""
        return self.image.roots.top(self)


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

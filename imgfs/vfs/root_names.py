"""`rootfs/` and `layers/`: the names of images, with their roots or what their layers hold."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import ClassVar, Final

import msgspec

from engine.errors import MissingContent, NotFound
from engine.filetree.entry_tree import ROOT
from engine.image import RESERVED, TreeEntry
from engine.stores.protocols import Store
from imgfs.vfs.image_paths import placed
from imgfs.vfs.keys import TreeKey
from imgfs.vfs.names import Names, can_be_listed
from imgfs.vfs.newest import Newest
from imgfs.vfs.nodes import (
    FOREVER,
    NEVER,
    READ_ONLY_DIRECTORY,
    Attributes,
    Directory,
    Node,
    ReadOnlyDirectory,
)
from imgfs.vfs.rootfs import ShownTree, child_of, children_of, node_of
from imgfs.vfs.roots import ROOTFS, ImageSource, Roots, ShownImage

UNLISTED: Final = RESERVED - {"import"} | {".imgfs"}
"""The names in the root of a mount that are looked up but not listed."""
_DIGITS: Final = 2


class NamedRoots(msgspec.Struct, frozen=True):
    """The images of a store as `kind`, ROOTFS or LAYERS, shows them; `names` are as in a mount."""

    kind: str
    store: Store
    roots: Roots
    names: Names
    newest: Newest

    def image(self, path: str) -> ShownImage | None:
        """Return the image at a path, or that the path names by a digest."""
        place = placed(self.store, path)
        return self.shown(place) if place else None

    def shown(self, place: TreeEntry) -> ShownImage:
        """Return the image at a place."""
        return self.roots.shown(self.kind, place, place.path)

    def directory(self, image: ShownImage) -> Directory:
        """Return the directory of an image."""
        return ImageRoot(image.source(0)) if self.kind == ROOTFS else LayersDirectory(image)


class RootNames(ReadOnlyDirectory, msgspec.Struct, frozen=True):
    """`rootfs/`, `layers/`, or a namespace in one of them, whose path is `prefix`, which is "" or
    ends with a slash.

    `fixed` are children that are not images.
    """

    named: NamedRoots
    prefix: str
    fixed: Mapping[str, Node] = msgspec.field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{self.named.kind}:names:{self.prefix}"

    @property
    def is_remote(self) -> bool:
        return self.named.store.images.is_remote

    def attributes(self) -> Attributes:
        created = self.named.newest.below(self.prefix[:-1]) if self.prefix else 0
        return Attributes(READ_ONLY_DIRECTORY, mtime=created * 10**9, timeout=0)

    def may_block(self, name: str | None, /) -> bool:
        if name in self.fixed:
            return False
        return self.is_remote or (name is not None and not self._is_made(name))

    def entry_timeout(self, child: Node, /) -> float:
        return FOREVER if any(child is one for one in self.fixed.values()) else NEVER

    def version(self) -> int | None:
        return self.named.store.version()

    def lookup(self, name: str, /) -> Node | None:
        if name in self.fixed:
            return self.fixed[name]
        for meaning in self.named.names.meanings(name):
            path = f"{self.prefix}{meaning}"
            if (image := self.named.image(path)) is not None:
                return self._made(image)
            if self.named.store.images.has_paths(f"{path}/"):
                return RootNames(self.named, f"{path}/")
        return None

    def children(self) -> Iterable[tuple[str, Node]]:
        found: dict[str, Node] = {n: node for n, node in self.fixed.items() if n not in UNLISTED}
        for name, place in self.named.store.images.listed(self.prefix):
            shown = self.named.names.shown(name)
            if place is None or not place.target:
                found[shown] = RootNames(self.named, f"{self.prefix}{name}/")
            else:
                found[shown] = self.named.directory(self.named.shown(place))
        return sorted(item for item in found.items() if can_be_listed(item[0]))

    def _is_made(self, name: str) -> bool:
        """Return whether `lookup` has no tree to make."""
        for meaning in self.named.names.meanings(name):
            if (image := self.named.image(f"{self.prefix}{meaning}")) is not None:
                return self.named.roots.made(image) is not None
        return True

    def _made(self, image: ShownImage) -> Directory | None:
        """Return the directory of an image, with known attributes unless the image lacks layers."""
        try:
            with suppress(MissingContent):  # the directory raises it when it is opened
                image = image.as_made()
        except NotFound:
            return None
        return self.named.directory(image)


class ImageRoot(ReadOnlyDirectory, msgspec.Struct, frozen=True):
    """The root directory of a tree of an image.

    Its attributes are those in the layers once the tree is made, which a listing of names does not
    wait for.
    """

    source: ImageSource
    is_lasting: ClassVar[bool] = True

    @property
    def key(self) -> TreeKey:
        return self.source.key

    def attributes(self) -> Attributes:
        if (found := self.source.top()) is not None:
            return found.directory.attributes()
        created = self.source.image.created
        mtime = created * 10**9
        return Attributes(READ_ONLY_DIRECTORY, mtime=mtime, timeout=0, are_final=False)

    def xattrs(self) -> Mapping[str, bytes]:
        found = self.source.top()
        return found.directory.xattrs() if found else {}

    def xattr(self, name: str) -> bytes | None:
        found = self.source.top()
        if found is None:
            return None
        return found.extra.get(name) or found.directory.xattr(name)

    def may_block(self, _name: str | None, /) -> bool:
        return not self.source.is_made()

    def entry_timeout(self, _child: Node, /) -> float:
        return FOREVER

    def lookup(self, name: str, /) -> Node | None:
        self.source.check_readable()
        return child_of(self.source, ROOT, name)

    def children(self) -> Iterable[tuple[str, Node]]:
        self.source.check_readable()
        return children_of(self.source, ROOT)

    def node(self, number: int) -> Node:
        """Return a node of the tree by its number there; raise IndexError, and as `TreeSource.get`
        does.
        """
        return node_of(self.source, self.source.get(), number)

    def shown(self) -> ShownTree:
        """Return the tree; raise as `lookup` does."""
        self.source.check_readable()
        return self.source.get()


class LayersDirectory(ReadOnlyDirectory, msgspec.Struct, frozen=True):
    """The changes of each layer of an image, lowest first: `00`, `01`, …"""

    image: ShownImage

    @property
    def key(self) -> str:
        return "\n".join((self.image.path, self.image.key, *self.image.lacks))

    def attributes(self) -> Attributes:
        mtime, are_final = self.image.created * 10**9, self.image.is_made()
        return Attributes(READ_ONLY_DIRECTORY, mtime=mtime, are_final=are_final)

    def may_block(self, _name: str | None, /) -> bool:
        return not self.image.is_made()

    def entry_timeout(self, _child: Node, /) -> float:
        return FOREVER

    def lookup(self, name: str, /) -> Node | None:
        return dict(self.children()).get(name)

    def children(self) -> Iterable[tuple[str, Node]]:
        count = len(self.image.make().trees)
        digits = max(_DIGITS, len(str(count - 1)))
        return [(f"{i:0{digits}}", ImageRoot(self.image.source(i))) for i in range(count)]

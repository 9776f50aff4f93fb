"""`additional-layers/`: the tree that containers/storage reads as an *additional layer store*.

A layer is at `BASE64(REFERENCE)/DIGEST/` with `diff`, what it changes in the form of overlayfs;
`info`, what containers/storage records of it; and `blob`, its stored bytes. An image is pulled
without the layers that are found so. containers/storage says that it uses a layer by creating
`use` there, and that it no longer does by removing the layer's directory; a store understands both
if it answers ENOENT. Neither is recorded here: a layer is there as long as its image has the name.
"""

import base64
import errno
import os
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final

import msgspec
from msgspec.structs import replace

from engine.errors import InvalidDigest, InvalidReference
from engine.image import path_of
from engine.layers.diff_ids import compression_of, uncompressed
from engine.spec import reference
from engine.spec.descriptor import Descriptor
from engine.spec.digest import parse
from engine.stores.protocols import Store
from imgfs.vfs.blob_files import BlobFile, BlobSource
from imgfs.vfs.image_paths import placed
from imgfs.vfs.nodes import (
    FOREVER,
    NEVER,
    READ_ONLY_DIRECTORY,
    Attributes,
    BytesFile,
    Node,
    ReadOnlyDirectory,
)
from imgfs.vfs.root_names import ImageRoot
from imgfs.vfs.roots import LAYERS, Roots, ShownImage

ADDITIONAL_LAYERS: Final = "additional-layers"
_USE: Final = "use"
_FILES: Final = ("blob", "diff", "info")
_TOC_DIGESTS: Final = (
    "containerd.io/snapshot/stargz/toc.digest",
    "io.github.containers.zstd-chunked.manifest-checksum",
)
"""The annotations of a layer by whose table of contents containers/storage 1.54 and later know it:
of eStargz and of zstd:chunked.
"""
_COMPRESSIONS: Final = {"none": 0, "gzip": 2, "zstd": 4}
"""The numbers that containers/storage gives to formats."""


class LayerRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """The fields of a layer in containers/storage."""

    compressed_digest: str = msgspec.field(name="compressed-diff-digest")
    compressed_size: int = msgspec.field(name="compressed-size")
    diff_id: str = msgspec.field(name="diff-digest")
    size: int = msgspec.field(name="diff-size")
    compression: int = 0
    toc_digest: str | None = msgspec.field(name="toc-digest", default=None)


class LayerStore(msgspec.Struct, frozen=True):
    """The layers of the images of a store."""

    store: Store
    roots: Roots
    blobs: BlobSource

    def image(self, name: str) -> ShownImage | None:
        """Return the image whose reference is encoded as `name`."""
        try:
            ref = reference.parse_normalized(base64.b64decode(name, validate=True).decode())
        except (InvalidDigest, InvalidReference, ValueError):
            return None
        place = placed(self.store, path_of(str(reference.tag_name_only(ref))))
        return self.roots.shown(LAYERS, place, f"{ADDITIONAL_LAYERS}/{name}") if place else None

    def layer(self, image: ShownImage, digest: str) -> "AdditionalLayer | None":
        """Return the layer of an image with this digest, or this digest of its table of contents;
        raise NotFound.
        """
        for index, layer in enumerate(self.roots.layers(image.target)):
            if digest in (layer.digest, _toc_digest(layer)):
                shown = replace(image, path=f"{image.path}/{digest}")
                return AdditionalLayer(self, shown, index, layer)
        return None

    def info(self, layer: Descriptor) -> bytes:
        """Return what containers/storage records of a layer; raise EngineError or OSError."""
        plain = uncompressed(self.store.content, layer.digest)
        with self.store.content.open_for_parts(layer.digest) as reader:
            compression = _COMPRESSIONS[compression_of(reader)]
        diff_id, toc = str(plain.diff_id), _toc_digest(layer)
        record = LayerRecord(layer.digest, layer.size, diff_id, plain.size, compression, toc)
        return msgspec.json.encode(record)


class AdditionalLayers(ReadOnlyDirectory, msgspec.Struct, frozen=True):
    """`additional-layers/`: the images by their encoded references, which are not listed.

    `fixed` are children that are not images.
    """

    layers: LayerStore
    fixed: Mapping[str, Node] = msgspec.field(default_factory=dict)
    key: ClassVar[str] = ADDITIONAL_LAYERS

    def attributes(self) -> Attributes:
        return Attributes(READ_ONLY_DIRECTORY)

    def may_block(self, name: str | None, /) -> bool:
        is_image = name is not None and name not in self.fixed
        return is_image and self.layers.store.images.is_remote

    def entry_timeout(self, child: Node, /) -> float:
        return FOREVER if any(child is one for one in self.fixed.values()) else NEVER

    def lookup(self, name: str, /) -> Node | None:
        if name in self.fixed:
            return self.fixed[name]
        image = self.layers.image(name)
        return LayersOfImage(self.layers, image) if image else None

    def children(self) -> Iterable[tuple[str, Node]]:
        return ()


class LayersOfImage(ReadOnlyDirectory, msgspec.Struct, frozen=True):
    """The layers of an image by their digests, which are not listed."""

    layers: LayerStore
    image: ShownImage

    @property
    def key(self) -> str:
        return f"{self.image.path}\n{self.image.key}"

    def attributes(self) -> Attributes:
        return Attributes(READ_ONLY_DIRECTORY, mtime=self.image.created * 10**9)

    def may_block(self, _name: str | None, /) -> bool:
        return True

    def lookup(self, name: str, /) -> Node | None:
        return self.layers.layer(self.image, name)

    def children(self) -> Iterable[tuple[str, Node]]:
        return ()

    def rmdir(self, _name: str, _child: Node, /) -> None:
        """Answer that a layer is no longer used."""
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))


class AdditionalLayer(ReadOnlyDirectory, msgspec.Struct, frozen=True):
    """A layer of an image: number `index` in its manifest."""

    layers: LayerStore
    image: ShownImage
    index: int
    layer: Descriptor

    @property
    def key(self) -> str:
        return f"{self.image.path}\n{self.image.key}:{self.index}"

    def attributes(self) -> Attributes:
        return Attributes(READ_ONLY_DIRECTORY, mtime=self.image.created * 10**9)

    def may_block(self, name: str | None, /) -> bool:
        return name != _USE

    def entry_timeout(self, child: Node, /) -> float:
        is_whole = not isinstance(child, ImageRoot) or not child.source.image.lacks
        return FOREVER if is_whole else NEVER

    def lookup(self, name: str, /) -> Node | None:
        match name:
            case "diff":
                source = self.image.as_made().source(self.index)
                source.check_readable()
                return ImageRoot(source)
            case "info":
                return BytesFile(f"{self.key}:info", self.layers.info(self.layer))
            case "blob":
                layer = self.layer
                digest = parse(layer.digest)
                return BlobFile(self.layers.blobs, digest, layer.size, layer.media_type)
        return None

    def children(self) -> Iterable[tuple[str, Node]]:
        found = ((name, self.lookup(name)) for name in _FILES)
        return [(name, node) for name, node in found if node is not None]

    def create(self, name: str, *_: Any) -> Any:
        """Answer that the layer is used, if the name is `use`."""
        if name == _USE:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        self._refuse()


def _toc_digest(layer: Descriptor) -> str | None:
    return next(filter(None, map(layer.annotations.get, _TOC_DIGESTS)), None)

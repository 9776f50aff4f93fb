"""The image of one platform in a commit: the layers of the base, the new layers and the config.

The images of several platforms are created concurrently.
"""

from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import partial

import msgspec
from msgspec.structs import replace

from engine.commit import config as configs
from engine.commit import differ, instructions, overlay
from engine.commit import history as histories
from engine.commit import layer_tar as layer
from engine.commit.block_buffer import BlockBuffer
from engine.commit.change import Change
from engine.commit.epoch import clamp_tree
from engine.commit.history import LayerNote
from engine.commit.image_writer import InvalidSource, PlatformImage, WrittenLayer
from engine.commit.layer_maker import Layer, LayerMaker, LayerSource, fingerprint
from engine.commit.layer_progress import LayerProgress
from engine.commit.source import CommitOptions, PlatformSource, Ref, RootArchive, Step, Upper
from engine.compression.decompress import ArchiveDecompressor
from engine.content.blobs import read_blob
from engine.errors import BrokenArchive, DigestMismatch, printable
from engine.filetree import directory
from engine.filetree.merged import MergedImage
from engine.filetree.tree import EMPTY, Tree
from engine.graph import ImageManifest
from engine.layers.diff_ids import compression_of
from engine.layers.layer import Layers
from engine.spec import go_json, oci, platforms
from engine.spec import media_types as layer_types
from engine.spec.oci import Descriptor, Platform
from engine.stores.protocols import ContentStore

_PIECE = 1 << 20


class Base(msgspec.Struct, frozen=True):
    """The base image of a commit for one platform; `diff_ids` has one for each layer."""

    platform: Platform
    manifest: oci.Manifest
    config: bytes
    diff_ids: tuple[str, ...]


def base_of(content: ContentStore, name: str, image: ImageManifest) -> Base:
    """Return the base for a commit from a stored image of this name; raise InvalidSource if its
    config does not have a diff ID for each layer.
    """
    config = image.manifest.config
    data = read_blob(content, config.digest, config.size)
    found = oci.parse_config(data, config.digest)
    diff_ids, layers = found.rootfs.diff_ids, image.manifest.layers
    if len(diff_ids) != len(layers):
        raise InvalidSource(
            f"image {printable(name)}: expected as many diff IDs as layers ({len(layers)}),"
            f" found {len(diff_ids)}"
        )
    return Base(found.platform, image.manifest, data, diff_ids)


class PlatformImages:
    """The images of one commit; `image` may be called in several threads at a time."""

    def __init__(
        self,
        content: ContentStore,
        layers: Layers,
        maker: LayerMaker,
        options: CommitOptions,
        progress: LayerProgress,
    ) -> None:
        """`layers` are those in `content`."""
        self._content = content
        self._layers = layers
        self._maker = maker
        self._options = options
        self._latest = options.epoch if options.rewrites_times else None
        self._progress = progress

    def image(self, part: PlatformSource, base: Base | None) -> PlatformImage:
        """Return the image of one platform from its base, its new layers and the given config."""
        chosen = part.platform or (base.platform if base else platforms.host())
        config = part.config or (base.config if base else b"") or configs.default_config(chosen)
        configs.check_types(config)
        config = self._changed(config)
        below = self._base_layers(base) if base else []
        above = self._new_layers(part.ref, base) if part.ref else []
        if part.archive:
            above.append(self._archive_layer(part.archive))
        return PlatformImage(
            chosen,
            (*below, *above),
            config,
            configs.history_of(base.config) if base else (),
            part.inline_cache,
            part.statements,
            (histories.empty_entry(self._note(part.step)),) if part.step else (),
        )

    def _new_layers(self, ref: Ref, base: Base | None) -> list[WrittenLayer]:
        """Return the layers of a ref, lowest first."""
        found = []
        below: Tree | None = None
        for part in ref.chain:
            current = directory.scan(part.directory)
            current = self._clamped(current)
            found.append(_written(self._layer(part, current, below, base), self._note(part)))
            below = current
        return found

    def _archive_layer(self, archive: RootArchive) -> WrittenLayer:
        compression = self._options.compression
        write = partial(_add_archive, archive)
        made = self._layer_of(LayerSource(write, self._progress.add, "", compression))
        if damage := self._maker.damage(made.digest):
            raise BrokenArchive("", damage)
        return _written(made, self._note(archive))

    def _note(self, part: Ref | RootArchive | Step) -> LayerNote:
        options = self._options
        return LayerNote(
            part.description or options.note.description,
            part.created,
            options.message or options.note.comment,
            options.author,
        )

    def _layer(self, part: Ref, current: Tree, below: Tree | None, base: Base | None) -> Layer:
        compression = self._options.compression
        settings: tuple[object, ...] = (type(part).__name__, str(compression))
        if isinstance(part, Upper):
            changes = overlay.changes(current)
        elif below is not None:
            settings += (fingerprint(below),)
            changes = differ.diff(below, current)
        elif base is not None:
            settings += tuple(layer.digest for layer in base.manifest.layers)
            if self._latest is not None:
                settings += (self._latest,)
            changes = self._against_base(MergedImage(self._layers, base.manifest), current)
        else:
            changes = differ.diff(EMPTY, current)
        known = fingerprint(current, *settings)
        write = partial(self._write, changes)
        return self._layer_of(LayerSource(write, self._progress.add, known, compression))

    def _clamped(self, tree: Tree) -> Tree:
        """Return the tree with its times clamped, if the options want that."""
        return tree if self._latest is None else clamp_tree(tree, self._latest)

    def _against_base(self, merged: MergedImage, current: Tree) -> Iterator[Change]:
        """Yield the changes from the base, in which the same times are clamped."""
        yield from differ.diff(self._clamped(merged.tree), current)

    def _write(self, changes: Iterable[Change], out: BlockBuffer) -> None:
        listed = list(changes)
        self._progress.expect(layer.size(listed))
        layer.write(listed, out)

    def _base_layers(self, base: Base) -> list[WrittenLayer]:
        return [
            self._base_layer(layer, diff_id)
            for layer, diff_id in zip(base.manifest.layers, base.diff_ids, strict=True)
        ]

    def _base_layer(self, layer: Descriptor, diff_id: str) -> WrittenLayer:
        """Return a layer of the base in the form for this image."""
        options = self._options
        kept = WrittenLayer(layer, diff_id, options.note)
        foreign = oci.is_nondistributable(layer.media_type)
        if foreign and options.keeps_foreign:
            return kept
        if foreign and not self._content.exists(layer.digest):
            raise InvalidSource(
                f"layer {layer.digest} of the base image may not be distributed, and the store does"
                " not hold it: it can only be kept as it is (prefer-nondist-layers)"
            )
        with self._content.open(layer.digest) as reader:
            compression = compression_of(reader)
        stored = "uncompressed" if compression == "none" else compression
        if options.recompresses_base and stored != options.compression.kind:
            return _written(self._recompressed(layer, diff_id), options.note)
        media_type = layer_types.distributable(layer.media_type)
        if not media_type or oci.layer_compression(media_type) == "unknown":
            media_type = layer_types.compressed(compression)
        urls = () if foreign else layer.urls
        return replace(kept, descriptor=replace(layer, media_type=media_type, urls=urls))

    def _recompressed(self, layer: Descriptor, diff_id: str) -> Layer:
        compression = self._options.compression
        known = f"{diff_id} {compression}"
        with (
            self._content.open(layer.digest) as reader,
            closing(self._layers.whole(layer.digest, reader)) as pieces,
        ):
            try:
                write = partial(_add_all, pieces)
                made = self._layer_of(LayerSource(write, self._progress.add, known, compression))
            except BrokenArchive as error:
                raise BrokenArchive(f"layer {layer.digest}", error.reason) from error
        if made.diff_id != diff_id:
            raise DigestMismatch(f"layer {layer.digest}, uncompressed", diff_id, made.diff_id)
        return made

    def _layer_of(self, source: LayerSource) -> Layer:
        made = self._maker.make(source)
        self._progress.made()
        return made

    def _changed(self, config: bytes) -> bytes:
        """Return the config with the instructions, author and time of the options applied."""
        options = self._options
        members = configs.members(config)
        if options.instructions:
            changed = instructions.applied(configs.process(config), *options.instructions)
            members["config"] = msgspec.Raw(go_json.dumps(changed))
        if options.author:
            members["author"] = msgspec.Raw(go_json.dumps(options.author))
        if options.created:
            members["created"] = msgspec.Raw(go_json.dumps(options.created))
        return go_json.dumps(members)


def _written(layer: Layer, note: LayerNote) -> WrittenLayer:
    media_type = layer.compression.media_type
    return WrittenLayer(Descriptor(media_type, layer.digest, layer.size), layer.diff_id, note)


def _add_all(pieces: Iterable[bytes], out: BlockBuffer) -> None:
    for piece in pieces:
        out.add(piece)


def _add_archive(archive: RootArchive, out: BlockBuffer) -> None:
    outer = ArchiveDecompressor()
    while piece := archive.read(_PIECE):
        for plain in outer.feed(piece):
            out.add(plain)
    if outer.undecided or not outer.name:
        raise BrokenArchive("", "is not a tar archive")
    outer.finish()

"""A commit: from directories to an image in the store, visible at once and whole.

As BuildKit's exporter to an image store: layers are made side by side, then config and manifest,
then the image and all its names in one transaction. What fails leaves the store as it was.
"""

import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import msgspec

from engine import go_json, oci, platforms, reference, walk
from engine.commit import config as configs
from engine.commit import differ, image_writer, instructions, overlay
from engine.commit.changes import Change
from engine.commit.document import Document
from engine.commit.history import DESCRIPTION, LayerNote
from engine.commit.image_writer import (
    InvalidSource,
    PlatformImage,
    WriterOptions,
    Written,
    WrittenLayer,
)
from engine.commit.layers import Layer, LayerMaker, LayerSource, fingerprint
from engine.commit.refs import CommitOptions, Ref, Source, Upper
from engine.content import read_blob
from engine.content.local import LocalStore, LocalWriter
from engine.database import Database
from engine.digest import Digest
from engine.errors import InvalidReference
from engine.filetree import directory
from engine.filetree.merged import MergedImage
from engine.filetree.tree import EMPTY, Tree
from engine.images import Image, ImageStore
from engine.leases import Leases
from engine.oci import Descriptor, Platform

Progress = Callable[[str], None]
"""Hears of each step as it begins: "exporting layers", "writing image sha256:…"."""


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit made; `config` is the image ID."""

    target: Descriptor
    config: str
    names: tuple[str, ...]

    def metadata(self) -> dict[str, object]:
        """What build tools expect to be told; `containerimage.digest` is the target's, as where
        docker keeps its images in containerd.
        """
        return {
            "containerimage.config.digest": self.config,
            "containerimage.descriptor": json.loads(go_json.dumps(self.target)),
            "containerimage.digest": self.target.digest,
            "image.name": ",".join(self.names),
        }


@dataclass(frozen=True, slots=True)
class Parts:
    """What a commit needs of an engine."""

    database: Database
    content: LocalStore
    images: ImageStore
    leases: Leases


@dataclass(frozen=True, slots=True)
class Base:
    """The image that a commit stands on, for one platform."""

    platform: Platform
    manifest: oci.Manifest
    config: bytes


def parse_names(text: str) -> tuple[str, ...]:
    """Names, comma-separated, in full; InvalidReference."""
    names = []
    for name in filter(None, text.split(",")):
        ref = reference.tag_name_only(reference.parse_normalized(name))
        if ref.digest is not None:
            raise InvalidReference(name, "digest", "an image that is made cannot choose its digest")
        names.append(str(ref))
    return tuple(dict.fromkeys(names))


def commit(
    parts: Parts,
    bases: Sequence[Base | None],
    source: Source,
    names: Sequence[str],
    options: CommitOptions,
    progress: Progress,
) -> Committed:
    """Make the image; `bases` has what each of the source's refs stands on.

    InvalidSource, InvalidConfig, InvalidInstruction, ChangedFile, OSError.
    """
    _check(source)
    with ExitStack() as stack:
        lease = stack.enter_context(parts.leases.hold())
        hold = partial(parts.leases.add, lease.id)
        session = f"commit-{secrets.token_hex(8)}"
        maker = LayerMaker(parts.content, session, hold)
        stack.callback(maker.discard)
        for base in filter(None, bases):
            for descriptor in (base.manifest.config, *base.manifest.layers):
                hold(Digest(descriptor.digest))
        progress("exporting layers")
        work = _Commit(parts.content, maker, source, options)
        with ThreadPoolExecutor(len(source.refs)) as pool:
            refs = [ref for _, ref in source.refs]
            layers = list(pool.map(work.layers, refs, bases))
        images = [
            work.image(platform, ref, base, found)
            for (platform, ref), base, found in zip(source.refs, bases, layers, strict=True)
        ]
        written = image_writer.write(
            images,
            WriterOptions(
                options.is_oci, options.keep_empty_layers, options.epoch, options.annotations
            ),
        )
        progress(f"writing image {written.target.digest}")
        writers = maker.writers()
        for number, document in enumerate(written.documents):
            writer = _store(parts.content, f"{session}-document-{number}", document)
            stack.callback(writer.abort)
            writers.append((writer, dict(document.labels)))
        _publish(parts, written, writers, names)
        for name in names:
            progress(f"naming to {name}")
    return Committed(written.target, written.config, tuple(names))


def _check(source: Source) -> None:
    if not source.refs:
        raise InvalidSource("an image needs at least one directory")
    chosen = [platform for platform, _ in source.refs]
    if len(chosen) > 1 and None in chosen:
        raise InvalidSource("unable to export multiple refs, missing platforms mapping")
    if len(chosen) > 1 and source.config:
        raise InvalidSource("one config does not fit several platforms")
    known = [platforms.format_all(platform) for platform in chosen if platform]
    if len(set(known)) < len(known):
        raise InvalidSource(f"a platform is given twice: {', '.join(known)}")


class _Commit:
    """What the refs of one commit share."""

    def __init__(
        self, content: LocalStore, maker: LayerMaker, source: Source, options: CommitOptions
    ) -> None:
        self._content = content
        self._maker = maker
        self._source = source
        self._options = options

    def layers(self, ref: Ref, base: Base | None) -> list[Layer]:
        """The new layers of a ref, the lowest first."""
        made = []
        below: Tree | None = None
        for part in ref.chain:
            current = directory.scan(part.directory)
            made.append(self._layer(part, current, below, base))
            below = current
        return made

    def _layer(self, part: Ref, current: Tree, below: Tree | None, base: Base | None) -> Layer:
        options = self._options
        clamp = options.epoch if options.rewrites_times else None
        compression = options.compression
        settings: tuple[object, ...] = (type(part).__name__, str(compression), clamp)
        if isinstance(part, Upper):
            changes = overlay.changes(current)
        elif below is not None:
            settings += (fingerprint(below),)
            changes = differ.diff(below, current)
        elif base is not None:
            settings += tuple(layer.digest for layer in base.manifest.layers)
            changes = _against_base(MergedImage(self._content, base.manifest), current)
        else:
            changes = differ.diff(EMPTY, current)
        return self._maker.make(
            LayerSource(changes, fingerprint(current, *settings), compression, clamp)
        )

    def image(
        self, platform: Platform | None, ref: Ref, base: Base | None, made: Sequence[Layer]
    ) -> PlatformImage:
        """The image of one platform, from its base, its new layers and the wanted config."""
        options = self._options
        chosen = platform or (base.platform if base else platforms.host())
        config = self._source.config or (base.config if base else b"")
        config = config or configs.default_config(chosen)
        base_history = configs.history_of(base.config) if base else ()
        below = _base_layers(base)
        layers = [
            WrittenLayer(
                Descriptor(layer.compression.media_type(options.is_oci), layer.digest, layer.size),
                layer.diff_id,
                LayerNote(part.description or options.message or DESCRIPTION, part.created),
            )
            for part, layer in zip(ref.chain, made, strict=True)
        ]
        return PlatformImage(chosen, (*below, *layers), self._changed(config), base_history)

    def _changed(self, config: bytes) -> bytes:
        """The config with the instructions applied, and its author and time."""
        options = self._options
        members = configs.members(config)
        if options.instructions:
            process = msgspec.json.decode(members.get("config", b"{}")) or {}
            for text in options.instructions:
                process = instructions.applied(process, text)
            members["config"] = msgspec.Raw(go_json.dumps(process))
        if options.author:
            members["author"] = msgspec.Raw(go_json.dumps(options.author))
        if options.created:
            members["created"] = msgspec.Raw(go_json.dumps(options.created))
        return go_json.dumps(members)


def _against_base(merged: MergedImage, current: Tree) -> Iterator[Change]:
    yield from differ.diff(merged.tree, current)


def _base_layers(base: Base | None) -> tuple[WrittenLayer, ...]:
    if base is None:
        return ()
    diff_ids = oci.parse_config(base.config, base.manifest.config.digest).rootfs.diff_ids
    return tuple(
        WrittenLayer(layer, diff_id, LayerNote())
        for layer, diff_id in zip(base.manifest.layers, diff_ids, strict=True)
    )


def _store(content: LocalStore, ref: str, document: Document) -> LocalWriter:
    writer = content.writer(ref, document.descriptor.size, document.descriptor.digest)
    try:
        writer.write(document.data)
    except BaseException:
        writer.abort()
        raise
    return writer


def _publish(
    parts: Parts,
    written: Written,
    writers: Sequence[tuple[LocalWriter, dict[str, str]]],
    names: Sequence[str],
) -> None:
    parts.content.prepare(writer for writer, _ in writers)
    target = msgspec.structs.replace(written.target, annotations={})
    with parts.database.transaction():
        parts.content.publish(writers)
        parts.images.record(target.digest, walk.summarize(walk.graph(parts.content, target)))
        for name in names:
            parts.images.put(Image(name, target))
        if not parts.images.is_named(target.digest):
            parts.images.put(Image(target.digest, target))


def base_of(content: LocalStore, image: walk.ImageManifest) -> Base:
    """What a commit needs of a stored image."""
    config = image.manifest.config
    data = read_blob(content, config.digest, config.size)
    found = oci.parse_config(data, config.digest).platform
    return Base(found, image.manifest, data)

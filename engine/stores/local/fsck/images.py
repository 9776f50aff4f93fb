"""Check of every image against its records, and of its completeness."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final

from engine.allocation import keep_freed_memory
from engine.content.blobs import read_blob
from engine.errors import BrokenArchive, EngineError, NotFound, counted
from engine.graph import (
    ArtifactManifest,
    Graph,
    ImageManifest,
    children,
    children_of,
    gc_labels,
    graph,
    summarize,
)
from engine.hashing.threads import HashingThreads
from engine.hashing.updates import Hashing, hash_now
from engine.layers.diff_ids import UNCOMPRESSED_LABEL, compression_of, measure
from engine.limits import BUFFER_SIZE
from engine.spec import media_types as layer_types
from engine.spec import oci
from engine.spec.digest import parse
from engine.spec.oci import Descriptor
from engine.stores.local.fsck.problem import Kind, Problem, Unverified, shown_name
from engine.stores.local.fsck.tables import wrong_points

if TYPE_CHECKING:
    from engine.stores.local.store import LocalStore

_IMAGES_AHEAD: Final = 16
"""The number of images whose layers are decompressed before their turn."""


class ImageCheck:
    """The check of every target that an image has."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store

    def images(self) -> Iterator[Problem]:
        """Yield the problems of graphs, of their records, and of the labels that protect them."""
        check = self._cached if self._store.is_cache else self._image
        for target in self._targets():
            if list(check(target)):
                with self._store.database.transaction():
                    is_named = self._store.images.is_named(target.digest)
                    problems = list(check(target)) if is_named else []
                yield from problems

    def layers(self) -> Iterator[Problem]:
        """Yield the layers that differ from the diff IDs in configs and labels.

        As many are decompressed at once as there are cores, also those of the next images.
        """
        keep_freed_memory(4 * BUFFER_SIZE)
        with closing(HashingThreads(len(os.sched_getaffinity(0)))) as threads:
            diff_ids = _DiffIds(self._store, threads)
            coming: deque[tuple[Descriptor, ImageManifest]] = deque()
            for one in self._complete():
                diff_ids.begin(_comparable(self._store, one[1]))
                coming.append(one)
                if len(coming) > _IMAGES_AHEAD:
                    yield from self._layers(*coming.popleft(), diff_ids)
            while coming:
                yield from self._layers(*coming.popleft(), diff_ids)

    def unverified(self) -> Iterator[Unverified]:
        """Yield the layers that cannot be compared with their diff IDs, once for each reason."""
        found: dict[tuple[str, str], set[str]] = {}
        for target, image in self._complete():
            for layer in image.manifest.layers:
                if reason := layer_types.unreadable(layer.media_type):
                    names = found.setdefault((layer.digest, reason), set())
                    names.update(self._names(target))
        for (digest, reason), names in found.items():
            yield Unverified(digest, reason, tuple(sorted(names)))

    def _complete(self) -> Iterator[tuple[Descriptor, ImageManifest]]:
        """Yield the complete images of every target whose graph can be read."""
        for target in self._targets():
            with suppress(EngineError, OSError):  # `images` reports these
                yield from (
                    (target, image) for image in graph(self._store.content, target).complete_images
                )

    def _layers(
        self, target: Descriptor, image: ImageManifest, diff_ids: _DiffIds
    ) -> Iterator[Problem]:
        with suppress(EngineError, OSError):  # `images` reports these
            names = self._names(target)
            wanted = image.config.rootfs.diff_ids if image.config else ()
            layers = image.manifest.layers
            if image.needs_diff_ids and len(wanted) != len(layers):
                layers_said = counted(len(wanted), "layer")
                text = f"expected {layers_said}, as its config says, found {len(layers)}"
                yield Problem(Kind.LAYER, image.descriptor.digest, text, names)
            for layer, diff_id in _comparable(self._store, image):
                found, is_new = diff_ids.take(layer.digest, parse(diff_id).algorithm)
                if is_new:
                    yield from self._label(layer.digest, found, names)
                if found != diff_id:
                    text = f"unexpected diff ID: expected {diff_id}, found {found}"
                    yield Problem(Kind.LAYER, layer.digest, text, names)
                elif is_new and (reason := wrong_points(self._store, layer.digest)):
                    yield Problem(Kind.TABLE, layer.digest, reason, names)

    def _label(self, digest: str, found: str, names: tuple[str, ...]) -> Iterator[Problem]:
        label = self._store.content.info(digest).labels.get(UNCOMPRESSED_LABEL, found)
        if label != found and label.partition(":")[0] == found.partition(":")[0]:
            text = f"{UNCOMPRESSED_LABEL}: expected {found}, found {label}"
            yield Problem(Kind.LABEL, digest, text, names, {UNCOMPRESSED_LABEL: found})

    def _image(self, target: Descriptor) -> Iterator[Problem]:
        names = self._names(target)
        try:
            found = graph(self._store.content, target)
            references = list(self._references(found, names))
        except (EngineError, OSError) as error:
            yield Problem(Kind.IMAGE, target.digest, str(error), names)
            return
        summary = summarize(found)
        images = self._store.images
        try:
            recorded = images.summary(target.digest), images.target(target.digest).revision
        except NotFound:
            recorded = None
        if recorded != (summary, summary.revision):
            text = "what is recorded of it is not what there is"
            yield Problem(Kind.RECORD, target.digest, text, names)
        if not found.is_usable:
            lacking = [blob.digest for blob in found.missing]
            text = f"none of it is complete; missing: {', '.join(lacking) or 'everything'}"
            yield Problem(Kind.IMAGE, target.digest, text, names)
        yield from references

    def _cached(self, target: Descriptor) -> Iterator[Problem]:
        """Yield the problems of an image in the cache of a registry: a wrong record, unless the
        registry alone has a part of it. Nothing has to protect what can be fetched again.
        """
        problems = [one for one in self._image(target) if one.kind is Kind.RECORD]
        if problems and not graph(self._store.content, target).missing:
            yield from problems

    def _references(self, found: Graph, names: tuple[str, ...]) -> Iterator[Problem]:
        """Yield the documents of a graph whose labels do not protect their children."""
        content = self._store.content
        read: tuple[ImageManifest | ArtifactManifest, ...] = (*found.images, *found.artifacts)
        parsed = {one.descriptor.digest: one.manifest for one in read}
        for blob in found.blobs:
            if not oci.is_document_type(blob.media_type):
                continue
            if manifest := parsed.get(blob.digest):
                below = children_of(manifest)
            else:
                below = children(read_blob(content, blob.digest, blob.size), blob)
            expected: Mapping[str, str] = gc_labels(below)
            labels = content.info(blob.digest).labels
            wrong = {key: value for key, value in expected.items() if labels.get(key) != value}
            for key, value in list(wrong.items())[:1]:
                text = f"{key}: expected {value}, found {labels.get(key, 'none')}"
                yield Problem(Kind.LABEL, blob.digest, text, names, wrong)

    def _targets(self) -> Iterator[Descriptor]:
        rows = self._store.database.read("SELECT DISTINCT digest FROM images ORDER BY digest")
        for (digest,) in rows:
            if named := self._store.images.names_of(digest):
                yield named[0].target

    def _names(self, target: Descriptor) -> tuple[str, ...]:
        return tuple(shown_name(image) for image in self._store.images.names_of(target.digest))


class _DiffIds:
    """The diff IDs of layers, which several threads compute ahead; for one thread at a time."""

    def __init__(self, store: LocalStore, threads: HashingThreads) -> None:
        self._store = store
        self._threads = threads
        self._begun: dict[tuple[str, str], Callable[[], str]] = {}
        self._known: dict[tuple[str, str], str] = {}

    def begin(self, layers: Iterable[tuple[Descriptor, str]]) -> None:
        """Begin with the layers of an image, the largest first, which take longest."""
        with suppress(EngineError):  # it is raised when the diff ID is asked for
            for layer, diff_id in sorted(layers, key=lambda one: one[0].size, reverse=True):
                key = layer.digest, parse(diff_id).algorithm
                if key not in self._known and key not in self._begun:
                    self._begun[key] = self._threads.submit(self._compute(*key), layer.size)

    def take(self, digest: str, algorithm: str) -> tuple[str, bool]:
        """Return the diff ID, or the error that prevents its computation, and whether it is asked
        for the first time.
        """
        key = digest, algorithm
        if key in self._known:
            return self._known[key], False
        begun = self._begun.pop(key, None)
        self._known[key] = begun() if begun else hash_now(self._compute(*key))
        return self._known[key], True

    def _compute(self, digest: str, algorithm: str) -> Hashing[str]:
        try:
            with self._store.content.open(digest) as reader:
                if compression_of(reader) == "none":
                    return digest
                found = yield from measure(reader, digest, algorithm)
                return found.diff_id
        except (BrokenArchive, OSError) as error:
            return str(error)


def _comparable(store: LocalStore, image: ImageManifest) -> Iterator[tuple[Descriptor, str]]:
    """Yield the layers that can be compared with their diff IDs."""
    wanted = image.config.rootfs.diff_ids if image.config else ()
    for layer, diff_id in zip(image.manifest.layers, wanted, strict=False):
        if layer_types.unreadable(layer.media_type):
            continue
        if store.content.exists(layer.digest):
            yield layer, diff_id  # others are absent legitimately, or reported by `images`

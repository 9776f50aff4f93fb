"""The graph below a descriptor: the blobs that are present or missing, the images and the
artifacts.

The order is that of containerd: the config of a manifest before its layers, the manifests of an
index in its order. An incomplete child manifest contributes its own blob but not its children; a
non-distributable layer is never missing. All functions only read, from any thread.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol

import msgspec

from engine.content.blobs import DOCUMENT_LIMIT, read_blob
from engine.content.protocols import ReaderAt
from engine.errors import DigestMismatch, InvalidDocument, LimitExceeded, SizeMismatch
from engine.image import ManifestSummary, Summary
from engine.spec import artifacts, oci, platforms
from engine.spec.digest import Digest
from engine.spec.oci import Descriptor, ImageConfig, Manifest, Platform

Read = Callable[[], bytes]

MAX_DEPTH = 16
MAX_DESCRIPTORS = 1_000_000
MAX_SIZE = (1 << 63) - 1
"""Bytes of all blobs together, which a database has to take."""


class Blobs(Protocol):
    """The part of a content store that a walk needs."""

    def open(self, digest: str) -> ReaderAt: ...

    def sizes(self, digests: Iterable[str]) -> Mapping[str, int]: ...


class ImageManifest(msgspec.Struct, frozen=True):
    """The manifest of an image; `missing` are its absent children."""

    descriptor: Descriptor
    manifest: Manifest
    config: ImageConfig | None
    missing: tuple[Descriptor, ...]

    @property
    def platform(self) -> Platform | None:
        """The platform stated by the index, else by the config."""
        if self.descriptor.platform is not None:
            return self.descriptor.platform
        if self.config is None or not (self.config.os or self.config.architecture):
            return None
        return self.config.platform

    @property
    def needs_diff_ids(self) -> bool:
        """Whether the config must have a diff ID for each layer."""
        if self.config is None:
            return False
        return bool(self.config.rootfs.diff_ids or (self.manifest.layers and self.config.os))


class ArtifactManifest(msgspec.Struct, frozen=True):
    """The manifest of an artifact, that is, of anything but an image."""

    descriptor: Descriptor
    manifest: Manifest

    @property
    def artifact_type(self) -> str:
        """The type by the OCI specification, else that of the config, else of the first layer."""
        config = self.manifest.config.media_type
        if not (oci.is_config_type(config) or config == oci.EMPTY):
            return self.manifest.artifact_type or config
        layers = (layer.media_type for layer in self.manifest.layers)
        return self.manifest.artifact_type or next(layers, config)


class Graph(msgspec.Struct, frozen=True):
    """The blobs and manifests below `root`.

    `blobs` are present, parents first and each once; `missing` are absent. `artifacts` are complete
    manifests of anything but images; an attestation is included only if it is `root`.
    """

    root: Descriptor
    blobs: tuple[Descriptor, ...]
    missing: tuple[Descriptor, ...]
    images: tuple[ImageManifest, ...]
    artifacts: tuple[ArtifactManifest, ...]

    @property
    def has_content(self) -> bool:
        """Whether there is a complete image or artifact."""
        return bool(self.complete_images or self.artifacts)

    @property
    def is_artifact(self) -> bool:
        """Whether the graph is usable and holds no image, complete or not."""
        return self.is_usable and not self.images

    @property
    def artifact_type(self) -> str:
        """The type of the first artifact, "" if there is none."""
        return self.artifacts[0].artifact_type if self.artifacts else ""

    @property
    def is_usable(self) -> bool:
        """Whether an image is complete; without images, whether there is an artifact or nothing is
        missing.

        The last applies to an attestation, a build cache and an empty index.
        """
        if self.images:
            return bool(self.complete_images)
        return bool(self.artifacts) or not self.missing

    @property
    def complete_images(self) -> tuple[ImageManifest, ...]:
        return tuple(image for image in self.images if not image.missing)

    @property
    def missing_platforms(self) -> tuple[str, ...]:
        """The known platforms of the images that are incomplete."""
        partly = (image.platform for image in self.images if image.missing)
        texts = map(_platform_text, (*(blob.platform for blob in self.missing), *partly))
        return tuple(dict.fromkeys(filter(None, texts)))

    def best(self, matcher: platforms.Matcher) -> ImageManifest | None:
        """Return the complete image that matches the platform best, or None."""
        return platforms.best(self.complete_images, matcher, lambda image: image.platform)


class Documents:
    """The documents that walks have read, each read once and kept whole.

    `read` returns the bytes of a document. A subclass may keep less. For one thread at a time.
    """

    def __init__(self) -> None:
        self._indexes: dict[tuple[str, str], tuple[Descriptor, ...]] = {}
        self._manifests: dict[tuple[str, str], Manifest] = {}
        self._configs: dict[str, ImageConfig | None] = {}

    def note(self, size: int) -> None:
        """Note that a document of so many bytes is read; raise LimitExceeded."""

    def entries(self, descriptor: Descriptor, read: Read) -> tuple[Descriptor, ...]:
        """Return the descriptors in an index; raise as `children` does."""
        key = descriptor.digest, descriptor.media_type
        if key not in self._indexes:
            self._indexes[key] = self.kept_entries(children(read(), descriptor))
        return self._indexes[key]

    def manifest(self, descriptor: Descriptor, read: Read) -> Manifest:
        """Return a manifest; raise InvalidDocument."""
        key = descriptor.digest, descriptor.media_type
        if key not in self._manifests:
            self._manifests[key] = self.kept_manifest(_manifest(read(), descriptor))
        return self._manifests[key]

    def config(self, digest: str, subject: str, read: Read) -> ImageConfig:
        """Return the config with a digest; raise InvalidDocument, which names `subject`."""
        found = self._configs.get(digest)
        if found is None:
            found = self.kept_config(oci.parse_config(read(), subject))
            self._configs[digest] = found
        return found

    def config_or_none(self, digest: str, subject: str, read: Read) -> ImageConfig | None:
        """Return the config with a digest, None if the document is no config."""
        if digest not in self._configs:
            data, found = read(), None
            with suppress(InvalidDocument, LimitExceeded):
                found = oci.parse_config(data, subject)
            self._configs[digest] = found and self.kept_config(found)
        return self._configs[digest]

    def kept_entries(self, found: tuple[Descriptor, ...]) -> tuple[Descriptor, ...]:
        """Return what is kept of the descriptors in an index; raise LimitExceeded."""
        return found

    def kept_manifest(self, found: Manifest) -> Manifest:
        """Return what is kept of a manifest; raise LimitExceeded."""
        return found

    def kept_config(self, found: ImageConfig) -> ImageConfig:
        """Return what is kept of a config; raise LimitExceeded."""
        return found


def children(data: bytes, descriptor: Descriptor) -> tuple[Descriptor, ...]:
    """Return the descriptors in a document, in containerd's order.

    The result is empty for a layer, a config or an unknown type. Raise InvalidDocument if the
    document does not match its media type.
    """
    if oci.is_manifest_type(descriptor.media_type):
        return children_of(_manifest(data, descriptor))
    if oci.is_index_type(descriptor.media_type):
        subject = _subject(descriptor)
        oci.validate_media_type(data, descriptor.media_type, subject)
        return tuple(oci.parse_index(data, subject).manifests)
    return ()


def children_of(manifest: Manifest) -> tuple[Descriptor, ...]:
    """Return the descriptors in a manifest, in containerd's order."""
    return (manifest.config, *manifest.layers)


def gc_labels(refs: Sequence[Descriptor]) -> dict[str, str]:
    """Return the labels of a manifest or index that protect its children from collection."""
    return {f"containerd.io/gc.ref.content.{i}": child.digest for i, child in enumerate(refs)}


def graph(
    blobs: Blobs,
    root: Descriptor,
    matcher: platforms.Matcher = platforms.ALL,
    documents: Documents | None = None,
) -> Graph:
    """Return the graph below `root`, with the manifests of an index that match, read by
    `documents`.

    Raise SizeMismatch if the size of a blob differs from its descriptor, InvalidDocument, or
    LimitExceeded.
    """
    return _Walk(blobs, matcher, documents or Documents()).run(root)


def summarize(found: Graph) -> Summary:
    """Return the summary of a graph for the image store.

    Its manifests are the complete images, else the artifacts, else the whole graph as one.
    """
    created = next(
        filter(None, (oci.image_created(i.config) for i in found.complete_images if i.config)), 0
    )
    return Summary(
        created,
        tuple(sorted(blob.digest for blob in found.blobs)),
        tuple(
            ManifestSummary(
                image.descriptor.digest,
                image.manifest.config.digest,
                _platform_text(image.platform),
                _size(image),
            )
            for image in found.complete_images
        )
        or _other_summaries(found),
        tuple(sorted(blob.digest for blob in found.missing)),
    )


def _other_summaries(found: Graph) -> tuple[ManifestSummary, ...]:
    artifacts = tuple(
        ManifestSummary(artifact.descriptor.digest, "", "", _size(artifact))
        for artifact in found.artifacts
    )
    if artifacts or not found.is_usable:
        return artifacts
    return (ManifestSummary(found.root.digest, "", "", _total(found.blobs)),)


def _size(found: ImageManifest | ArtifactManifest) -> int:
    return _total((found.descriptor, *children_of(found.manifest)))


def _total(blobs: Iterable[Descriptor]) -> int:
    return sum(blob.size for blob in blobs)


def _check_size(root: Descriptor, blobs: Iterable[Descriptor]) -> None:
    """Raise LimitExceeded if blobs of `root` are, by what is stated, larger than any store."""
    size = _total(blobs)
    if size > MAX_SIZE:
        raise LimitExceeded(_subject(root), "size in bytes", MAX_SIZE, size)


def _platform_text(platform: Platform | None) -> str:
    """Return a platform as text; "" for None and for unknown/unknown."""
    if platform is None or (platform.os, platform.architecture) == ("unknown", "unknown"):
        return ""
    return platforms.format_all(platform)


class _Walk:
    """One walk of a graph: depth first, without recursion, since the input decides the depth."""

    def __init__(self, blobs: Blobs, matcher: platforms.Matcher, documents: Documents) -> None:
        self._blobs = blobs
        self._matcher = matcher
        self._documents = documents
        self._present: dict[str, Descriptor] = {}
        self._missing: dict[str, Descriptor] = {}
        self._images: list[ImageManifest] = []
        self._artifacts: list[ArtifactManifest] = []
        self._visited: set[str] = set()
        """The digests of manifests and indexes that have been read as such: a blob may be present
        as the child of a manifest before.
        """

    def run(self, root: Descriptor) -> Graph:
        stack = [(root, 0)]
        while stack:
            descriptor, depth = stack.pop()
            if descriptor.digest in self._visited or not self._has(descriptor):
                continue
            below = self._visit(descriptor, root)
            if below and depth >= MAX_DEPTH:
                raise LimitExceeded(descriptor.digest, "nested indexes", MAX_DEPTH, depth + 1)
            if len(self._present) + len(stack) + len(below) > MAX_DESCRIPTORS:
                raise LimitExceeded(
                    root.digest, "descriptors below it", MAX_DESCRIPTORS, MAX_DESCRIPTORS + 1
                )
            stack.extend((child, depth + 1) for child in reversed(below))
        _check_size(root, self._present.values())
        return Graph(
            root,
            tuple(self._present.values()),
            tuple(self._missing.values()),
            tuple(self._images),
            tuple(self._artifacts),
        )

    def _visit(self, descriptor: Descriptor, root: Descriptor) -> list[Descriptor]:
        if not oci.is_document_type(descriptor.media_type):
            self._present.setdefault(descriptor.digest, descriptor)
            return []
        self._visited.add(descriptor.digest)
        self._present[descriptor.digest] = descriptor
        if oci.is_index_type(descriptor.media_type):
            manifests = self._documents.entries(descriptor, partial(self._read, descriptor))
            return [m for m in manifests if m.platform is None or self._matcher.matches(m.platform)]
        self._visit_manifest(descriptor, descriptor is root)
        return []

    def _visit_manifest(self, descriptor: Descriptor, is_root: bool) -> None:
        manifest = self._documents.manifest(descriptor, partial(self._read, descriptor))
        refs = children_of(manifest)
        _check_size(descriptor, (descriptor, *refs))
        absent = {ref.digest for ref in refs if not self._has(ref)}
        missing = tuple(ref for ref in refs if ref.digest in absent and not _may_be_absent(ref))
        if not missing:
            for ref in refs:
                if ref.digest not in absent:
                    self._present.setdefault(ref.digest, ref)
        is_attestation = oci.is_attestation(descriptor)
        if is_attestation and not is_root:
            return
        config = None if manifest.config.digest in absent else self._config(manifest.config)
        if not is_attestation and artifacts.is_image(manifest, config):
            self._images.append(ImageManifest(descriptor, manifest, config, missing))
        elif not missing:
            self._artifacts.append(ArtifactManifest(descriptor, manifest))

    def _config(self, descriptor: Descriptor) -> ImageConfig | None:
        """Return the image config; None for another document whose media type is not a config's."""
        digest, subject = descriptor.digest, f"config {descriptor.digest}"
        read = partial(self._read, descriptor)
        if oci.is_config_type(descriptor.media_type):
            return self._documents.config(digest, subject, read)
        if descriptor.size > DOCUMENT_LIMIT:
            return None
        return self._documents.config_or_none(digest, subject, read)

    def _has(self, descriptor: Descriptor) -> bool:
        try:
            size = self._blobs.sizes([descriptor.digest]).get(descriptor.digest)
        except DigestMismatch as error:
            if error.size is None or error.size <= descriptor.size:
                raise
            raise SizeMismatch(error.subject, descriptor.size, error.size) from error
        if size is None:
            if not _may_be_absent(descriptor):
                self._missing[descriptor.digest] = descriptor
            return False
        if size != descriptor.size:
            raise SizeMismatch(_subject(descriptor), descriptor.size, size)
        return True

    def _read(self, descriptor: Descriptor) -> bytes:
        blob, size = Digest(descriptor.digest), descriptor.size
        self._documents.note(size)
        return read_blob(self._blobs, blob, size, subject=_subject(descriptor))


def _manifest(data: bytes, descriptor: Descriptor) -> Manifest:
    subject = _subject(descriptor)
    oci.validate_media_type(data, descriptor.media_type, subject)
    return oci.parse_manifest(data, subject)


def _subject(descriptor: Descriptor) -> str:
    return f"{_noun(descriptor)} {descriptor.digest}"


def _may_be_absent(descriptor: Descriptor) -> bool:
    return oci.is_nondistributable(descriptor.media_type)


def _noun(descriptor: Descriptor) -> str:
    for noun, belongs in (
        ("manifest", oci.is_manifest_type),
        ("index", oci.is_index_type),
        ("config", oci.is_config_type),
        ("layer", oci.is_layer_type),
    ):
        if belongs(descriptor.media_type):
            return noun
    return "blob"

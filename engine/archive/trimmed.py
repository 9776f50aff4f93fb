"""Images whose index lists only the manifests that are there, whole.

Some tools take an index only if all of it is there (`ctr images import --all-platforms`,
`skopeo copy --all`). A trimmed index is another document with another digest; it exists only in
what is saved.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from engine.content.blobs import read_blob
from engine.content.memory import MemoryReader
from engine.content.protocols import ReaderAt
from engine.errors import NotFound
from engine.graph import graph
from engine.image import Image
from engine.layouts.selection import Selection
from engine.spec import digest as digests
from engine.spec import go_json, oci
from engine.spec.oci import Descriptor
from engine.stores.protocols import ContentStore

_ATTESTED = "vnd.docker.reference.digest"
"""The annotation of an attestation that names the manifest it is about."""


class _Entries(msgspec.Struct, frozen=True):
    """The entries of an index with all their members."""

    manifests: list[dict[str, Any]]


class Trimmed:
    """Images with trimmed indexes, and a provider of their blobs: those indexes and the store's."""

    def __init__(
        self, images: Sequence[Image], content: ContentStore, selection: Selection
    ) -> None:
        """Keep the manifests of each image that match the selection.

        Raise the errors of `Selection.graph`, and NotFound if nothing of an image is left.
        """
        self._content = content
        self._documents: dict[str, bytes] = {}
        self.images = [
            replace(image, target=self._target(image, selection)) if _has_index(image) else image
            for image in images
        ]

    def open(self, digest: str) -> ReaderAt:
        """Open a blob; raise NotFound if it is absent."""
        data = self._documents.get(digest)
        return self._content.open(digest) if data is None else MemoryReader(data)

    def sizes(self, wanted: Iterable[str]) -> Mapping[str, int]:
        """Return the sizes of those of the blobs that are there."""
        asked = list(wanted)
        ours = {
            digest: len(self._documents[digest]) for digest in asked if digest in self._documents
        }
        return {**self._content.sizes(d for d in asked if d not in ours), **ours}

    def _target(self, image: Image, selection: Selection) -> Descriptor:
        found = selection.graph(image, self._content)
        matching = frozenset(blob.digest for blob in found.blobs)
        target = self._index(image.target, matching)
        if target is None:
            raise NotFound("complete manifest of", image.familiar)
        return target

    def _index(self, index: Descriptor, matching: frozenset[str]) -> Descriptor | None:
        """Return the descriptor of the trimmed index: the same if it is whole, None if empty."""
        data = read_blob(self._content, index.digest, index.size)
        subject = f"index {index.digest}"
        entries = go_json.decode(data, _Entries, subject).manifests
        listed = oci.parse_index(data, subject).manifests
        kept = [self._child(child, matching) for child in listed]
        there = {one.digest for one in kept if one is not None}
        pairs = [
            (entry, child)
            for entry, child in zip(entries, kept, strict=True)
            if child is not None and child.annotations.get(_ATTESTED, child.digest) in there
        ]
        if not pairs:
            return None
        manifests = [{**e, "digest": str(c.digest), "size": c.size} for e, c in pairs]
        if manifests == entries:
            return index
        document = go_json.members(data, subject)
        trimmed = go_json.dumps({**document, "manifests": manifests})
        digest = digests.of_bytes(trimmed, "sha256")
        self._documents[digest] = trimmed
        return replace(index, digest=digest, size=len(trimmed))

    def _child(self, child: Descriptor, matching: frozenset[str]) -> Descriptor | None:
        if child.digest not in matching:
            return None
        if oci.is_index_type(child.media_type):
            return self._index(child, matching)
        return None if graph(self._content, child).missing else child


def _has_index(image: Image) -> bool:
    return oci.is_index_type(image.target.media_type)

"""Referrers: manifests whose subject is an image, such as its signatures, SBOMs and attestations.

They are defined by the OCI image specification 1.1. A store keeps them as images of their own,
which need no name.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from engine.content.blobs import read_blob
from engine.errors import ContentMismatch, InvalidInput, LimitExceeded, NotFound
from engine.image import Image
from engine.spec import go_json, oci
from engine.spec.descriptor import Descriptor

if TYPE_CHECKING:
    from engine.content.protocols import Provider
    from engine.stores.protocols import Store


class _Manifest(msgspec.Struct, frozen=True, rename="camel"):
    artifact_type: str = ""
    config: Descriptor | None = None
    subject: Descriptor | None = None
    annotations: dict[str, str] = {}

    @property
    def type(self) -> str:
        return self.artifact_type or (self.config.media_type if self.config else "")


class Referrer(msgspec.Struct, frozen=True):
    """A manifest with a subject; `descriptor` has its artifact type and annotations, as an index of
    referrers lists it.
    """

    descriptor: Descriptor
    subject: str

    @property
    def image(self) -> Image:
        return Image(self.descriptor.digest, self.descriptor)


def referrer(target: Descriptor, data: bytes) -> Referrer | None:
    """Return the referrer that a manifest is; None for a manifest without a subject.

    Raise InvalidDocument.
    """
    found = go_json.decode(data, _Manifest, f"manifest {target.digest}")
    if found.subject is None:
        return None
    described = Descriptor(
        target.media_type,
        target.digest,
        target.size,
        annotations=found.annotations,
        artifact_type=found.type,
    )
    return Referrer(described, found.subject.digest)


def stored_referrer(content: Provider, target: Descriptor) -> Referrer | None:
    """Return the referrer that a stored target is; None if it is not one, or absent."""
    if not oci.is_document_type(target.media_type):
        return None
    try:
        return referrer(target, read_blob(content, target.digest, target.size))
    except NotFound:
        return None


def manifests_of(store: Store, image: Image) -> list[str]:
    """Return the digests of an image and of the manifests below it."""
    below = (each.digest for each in store.images.manifests(image.target.digest))
    return list(dict.fromkeys((image.target.digest, *below)))


def find_referrers(store: Store, image: Image) -> list[Referrer]:
    """Return the referrers of an image and of its manifests, and those of these referrers, each
    behind its subject. Leave out stored artifacts that cannot be read.
    """
    artifacts = {each.target.digest: each.target for each in store.images.artifacts()}
    known: list[Referrer] = []
    for target in artifacts.values():
        with suppress(InvalidInput, ContentMismatch, LimitExceeded):  # which are of another image
            found = stored_referrer(store.content, target)
            known += [found] if found is not None else []
    return reached(manifests_of(store, image), known)


def reached(subjects: Iterable[str], known: Iterable[Referrer]) -> list[Referrer]:
    """Return those referrers that lead to one of the subjects, each behind its subject."""
    reachable, left, found = {*subjects}, [*known], list[Referrer]()
    while new := [each for each in left if each.subject in reachable]:
        found += new
        left = [each for each in left if each.subject not in reachable]
        reachable = {each.descriptor.digest for each in new}
    return found


def is_attached(store: Store, image: Image) -> bool:
    """Return whether an image is a referrer whose subject an image of the store has."""
    found = stored_referrer(store.content, image.target)
    return found is not None and store.images.links([found.subject])[found.subject] > 0

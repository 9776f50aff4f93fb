"""Find images by their paths in a mount."""

from engine import names
from engine.content.blobs import read_blob
from engine.errors import (
    InvalidDigest,
    InvalidDocument,
    InvalidReference,
    LimitExceeded,
    NotFound,
)
from engine.image import Image, TreeEntry
from engine.spec import oci, reference
from engine.spec.descriptor import Descriptor
from engine.spec.digest import parse
from engine.stores.protocols import ImageStore, Store


def resolve(images: ImageStore, path: str) -> Image | None:
    """Return the image that is listed at a path, or that the path names as DIGEST or NAME@DIGEST,
    or None.
    """
    place = images.place_at(path)
    if place is not None:
        return place.image
    return _by_reference(images, path) if "@" in path else _by_digest(images, path)


def placed(store: Store, path: str) -> TreeEntry | None:
    """Return the image at a path, or that the path names by its digest or by that of one of its
    manifests, or None.
    """
    place = store.images.place_at(path)
    if place is not None:
        return place
    image = resolve(store.images, path)
    return store.images.place(image, path) if image else _manifest(store, path)


def _by_digest(images: ImageStore, path: str) -> Image | None:
    """Return the image with the digest that a path is, untagged, or None."""
    try:
        named = images.names_of(parse(path))
    except (InvalidDigest, NotFound):
        return None
    return Image(named[0].target.digest, named[0].target) if named else None


def _by_reference(images: ImageStore, path: str) -> Image | None:
    """Return the image that a path names as NAME@DIGEST, or None."""
    try:
        ref = reference.parse_normalized(path)
        return names.find_to_save(images, path)[0] if ref.digest else None
    except (InvalidDigest, InvalidReference, NotFound):
        return None


def _manifest(store: Store, path: str) -> TreeEntry | None:
    """Return the manifest with the digest that a path is, if a stored image has it."""
    try:
        digest = parse(path)
    except InvalidDigest:
        return None
    if not store.images.links([digest])[digest]:
        return None
    try:
        size = store.content.sizes([digest])[digest]
        manifest = oci.parse_manifest(read_blob(store.content, digest, size), digest)
    except (InvalidDocument, LimitExceeded, NotFound, KeyError):
        return None
    descriptor = Descriptor(manifest.media_type or oci.MANIFEST, digest, size)
    stored = len(store.content.sizes(layer.digest for layer in manifest.layers))
    return TreeEntry(path, digest, oci.render(descriptor).decode(), stored, 0)

"""Find images by what a user types: names, IDs and digests, as docker takes them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from engine.errors import InvalidReference, NotFound
from engine.image import Image
from engine.spec import reference

if TYPE_CHECKING:
    from engine.stores.protocols import ImageStore, Store


def find(images: ImageStore, name: str) -> list[Image]:
    """Return the images that are meant by a full or familiar name; a name alone (every tag of it);
    an ID, a unique prefix of one or "sha256:<hex>"; NAME@DIGEST.

    Raise NotFound, Ambiguous or InvalidReference.
    """
    return _named(images, _parsed(name)) or images.by_id(name)


def find_to_save(images: ImageStore, name: str) -> list[Image]:
    """Return what `find` does, but of NAME@DIGEST the image without a name, as docker saves it,
    unless it is stored by just that name.
    """
    found = find(images, name)
    ref = _parsed(name) if "@" in name else None
    if ref is None or [image.name for image in found] == [str(ref)]:
        return found
    return [Image(image.target.digest, image.target) for image in found]


def find_one(images: ImageStore, name: str) -> Image:
    """Return the one image that is meant; a name alone means its `latest`. Errors as `find`."""
    return _meant(images, name)[0]


def tag(store: Store, source: str, name: str) -> Image:
    """Give an image another name; what had that name before loses it.

    Raise StoreReadOnly, and the errors of `find`.
    """
    ref = reference.tag_name_only(reference.parse_normalized(name))
    if ref.digest is not None:
        raise InvalidReference(name, "digest", "a tag cannot have a digest")
    store.check_changes()
    _fetch(store.images, source)
    with store.transaction():
        return store.images.put(Image(str(ref), find_one(store.images, source).target))


def remove(store: Store, name: str) -> list[Image]:
    """Remove a name, or by ID every name of an image; with its last name an image goes. Return what
    was removed. Raise StoreReadOnly, and the errors of `find`.
    """
    store.check_changes()
    _fetch(store.images, name)
    with store.transaction():
        images = _meant(store.images, name)
        for image in images:
            store.images.delete(image.name)
    return images


def _fetch(images: ImageStore, name: str) -> None:
    """Let a remote store fetch what a name stands for, which needs the lock of a transaction."""
    if images.is_remote:
        with suppress(NotFound):  # by the time of the transaction it may be there
            _meant(images, name)


def _meant(images: ImageStore, name: str) -> list[Image]:
    """Return the image with a name, or every name of the image with an ID."""
    return _tagged(images, name) or images.by_id(name)


def _tagged(images: ImageStore, name: str) -> list[Image]:
    parsed = _parsed(name)
    return _named(images, parsed and reference.tag_name_only(parsed))


def _parsed(name: str) -> reference.Reference | None:
    parsed = reference.parse_any(name)
    return parsed if isinstance(parsed, reference.Reference) else None


def _named(images: ImageStore, ref: reference.Reference | None) -> list[Image]:
    if ref is None:
        return []
    if ref.is_name_only:
        return images.all(ref.name)
    found = images.find(str(ref))
    if found or ref.digest is None:
        return [found] if found else []
    return [i for i in images.all(ref.name) if ref.digest == i.target.digest][:1]

"""The lines that docker prints about images that were removed."""

from collections.abc import Iterable

from engine.errors import escaped
from engine.image import Image
from engine.stores.protocols import Store


def print_removed(store: Store, images: Iterable[Image]) -> None:
    """Print the names that were removed, and the images that went with their last one."""
    removed = list(images)
    for image in removed:
        if not image.is_untagged:
            print(f"Untagged: {escaped(image.familiar)}")
    for digest in dict.fromkeys(image.target.digest for image in removed):
        if not store.images.is_named(digest):
            print(f"Deleted: {digest}")

"""The names that were looked up, in the cache."""

import time

from msgspec.structs import replace

from engine.image import Image
from engine.stores.local.images import LocalImages


class CachedImages(LocalImages):
    """Images of a local store that follow those of a registry: a change is no event of its own."""

    def keep(self, image: Image) -> Image:
        """Point a name at a target, which is recorded, and return the image as it is kept.

        An image that has no times yet is given those of now.
        """
        with self._transaction():
            old, now = self.find(image.name), time.time()
            created_at = image.created_at or (old.created_at if old else now)
            kept = replace(image, created_at=created_at, updated_at=image.updated_at or now)
            self._write(kept)
            return kept

    def drop(self, name: str) -> None:
        """Remove a name, if it is there."""
        with self._transaction():
            self._erase(name)

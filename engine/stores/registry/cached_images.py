"""The names that were looked up, in the cache."""

import time

from msgspec.structs import replace

from engine.image import Image
from engine.stores.local.images import LocalImages


class CachedImages(LocalImages):
    """Images of a local store that follow those of a registry: a change is no event of its own."""

    def keep(self, image: Image) -> Image:
        """Point a name at a target, which is recorded, and return the image as it is kept."""
        with self._transaction():
            old, now = self.find(image.name), time.time()
            kept = replace(image, created_at=old.created_at if old else now, updated_at=now)
            self._write(kept)
            return kept

    def drop(self, name: str) -> None:
        """Remove a name, if it is there."""
        with self._transaction():
            self._erase(name)

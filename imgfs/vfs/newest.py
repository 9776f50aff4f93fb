"""When the newest image of a namespace or repository was created, asked again once the store has
changed.
"""

from collections.abc import Callable

from engine.stores.protocols import ImageStore


class Newest:
    """The times of directories of names."""

    def __init__(self, images: ImageStore, version: Callable[[], int]) -> None:
        """`version` returns another number once anything in the store has changed."""
        self._images = images
        self._version = version
        self._known: dict[str, int] = {}
        self._last = 0

    def below(self, path: str) -> int:
        """Seconds since the epoch, for the images that go on after `path` with a slash or a colon;
        0 if there are none.
        """
        last = self._version()
        if last != self._last:
            self._known, self._last = {}, last
        known = self._known
        if path not in known:
            known[path] = max(self._images.newest(f"{path}/"), self._images.newest(f"{path}:"))
        return known[path]

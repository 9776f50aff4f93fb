"""The creation times of the newest images in namespaces, cached until the store changes. Safe from
any thread.
"""

from collections.abc import Callable

from engine.stores.protocols import ImageStore


class Newest:
    """The cached times by path."""

    def __init__(self, images: ImageStore, version: Callable[[], int]) -> None:
        """`version` returns a number that differs once anything in the store has changed."""
        self._images = images
        self._version = version
        self._cached: tuple[int, dict[str, int]] = (0, {})

    def below(self, path: str) -> int:
        """Return the time in seconds since the epoch of the images whose path continues `path` with
        a slash or a colon; 0 if there are none.
        """
        version = self._version()
        last, known = self._cached
        if version != last:
            known = {}
            self._cached = (version, known)
        if path not in known:
            known[path] = max(self._images.newest(f"{path}/"), self._images.newest(f"{path}:"))
        return known[path]

"""The names and blobs of a namespace in memory, asked for again once containerd has changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock
from typing import Generic, TypeVar

from engine.content.protocols import Info
from engine.errors import NotFound
from engine.image import Image
from engine.spec.digest import Digest
from engine.stores.containerd.api import Content, Images
from engine.stores.containerd.watch import State, Watch

T = TypeVar("T")


class Remembered(Generic[T]):
    """An answer of containerd, for as long as its state is the same. Safe from any thread."""

    def __init__(self, ask: Callable[[], T], watch: Watch) -> None:
        self._ask = ask
        self._watch = watch
        self._lock = Lock()
        self._known: tuple[State, T] | None = None
        self.latest: T | None = None
        """The last answer, however long ago that was."""

    def get(self) -> T:
        """Return the answer as it is now; raise what asking raises."""
        if (known := self.known()) is not None:
            return known
        with self._lock:  # those who wait take the answer to the first one
            if (known := self.known()) is not None:
                return known
            state = self._watch.state()
            found = self.latest = self._ask()
            self._known = (state, found) if state is not None and state.is_final else None
            return found

    def known(self) -> T | None:
        """Return the answer if it need not be asked for."""
        known = self._known
        return known[1] if known is not None and known[0] == self._watch.state() else None


class Mirror:
    """The contents of a containerd, by name and by digest."""

    def __init__(self, images: Images, content: Content, watch: Watch) -> None:
        self._images = images
        self._content = content
        self._watch = watch
        self.images = Remembered[Mapping[str, Image]](self._list_images, watch)
        self.blobs = Remembered[Mapping[str, Info]](self._list_blobs, watch)

    def check(self, digest: Digest) -> None:
        """Ask whether a blob is there, and let all be asked for anew unless that is remembered."""
        known = self.blobs.known()
        if known is None or (digest in known) != self._is_stored(digest):
            self._watch.changed()  # also for an answer that is under way

    def _is_stored(self, digest: Digest) -> bool:
        try:
            self._content.info(digest)
        except NotFound:
            return False
        return True

    def _list_images(self) -> Mapping[str, Image]:
        return {image.name: image for image in self._images.all()}

    def _list_blobs(self) -> Mapping[str, Info]:
        return {info.digest: info for info in self._content.all()}

"""The layouts below one directory while its files arrive, and the blobs that each waits for."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

from engine.archive.archive_image import LeftOut
from engine.archive.directory_formats import DOCUMENTS
from engine.archive.growing_layout import GrowingLayout
from engine.archive.loaded import Loaded, LoadedImage
from engine.spec.digest import Digest

T = TypeVar("T")


class GrowingLayouts:
    """The layouts by their roots, each "" or a path with a slash at the end; for one thread at a
    time, but for the results, which any thread may ask for.
    """

    def __init__(self, new: Callable[[str], GrowingLayout]) -> None:
        """`new` returns the layout at a root."""
        self._new = new
        self._layouts: dict[str, GrowingLayout] = {}
        self._waiting: dict[Digest, set[str]] = {}
        """The layouts that wait for a blob, by its digest."""

    # -- changes -----------------------------------------------------------------------------------

    def arrived(self, path: str, digest: Digest | None) -> list[str]:
        """Note a file, or a link, which has no digest; return the layouts that it may complete."""
        root, _, name = path.rpartition("/")
        root = f"{root}/" if root else ""
        if name in DOCUMENTS and root not in self._layouts and not is_hidden(root):
            self._layouts[root] = self._new(root)
            ready = {root}
        else:
            ready = {each for each in _roots(path) if self._waits_for_any_file(each)}
            ready |= {root} if name in DOCUMENTS and root in self._layouts else set()
        if digest is not None:
            for each in tuple(self._waiting.get(digest, ())):
                if self._of_change(each, partial(self._layouts[each].arrived, digest)):
                    ready.add(each)
        return sorted(ready)

    def publish(self, root: str) -> Loaded:
        """Publish the images of a layout as `GrowingLayout.publish` does."""
        return self._of_change(root, self._layouts[root].publish)

    def forget(self, path: str) -> None:
        """Note that a file has been removed."""
        for root in _roots(path):
            if layout := self._layouts.get(root):
                layout.forget()

    def end_below(self, directory: str) -> None:
        """End the layouts below a directory that is moved; its files arrive elsewhere again."""
        for root in [root for root in self._layouts if root.startswith(f"{directory}/")]:
            self._of_change(root, self._layouts[root].close)
            del self._layouts[root]

    def clear(self) -> None:
        """Forget all layouts."""
        self._layouts.clear()
        self._waiting.clear()

    # -- results -----------------------------------------------------------------------------------

    @property
    def images(self) -> tuple[LoadedImage, ...]:
        """The images that have been published."""
        layouts = self._layouts.copy().values()
        return tuple(image for layout in layouts for image in layout.published.values())

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        layouts = self._layouts.copy().values()
        return tuple(one for layout in layouts for one in layout.left_out)

    @property
    def missing(self) -> tuple[str, ...]:
        """The paths of files that images wait for."""
        items = self._layouts.copy().items()
        return tuple(root + path for root, layout in items for path in layout.missing)

    @property
    def error(self) -> Exception | None:
        """The error of the images of a layout, None if there is none."""
        errors = (layout.error for layout in self._layouts.copy().values())
        return next(filter(None, errors), None)

    def waits_for(self, digest: Digest) -> bool:
        """Return whether a layout waits for a blob."""
        return digest in self._waiting

    def blobs(self, root: str) -> frozenset[str]:
        """Return the digests that the images of a layout refer to."""
        layout = self._layouts.get(root)
        return layout.blobs if layout else frozenset()

    # -- helpers -----------------------------------------------------------------------------------

    def _waits_for_any_file(self, root: str) -> bool:
        layout = self._layouts.get(root)
        return layout is not None and layout.waits_for_any_file

    def _of_change(self, root: str, change: Callable[[], T]) -> T:
        """Return the result of a call that changes which blobs a layout waits for."""
        layout = self._layouts[root]
        try:
            return change()
        finally:
            for digest in map(Digest, layout.take_changes()):
                if layout.waits_for(digest):
                    self._waiting.setdefault(digest, set()).add(root)
                else:
                    self._wait_no_longer(root, digest)

    def _wait_no_longer(self, root: str, digest: Digest) -> None:
        waiting = self._waiting.get(digest, set())
        waiting.discard(root)
        if not waiting:
            self._waiting.pop(digest, None)


def is_hidden(path: str) -> bool:
    """Return whether a directory is a temporary one of a writer, such as rsync's `.~tmp~`."""
    return any(part.startswith(".") for part in path.split("/"))


def _roots(path: str) -> Iterator[str]:
    """Yield the directories above a path, each "" or with a slash at the end."""
    yield ""
    parts = path.split("/")[:-1]
    for count in range(1, len(parts) + 1):
        yield "/".join(parts[:count]) + "/"

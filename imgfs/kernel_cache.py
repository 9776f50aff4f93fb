"""What the kernel keeps of the tree, and is told to forget when it changes.

To be told may have to wait for a request that is being answered, so it is done in a worker thread.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Collection, Iterator

import pyfuse3
import trio

from engine.changes import Changes
from engine.errors import EngineError
from engine.images import ImageStore, Place
from imgfs.image_tree import BlobFile, ImageDirectory
from imgfs.inodes import Inodes
from imgfs.workers import Workers

log = logging.getLogger(__name__)

_PERIOD = 0.25
"""Seconds between two looks at what other processes have changed."""


class KernelCache:
    """The names and attributes that the kernel keeps of what `inodes` holds."""

    def __init__(
        self, inodes: Inodes, images: ImageStore, changes: Changes, workers: Workers
    ) -> None:
        self._inodes = inodes
        self._images = images
        self._changes = changes
        self._workers = workers
        self._seen = changes.last()

    async def follow(self) -> None:
        """Let it forget what any process has changed since this was made, for ever.

        Each path is looked at twice: a request that was being answered the first time may have told
        the kernel afterwards what stood there before.
        """
        again: list[str] = []
        while True:
            await trio.sleep(_PERIOD)
            try:
                changed = await self._workers.read(self._news)
                paths = self._paths() if changed is None else changed
                await self.forget([*again, *paths])
            except (EngineError, OSError) as error:
                log.warning("what others change shows late: %s", error)
            else:
                again = paths

    async def forget(self, paths: Collection[str]) -> None:
        """Images have come or gone at these paths, so links are counted anew as well.

        A name that leads to what it should is left alone: a process may be in that directory.
        """
        if not paths:
            return
        wanted = set(paths)
        shown = [image.place for image in self._shown() if image.place.path in wanted]
        stale = await self._workers.read(self._stale, shown)
        places = [place for path in stale if (place := self._parent(path))]
        await self._workers.write(_drop_names, places)
        await self.forget_links()

    async def forget_links(self) -> None:
        """The link counts of blobs are asked for anew."""
        blobs = [n for n, node in self._inodes.nodes() if isinstance(node, BlobFile)]
        await self._workers.write(_drop_attributes, blobs)

    def _news(self) -> list[str] | None:
        last = self._changes.last()
        changed = self._changes.between(self._seen, last)
        self._seen = last
        return changed

    def _shown(self) -> Iterator[ImageDirectory]:
        for _, node in self._inodes.nodes():
            if isinstance(node, ImageDirectory):
                yield node

    def _paths(self) -> list[str]:
        return [image.place.path for image in self._shown()]

    def _stale(self, shown: list[Place]) -> set[str]:
        """The paths at which something else stands by now, or nothing."""
        return {place.path for place in shown if self._images.place_at(place.path) != place}

    def _parent(self, path: str) -> tuple[int, bytes] | None:
        """The parent's inode, if the kernel knows it, and the name in it."""
        prefix, name = path[: path.rfind("/") + 1], path.rpartition("/")[2]
        parent = self._inodes.known(f"names:{prefix}")
        return None if parent is None else (parent, os.fsencode(name))


def _drop_names(places: list[tuple[int, bytes]]) -> None:
    for parent, name in places:
        _ignoring_absence(pyfuse3.invalidate_entry, parent, name)


def _drop_attributes(inodes: list[int]) -> None:
    for inode in inodes:
        _ignoring_absence(pyfuse3.invalidate_inode, inode, True)


def _ignoring_absence(call: Callable[..., None], *args: object) -> None:
    with contextlib.suppress(FileNotFoundError):
        call(*args)

"""Names that are gone, which the kernel would remember until it is short of memory.

It asks for a name before it uses it, so this is not what makes the tree right: it lets the kernel
and this process give back the memory of images that were listed once and have been removed.
"""

import contextlib
import logging
import os
import time
from collections.abc import Iterable, Mapping

import pyfuse3
import trio

from engine.errors import EngineError
from engine.image import TreeEntry
from imgfs.fuse.inodes import Inodes
from imgfs.threads import DiskThreads
from imgfs.vfs.names import FAMILIAR, Names
from imgfs.vfs.nodes import Directory
from imgfs.vfs.tree import ImageDirectory, ImageTree

log = logging.getLogger(__name__)

_PERIOD = 1.0
"""Seconds between two looks at whether anything has changed."""
_SHARE = 20
"""A look at all names may take this part of the time."""


async def drop_gone_names(tree: ImageTree, inodes: Inodes, workers: DiskThreads) -> None:
    """Have the kernel forget the names of images that are gone, for ever."""
    seen, pause = tree.version(), _PERIOD
    while True:
        await trio.sleep(pause)
        began = time.monotonic()
        try:
            if (version := tree.version()) != seen:
                known = [
                    node.place for _, node in inodes.nodes() if isinstance(node, ImageDirectory)
                ]
                stand = await workers.read(_stand, tree, known)
                await workers.write(_drop, gone_names(stand, inodes, tree.names))
                seen = version
        except (EngineError, OSError) as error:
            log.warning("names that are gone stay in memory: %s", error)
        pause = max(_PERIOD, _SHARE * (time.monotonic() - began))


def gone_names(
    stand: Mapping[str, Directory | None], inodes: Inodes, names: Names = FAMILIAR
) -> list[tuple[int, bytes]]:
    """Return the parent's inode and the name of each path where nothing stands any more that the
    kernel knows.

    Where it knows what stands there a process may be in that directory, so the name is left alone.
    """
    gone = []
    for path, directory in stand.items():
        prefix, name = path[: path.rfind("/") + 1], path.rpartition("/")[2]
        parent = inodes.known(f"names:{prefix}")
        if parent is not None and (directory is None or inodes.known(directory.key) is None):
            gone.append((parent, os.fsencode(names.shown(name))))
    return gone


def _stand(tree: ImageTree, known: Iterable[TreeEntry]) -> dict[str, Directory | None]:
    """Return what stands by now where the kernel knows an image that is not listed there."""
    places = tree.places()
    return {p.path: tree.find(p.path) for p in known if places.get(p.path) != p}


def _drop(names: Iterable[tuple[int, bytes]]) -> None:
    for parent, name in names:
        with contextlib.suppress(FileNotFoundError):
            pyfuse3.invalidate_entry(parent, name)

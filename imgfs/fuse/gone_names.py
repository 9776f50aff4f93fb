"""Makes the kernel forget the names of removed images, to save memory.

The kernel looks a name up before it uses it, so this is not needed for correctness. But without it
the kernel, and so this process, would keep images that were listed once and have been removed until
memory is short.
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
"""Seconds between two checks whether the store has changed."""
_SHARE = 20
"""The check of all names may take one part in _SHARE of the time."""


async def drop_gone_names(tree: ImageTree, inodes: Inodes, workers: DiskThreads) -> None:
    """Make the kernel forget the names of removed images, until this is cancelled."""
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
    """Return the parent's inode number and the name of each path that the kernel can forget.

    `stand` maps paths to the directories that are there now, None for those that are gone. The name
    of a directory that the kernel knows is kept, because a process may be using it.
    """
    gone = []
    for path, directory in stand.items():
        prefix, name = path[: path.rfind("/") + 1], path.rpartition("/")[2]
        parent = inodes.known(f"names:{prefix}")
        if parent is not None and (directory is None or inodes.known(directory.key) is None):
            gone.append((parent, os.fsencode(names.shown(name))))
    return gone


def _stand(tree: ImageTree, known: Iterable[TreeEntry]) -> dict[str, Directory | None]:
    """Return the current directory at each path where the kernel knows an image that is not listed
    there any more.
    """
    places = tree.places()
    return {p.path: tree.find(p.path) for p in known if places.get(p.path) != p}


def _drop(names: Iterable[tuple[int, bytes]]) -> None:
    for parent, name in names:
        with contextlib.suppress(FileNotFoundError):
            pyfuse3.invalidate_entry(parent, name)

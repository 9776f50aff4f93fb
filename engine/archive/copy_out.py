"""Copies of files and directories out of the root of an image, by the rules of docker cp.

No mount is needed, and no more is decompressed than what is copied.
"""

import os
import posixpath
from functools import partial
from pathlib import Path

import msgspec

from engine.archive.export import write_entries
from engine.archive.leased_root import leased_root
from engine.archive.save import Output
from engine.errors import AlreadyExists, InvalidInput, NotFound, printable
from engine.filetree.entry_tree import EntryTree, LeftOut
from engine.filetree.restore import Restorer
from engine.filetree.root_paths import left_out_below, resolved, resolved_to_the_end
from engine.filetree.root_tar import content_size
from engine.progress import Counted, Progress
from engine.spec.oci import Manifest
from engine.stores.protocols import Store


class Copied(msgspec.Struct, frozen=True):
    """The path in an image that is copied.

    If its last part is `.`, the content of a directory is meant. A symlink at the end of it is
    copied itself, or what it leads to if `follows`.
    """

    path: bytes
    follows: bool = False

    def found(self, tree: EntryTree) -> tuple[bytes, int]:
        """Return the path in the root and the node; raise as `resolved`."""
        find = resolved_to_the_end if self.follows else resolved
        return find(tree, self.path)

    def name(self, found: bytes) -> bytes:
        """Return the name of a copy: the last part of the path, or that of the path in the root
        which was `found` for a `..`; "" for the root and where a directory's content is meant.
        """
        last = posixpath.basename(self.path.rstrip(b"/"))
        if last == b"..":
            return posixpath.basename(found)
        return b"" if last == b"." else last


def copy_to_directory(
    store: Store,
    manifest: Manifest,
    copied: Copied,
    destination: str,
    keeps_owners: bool,
    on_progress: Progress,
) -> tuple[LeftOut, ...]:
    """Copy from the root of an image to a path of the disk.

    A directory that is there receives a copy of that name. Otherwise the parent must be there, and
    the copy gets the name that the destination gives, which ends in a slash for a directory only. A
    symlink there is not followed. Return what is left out of the copy. Raise InvalidInput,
    NotFound, AlreadyExists, BrokenArchive, DamagedLayer and OSError.
    """
    with leased_root(store, manifest, on_progress) as (layers, tree):
        path, node = copied.found(tree)
        is_directory = tree.attributes(node).kind == "dir"
        target = _target(copied, copied.name(path), destination, is_directory)
        counted = Counted(content_size(tree, tree.walk(b"", node)), on_progress)
        with Restorer(layers, manifest.layers, tree, counted.add, keeps_owners) as restorer:
            restorer.restore(node, os.fsencode(target))
        return *left_out_below(tree, path), *restorer.left_out


def copy_to_tar(
    store: Store, manifest: Manifest, copied: Copied, output: Output
) -> tuple[LeftOut, ...]:
    """Write a tar with what is copied, below its name; return and raise as `copy_to_directory`."""
    with leased_root(store, manifest, output.progress) as (layers, tree):
        path, node = copied.found(tree)
        name = copied.name(path)
        if not name and tree.attributes(node).kind != "dir":
            raise InvalidInput("expected a directory, found a file")
        write_entries(layers, manifest, tree, partial(tree.walk, name, node), output)
        return left_out_below(tree, path)


def _target(copied: Copied, name: bytes, destination: str, is_directory: bool) -> Path:
    """Return the path of the copy itself."""
    shown, place = printable(os.fsdecode(copied.path)), Path(destination)
    if copied.path.endswith(b"/") and not is_directory:
        raise InvalidInput(f"{shown}: expected a directory, found a file")
    if place.is_dir():
        return place / os.fsdecode(name)
    if destination.endswith("/") and not is_directory:
        raise InvalidInput(f"{printable(destination)}: is not a directory that is there")
    if not place.parent.is_dir():
        raise NotFound("directory", str(place.parent))
    if is_directory and os.path.lexists(place):
        raise AlreadyExists("file", str(place))
    return place

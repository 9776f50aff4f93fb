"""Replies of pyfuse3 about nodes: their attributes, and listings of directories."""

import os
import stat
import time

import pyfuse3
from pyfuse3 import EntryAttributes, SetattrFields

from imgfs.fuse.inodes import Inodes
from imgfs.fuse.name_cache import KEPT, NameCache
from imgfs.fuse.open_directories import DOTS, OpenDirectory
from imgfs.vfs.nodes import AttributeChange, Attributes, Node


class Replies:
    """Makes replies, and counts the lookups that they mean to the kernel."""

    def __init__(self, inodes: Inodes, names: NameCache, owner: tuple[int, int]) -> None:
        """`owner` is the user and group of nodes that have none of their own."""
        self._inodes = inodes
        self._names = names
        self._owner = owner

    def entry(
        self, child: Node, attributes: Attributes, name_timeout: float, parent: int = 0
    ) -> EntryAttributes:
        """Count a lookup of a child and return its attributes."""
        inode = self._inodes.look_up(child, parent)
        return self.attributes(attributes, inode, name_timeout)

    def attributes(
        self, attributes: Attributes, inode: int, entry_timeout: float = 0
    ) -> EntryAttributes:
        """Return the attributes of a node."""
        result = EntryAttributes()
        result.st_ino = inode
        result.generation = self._inodes.generation(inode)
        result.entry_timeout = entry_timeout
        result.attr_timeout = attributes.timeout
        result.st_mode = attributes.mode
        result.st_nlink = attributes.links
        result.st_uid = self._owner[0] if attributes.uid is None else attributes.uid
        result.st_gid = self._owner[1] if attributes.gid is None else attributes.gid
        result.st_rdev = attributes.device
        result.st_size = attributes.size
        result.st_blksize = attributes.block_size
        result.st_blocks = -(-attributes.size // 512)
        result.st_atime_ns = result.st_ctime_ns = result.st_mtime_ns = attributes.mtime
        return result

    def list_names(self, opened: OpenDirectory, start: int, token: pyfuse3.ReaddirToken) -> None:
        """Reply with names, inode numbers and types of the entries from number `start` on."""
        if not _list_dots(opened, start, token):
            return
        attributes = EntryAttributes()
        children = opened.listing.children
        for number in range(max(0, start - DOTS), len(children)):
            name, node = children[number]
            attributes.st_ino = self._inodes.number(node.key)
            attributes.st_mode = opened.listing.attributes(name, node).mode
            encoded = name.encode(errors="surrogateescape")
            if not pyfuse3.readdir_reply(token, encoded, attributes, number + DOTS + 1):
                return

    def list_entries(
        self, opened: OpenDirectory, start: int, token: pyfuse3.ReaddirToken, listing: int
    ) -> None:
        """Reply with the entries from number `start` on, with their attributes, as far as there is
        room; the kernel may cache names as `NameCache` permits it to the handle `listing`.
        """
        if not _list_dots(opened, start, token):
            return
        keep_until = lasting = self._names.keep(opened.listing.version)
        first, children = max(0, start - DOTS), opened.listing.children
        for number in range(first, len(children)):
            name, node = children[number]
            inode = self._inodes.look_up(node, opened.inode)
            known = opened.listing.attributes(name, node)
            if not known.are_final:
                lasting = 0.0  # the reader may wait here, for a lookup of this name that waits
            timeout = KEPT if time.monotonic() < lasting else opened.directory.entry_timeout(node)
            attributes = self.attributes(known, inode, timeout)
            following = number + DOTS + 1
            if not pyfuse3.readdir_reply(token, os.fsencode(name), attributes, following):
                self._inodes.forget(inode, 1)
                break
        if keep_until and first < len(children):
            self._names.answered(listing)


def change_of(attr: EntryAttributes, fields: SetattrFields) -> AttributeChange:
    """Return the attributes that a SETATTR request sets."""
    return AttributeChange(
        size=attr.st_size if fields.update_size else None,
        mode=stat.S_IMODE(attr.st_mode) if fields.update_mode else None,
        uid=attr.st_uid if fields.update_uid else None,
        gid=attr.st_gid if fields.update_gid else None,
        mtime=attr.st_mtime_ns if fields.update_mtime else None,
    )


def _list_dots(opened: OpenDirectory, start: int, token: pyfuse3.ReaddirToken) -> bool:
    """Reply with `.` and `..`, for which the kernel counts no lookup; return whether there is room
    for more.
    """
    attributes = EntryAttributes()
    attributes.st_mode = stat.S_IFDIR
    for number, (name, attributes.st_ino) in enumerate(opened.dots()[start:], start + 1):
        if not pyfuse3.readdir_reply(token, name, attributes, number):
            return False
    return True

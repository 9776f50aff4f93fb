"""Tests of lookups, and of the answers about nodes that never change, without a mount.

Requests go through the native library, which answers into a pipe.
"""

import ctypes
import errno
import os
import stat
import struct
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgfs.fuse import protocol
from imgfs.fuse.direct import DirectAnswers
from imgfs.fuse.handles import Handles
from imgfs.fuse.inodes import Inodes
from imgfs.fuse.killed_callers import KilledCallers
from imgfs.fuse.native.library import load
from imgfs.fuse.native_trees import NativeTrees
from imgfs.fuse.open_files import OpenFile
from imgfs.threads import DiskThreads
from imgfs.vfs import roots as made
from imgfs.vfs.keys import CONSTANT, MOST_LINKS
from tests.filetree.layers import Member, directory, file, hardlink, member, symlink, with_xattrs
from tests.vfs.roots import entered, found, image, roots

MEMBERS = [
    directory("d", mtime=-1),
    file("d/a", "content", mode=0o4711, uid=8, gid=9, mtime=10),
    symlink("d/link", "a\udcff"),
    with_xattrs("d/ping", tarfile.REGTYPE, {"user.kind": "value"}),
]
BUSY = [file("busy", "x"), *(hardlink(f"busy{number}", "busy") for number in range(MOST_LINKS))]
_PID = 7
_DIRENT = struct.Struct("=QQII")
_SIZE_AND_MODE = struct.Struct("=Q44xI")
_ENTRY = protocol.ENTRY_OUT.size
_ATTR = 40
"""The offset of fuse_attr in fuse_entry_out."""
_ATTRIBUTES = struct.Struct("=QQQqqqIIIIIIIII")
_IN = struct.Struct("=IIQQIIII")
_OUT = struct.Struct("=IiQ")
_REQUEST = 1


class Kernel:
    """The answers for a root, and what a kernel knows of it."""

    def __init__(self, inodes: Inodes, root: int) -> None:
        native = load()
        if isinstance(native, str):
            pytest.skip(native)
        self.inodes = inodes
        self.root = root
        self.files: Handles[OpenFile] = Handles()
        self.trees = NativeTrees(native)
        self.answers = DirectAnswers(inodes, self.trees, self.files, DiskThreads(), KilledCallers())
        self._native = native

    def ask(self, opcode: int, inode: int, body: bytes = b"") -> bytes | int | None:
        request = _IN.pack(_IN.size + len(body), opcode, _REQUEST, inode, 0, 0, _PID, 0) + body
        reading, writing = os.pipe()
        self._native.imgfs_direct_begin(self.answers.answer)
        try:
            answer: Any = self._native.direct_answer  # type: ignore[attr-defined]  # not for Python
            answer.restype = ctypes.c_bool
            if not answer(writing, request, ctypes.c_size_t(len(request))):
                return None
            reply = os.read(reading, 1 << 20)
        finally:
            self._native.imgfs_direct_begin(None)
            os.close(reading)
            os.close(writing)
        size, error, unique = _OUT.unpack_from(reply)
        assert (size, unique) == (len(reply), _REQUEST)
        return -error if error else reply[_OUT.size :]

    def reply(self, opcode: int, inode: int, body: bytes = b"") -> bytes:
        found = self.ask(opcode, inode, body)
        assert isinstance(found, bytes)
        return found

    def lookup(self, path: str) -> int:
        inode = self.root
        for name in path.split("/"):
            entry = self.reply(protocol.LOOKUP, inode, os.fsencode(name) + b"\0")
            inode = protocol.ENTRY_OUT.unpack(entry)[0]
        return inode

    def open(self, opcode: int, inode: int, flags: int = os.O_RDONLY) -> int:
        reply = self.reply(opcode, inode, protocol.OPEN_IN.pack(flags, 0))
        return int(protocol.OPEN_OUT.unpack(reply)[0])

    def listing(self, inode: int, opcode: int, size: int) -> dict[bytes, int]:
        """Return the names of a directory with their inode numbers, read in pieces."""
        handle, offset, names = self.open(protocol.OPENDIR, inode), 0, dict[bytes, int]()
        while reply := self.reply(opcode, inode, protocol.READ_IN.pack(handle, offset, size)):
            assert len(reply) <= size
            for name, number, offset in _entries(reply, opcode):  # noqa: B007
                assert name not in names
                names[name] = number
        self.reply(protocol.RELEASEDIR, inode, protocol.RELEASE_IN.pack(handle))
        return names


def _entries(reply: bytes, opcode: int) -> Iterator[tuple[bytes, int, int]]:
    position = 0
    while position < len(reply):
        if opcode == protocol.READDIRPLUS:
            position += _ENTRY
        inode, following, size, kind = _DIRENT.unpack_from(reply, position)
        position += _DIRENT.size
        assert kind
        yield reply[position : position + size], inode, following
        position += size + -size % 8


@contextmanager
def kernel(members: list[Member]) -> Iterator[Kernel]:
    with roots([(image(members), "app:1")]) as (_, tree):
        top = found(tree.root, "rootfs/app:1")
        list(entered(top).children())
        assert top is not None
        inodes = Inodes(tree.root, tree.roots)
        known = Kernel(inodes, inodes.look_up(top))
        try:
            yield known
        finally:
            known.trees.forget(known.root)
            tree.roots.opened.close_idle()


def test_numbers_of_nodes_that_never_change_are_marked() -> None:
    with kernel(MEMBERS) as known:
        assert known.root & CONSTANT
        assert known.lookup("d/a") & CONSTANT
        assert not known.inodes.number("blob:x") & CONSTANT


@pytest.mark.parametrize("name", [f"docker.io/library/app:{number}" for number in range(8)])
def test_image_directories_can_change(name: str) -> None:
    with roots([(image(MEMBERS), name)]) as (_, tree):
        shown = found(tree.root, name.removeprefix("docker.io/library/"))
        assert shown is not None
        assert not Inodes(tree.root, tree.roots).look_up(shown) & CONSTANT


def test_a_lookup_returns_the_attributes() -> None:
    with kernel(MEMBERS) as known:
        entry = known.reply(protocol.LOOKUP, known.lookup("d"), b"a\0")
        assert _SIZE_AND_MODE.unpack_from(entry, _ATTR + 8) == (7, stat.S_IFREG | 0o4711)


def test_nothing_is_kept_of_what_a_kernel_knows_of_a_tree() -> None:
    with kernel(MEMBERS) as known:
        before = len(known.inodes)
        inode = known.lookup("d/a")
        assert len(known.inodes) == before
        assert not known.inodes.forget(inode, 1)


def test_native_numbers_and_attributes_are_those_of_the_nodes() -> None:
    others = [
        hardlink("d/b", "d/a"),
        hardlink("d/soft", "d/link"),
        member("d/null", tarfile.CHRTYPE, devmajor=1, devminor=3),
        *(file(f"wide/{number:03}", "") for number in range(99)),
    ]
    with kernel([*MEMBERS, *others, *BUSY]) as known:
        waiting, kinds = [known.root], set()
        while waiting:
            parent = waiting.pop()
            for name, node in entered(known.inodes.get(parent)).children():
                shown = node.attributes()
                entry = known.reply(protocol.LOOKUP, parent, os.fsencode(name) + b"\0")
                inode, generation, *timeouts = protocol.ENTRY_OUT.unpack(entry)[:6]
                assert inode == known.inodes.number(node.key), name
                assert (generation, timeouts) == (0, [int(shown.timeout)] * 2 + [0] * 2), name
                assert _ATTRIBUTES.unpack_from(entry, _ATTR) == (
                    inode,
                    shown.size,
                    -(-shown.size // 512),
                    *[shown.mtime // 10**9] * 3,
                    *[shown.mtime % 10**9] * 3,
                    shown.mode,
                    shown.links,
                    shown.uid,
                    shown.gid,
                    shown.device,
                    shown.block_size,
                ), name
                assert known.inodes.get(inode).key == node.key, name
                assert known.inodes.get(inode).attributes() == shown, name
                kinds.add((stat.S_IFMT(shown.mode), shown.links > 1, shown.block_size))
                if node.is_directory:
                    waiting.append(inode)
        assert len(kinds) == 6


def test_an_open_directory_is_listed_although_its_tree_is_gone() -> None:
    with kernel(MEMBERS) as known:
        inode = known.lookup("d")
        handle = known.open(protocol.OPENDIR, inode)
        known.trees.forget(known.root)
        request = protocol.READ_IN.pack(handle, 0, 4096)
        names = [name for name, *_ in _entries(known.reply(protocol.READDIR, inode, request), 28)]
        assert names == [b".", b"..", b"a", b"link", b"ping"]
        known.reply(protocol.RELEASEDIR, inode, protocol.RELEASE_IN.pack(handle))


def test_an_absent_name_is_remembered_as_absent() -> None:
    with kernel(MEMBERS) as known:
        entry = protocol.ENTRY_OUT.unpack(known.reply(protocol.LOOKUP, known.root, b"none\0"))
        assert entry[0] == 0
        assert entry[2] > 1000


def test_names_of_images_are_looked_up_each_time() -> None:
    with kernel(MEMBERS) as known:
        rootfs = protocol.ENTRY_OUT.unpack(known.reply(protocol.LOOKUP, 1, b"rootfs\0"))
        assert rootfs[2] > 1000, "it is always there"
        image = protocol.ENTRY_OUT.unpack(known.reply(protocol.LOOKUP, rootfs[0], b"app:1\0"))
        assert (image[0], image[2]) == (known.root, 0)
        assert known.ask(protocol.LOOKUP, rootfs[0], b"none:1\0") == errno.ENOENT
        assert known.ask(protocol.LOOKUP, 1, b"none:1\0") == errno.ENOENT


def test_times_before_the_epoch_fit() -> None:
    with kernel(MEMBERS) as known:
        reply = known.reply(protocol.GETATTR, known.lookup("d"))
        assert struct.unpack_from("=q", reply, 16 + 24) == (-1,)


def test_links_and_attributes_are_read() -> None:
    with kernel(MEMBERS) as known:
        assert known.reply(protocol.READLINK, known.lookup("d/link")) == b"a\xff"
        ping, name = known.lookup("d/ping"), b"user.kind\0"
        assert known.ask(protocol.LISTXATTR, ping, bytes(8)) is None, "its layer is not open"
        assert known.inodes.get(ping).xattrs() == {"user.kind": b"value"}
        value = b"value"
        ask = protocol.GETXATTR_IN.pack
        assert known.reply(protocol.GETXATTR, ping, ask(100) + name) == value
        asked = known.reply(protocol.GETXATTR, ping, ask(0) + name)
        assert protocol.GETXATTR_OUT.unpack(asked) == (len(value),)
        assert known.ask(protocol.GETXATTR, ping, ask(3) + name) == errno.ERANGE
        assert known.ask(protocol.GETXATTR, ping, ask(9) + b"user.x\0") == errno.ENODATA
        assert known.ask(protocol.GETXATTR, ping, ask(9) + b"trusted.x\0") == errno.EOPNOTSUPP
        assert known.reply(protocol.LISTXATTR, ping, ask(100)) == name


def test_a_file_is_read_at_once_when_its_chunk_is_in_memory() -> None:
    with kernel(MEMBERS) as known:
        inode = known.lookup("d/a")
        assert known.ask(protocol.OPEN, inode, protocol.OPEN_IN.pack(0, 0)) is None, "not yet open"
        node = known.inodes.get(inode)
        reader = node.open()  # type: ignore[attr-defined]  # a file
        handle = known.open(protocol.OPEN, inode)
        request = protocol.READ_IN.pack(handle, 2, 100)
        assert known.ask(protocol.READ, inode, request) is None, "it has to be decompressed"
        reader.read(0, 1)
        assert known.reply(protocol.READ, inode, request) == b"ntent"
        known.reply(protocol.RELEASE, inode, protocol.RELEASE_IN.pack(handle))
        assert not len(known.files)
        reader.close()


def test_what_cannot_be_answered_is_left_to_the_handlers() -> None:
    with kernel(MEMBERS) as known:
        writing = protocol.OPEN_IN.pack(os.O_WRONLY, 0)
        directory_inode, inode = known.lookup("d"), known.lookup("d/a")
        for opcode, number, body in (
            (protocol.OPEN, inode, writing),
            (protocol.OPEN, directory_inode, protocol.OPEN_IN.pack(0, 0)),
            (protocol.OPENDIR, inode, b""),
            (protocol.READLINK, inode, b""),
            (protocol.GETATTR, CONSTANT | 5, b""),
            (protocol.READ, inode, protocol.READ_IN.pack(99, 0, 1)),
            (4, inode, b""),
        ):
            assert known.ask(opcode, number, body) is None


def test_a_tree_that_is_not_made_is_left_to_the_handlers() -> None:
    with roots([(image(MEMBERS), "app:1")]) as (_, tree):
        views = entered(found(tree.root, "rootfs"))
        ((_, top),) = views.children()
        inodes = Inodes(tree.root, tree.roots)
        known = Kernel(inodes, inodes.look_up(top))
        assert known.ask(protocol.LOOKUP, known.root, b"d\0") is None
        assert known.ask(protocol.OPENDIR, known.root) is None
        assert known.ask(protocol.LOOKUP, inodes.look_up(views), b"app:1\0") is None


def test_trees_that_were_dropped_are_left_to_the_handlers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(made, "_KEPT_NODES", 1)
    with roots([(image(MEMBERS), "one:1"), (image(MEMBERS, [file("new")]), "two:1")]) as (_, tree):
        inodes = Inodes(tree.root, tree.roots)
        tops = []
        for name in ("one:1", "two:1"):
            top = found(tree.root, f"rootfs/{name}")
            assert top is not None
            tops.append(inodes.look_up(top))
            known = Kernel(inodes, tops[-1])
            assert known.lookup("d/a") & CONSTANT
            if len(tops) == 1:
                first = known
        known.trees.add(tops[1], inodes.tree(tops[1]), 1)
        assert isinstance(first.ask(protocol.LOOKUP, tops[0], b"d\0"), bytes)
        first.trees.add(tops[1], inodes.tree(tops[1]), 1)
        assert first.ask(protocol.LOOKUP, tops[0], b"d\0") is None
        for one in (first, known):
            one.trees.forget(tops[1])


def test_nothing_is_known_below_a_root_that_the_kernel_has_forgotten() -> None:
    with kernel(MEMBERS) as known:
        inode = known.lookup("d")
        assert known.inodes.get(inode).is_directory
        assert known.inodes.forget(known.root, 1)
        assert known.inodes.is_at_hand(inode)
        with pytest.raises(KeyError):
            known.inodes.get(inode)


@settings(max_examples=20)
@given(
    names=st.sets(st.text("abc\udcff", min_size=1, max_size=20), max_size=40),
    size=st.integers(500, 3000),
)
def test_each_name_is_listed_once_and_found(names: set[str], size: int) -> None:
    with kernel([directory("d"), *(file(f"d/{name}", "") for name in names)]) as known:
        inode = known.lookup("d")
        plain = known.listing(inode, protocol.READDIR, size)
        listed = known.listing(inode, protocol.READDIRPLUS, size)
        assert listed == plain
        assert set(listed) == {os.fsencode(name) for name in names} | {b".", b".."}
        assert (listed[b"."], listed[b".."]) == (inode, known.root)
        for name in names:
            assert known.lookup(f"d/{name}") == listed[os.fsencode(name)]
        for name in {f"{name}x" for name in names} - names:
            entry = known.reply(protocol.LOOKUP, inode, os.fsencode(name) + b"\0")
            assert protocol.ENTRY_OUT.unpack(entry)[0] == 0

"""The event loop, which answers every request, asks nothing of a store behind a network."""

import os
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyfuse3
import pytest
import trio

from engine import names
from engine.image import Image, Summary
from imgfs.fuse import protocol
from imgfs.fuse.direct import DirectAnswers
from imgfs.fuse.handlers import Operations
from imgfs.fuse.handles import Handles
from imgfs.fuse.inodes import ROOT, Inodes
from imgfs.fuse.killed_callers import KilledCallers
from imgfs.fuse.name_cache import NameCache
from imgfs.fuse.native.library import PLAIN
from imgfs.fuse.native_trees import NativeTrees
from imgfs.fuse.passthrough import Passthrough
from imgfs.threads import DiskThreads
from imgfs.vfs.status import StatusDirectory
from imgfs.vfs.views import CombinedView
from tests import archives
from tests.archives import ImageParts
from tests.stores.memory import MemoryImages, MemoryStore
from tests.stores.test_memory import load, tree

APP = ImageParts()
BLOB = f"app:1/blobs/sha256/{APP.id[7:]}"
NAMESPACES = ["ghcr.io", "ghcr.io/org", "app", "rootfs", "rootfs/ghcr.io", "layers/ghcr.io"]
IN_IMAGES = ["app:1", "app:1/blobs", "app:1/blobs/sha256", "app/blobs", "app:1/index.json", BLOB]
PATHS = ["", *NAMESPACES, *IN_IMAGES, ".imgfs", ".imgfs/status.json", ".imgfs/events"]
CALLER: Any = SimpleNamespace(pid=os.getpid(), uid=os.getuid(), gid=os.getgid(), umask=0)
NOT_NATIVE = "not asked for"


class RemoteImages(MemoryImages):
    """Images that must not be asked for in the main thread, once `is_away` is set."""

    is_remote = True
    is_away = False

    def find(self, name: str) -> Image | None:
        self._check()
        return super().find(name)

    def all(self, repository: str = "") -> list[Image]:
        self._check()
        return super().all(repository)

    def summary(self, target: str) -> Summary:
        self._check()
        return super().summary(target)

    def _check(self) -> None:
        if self.is_away and threading.current_thread() is threading.main_thread():
            pytest.fail("the event loop would wait for the network")


class NoReports:
    def report(self, _name: str) -> None:
        return None

    def report_names(self) -> list[str]:
        return []


class Mount:
    """The handlers over a remote store, without a kernel."""

    def __init__(self, directory: Path) -> None:
        store = self.store = MemoryStore(directory)
        self.images = store.images = RemoteImages(store)
        load(store, archives.oci_archive((APP, "docker.io/library/app:1")))
        names.tag(store, "app:1", "ghcr.io/org/app:2")
        shown = tree(store, CombinedView())
        shown.fixed[".imgfs"] = StatusDirectory(self.status, NoReports(), store.events, waits=True)
        self.inodes = Inodes(shown.root, shown.roots)
        self.workers = DiskThreads()
        self.operations = Operations(
            self.inodes,
            NameCache(store.name_lock, shown.version),
            Passthrough(NOT_NATIVE, directory),
            NOT_NATIVE,
            self.workers,
            directory,
            (Path("/mnt"),),
        )
        self.images.is_away = True

    def status(self) -> dict[str, object]:
        return {"images": self.images.count()}

    def run(self, call: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> Any:
        return trio.run(call, *arguments)

    def inode(self, path: str) -> int:
        inode = ROOT
        for name in filter(None, path.split("/")):
            found = self.run(self.operations.lookup, inode, os.fsencode(name), CALLER)
            inode = found.st_ino
        return inode


@pytest.fixture
def remote(tmp_path: Path) -> Mount:
    return Mount(tmp_path)


@pytest.mark.parametrize("path", PATHS)
def test_attributes_are_asked_for_in_a_worker(remote: Mount, path: str) -> None:
    operations, inode = remote.operations, remote.inode(path)
    found = remote.run(operations.getattr, inode, CALLER)
    assert found.st_ino == inode
    assert remote.run(operations.access, inode, os.R_OK, CALLER)
    attributes = remote.run(operations.listxattr, inode, CALLER)
    for name in attributes:
        assert remote.run(operations.getxattr, inode, name, CALLER)
    assert (b"user.oci.name" in attributes) == (path == "app:1")
    if path == BLOB:
        assert found.st_nlink == 2
        remote.run(operations.open, inode, os.O_RDONLY, CALLER)


@pytest.mark.parametrize("path", ["", *NAMESPACES, *IN_IMAGES[:4], ".imgfs"])
@pytest.mark.parametrize("tag", [0, PLAIN], ids=["with attributes", "names"])
def test_the_attributes_of_what_is_listed_are_asked_for_in_a_worker(
    remote: Mount, monkeypatch: pytest.MonkeyPatch, path: str, tag: int
) -> None:
    def reply(_token: Any, name: bytes, attributes: pyfuse3.EntryAttributes, _next: int) -> bool:
        shown[name] = attributes.st_mode
        return True

    shown = dict[bytes, int]()
    monkeypatch.setattr(pyfuse3, "readdir_reply", reply)
    inode = remote.inode(path)
    handle = remote.run(remote.operations.opendir, inode, CALLER)
    for _ in "again":
        remote.run(remote.operations.readdir, handle | tag, 0, None)
    assert len(shown) > 2
    assert all(shown.values())


def test_a_listing_from_the_start_shows_what_has_changed(
    remote: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reply(_token: Any, name: bytes, *_: Any) -> bool:
        shown.append(name)
        return True

    shown = list[bytes]()
    monkeypatch.setattr(pyfuse3, "readdir_reply", reply)
    handle = remote.run(remote.operations.opendir, remote.inode("ghcr.io/org"), CALLER)
    for tag in ("3", "4"):
        remote.images.is_away = False
        names.tag(remote.store, "app:1", f"ghcr.io/org/app:{tag}")
        remote.images.is_away = True
        shown.clear()
        remote.run(remote.operations.readdir, handle, 0, None)
        assert f"app:{tag}".encode() in shown


@pytest.mark.parametrize("path", ["ghcr.io", "rootfs/ghcr.io", "app:1", BLOB])
def test_what_is_remote_is_not_answered_directly(remote: Mount, path: str) -> None:
    inode = remote.inode(path)
    answers = DirectAnswers(
        remote.inodes, NativeTrees(NOT_NATIVE), Handles(), remote.workers, KilledCallers()
    )
    question = protocol.GETXATTR_IN.pack(0)
    for opcode, body in (
        (protocol.GETATTR, b""),
        (protocol.LISTXATTR, question),
        (protocol.GETXATTR, question + b"user.oci.name\0"),
    ):
        assert answers.answer(opcode, inode, CALLER.pid, body) is None
    parent = remote.inode(os.path.dirname(path))
    name = os.fsencode(os.path.basename(path)) + b"\0"
    assert answers.answer(protocol.LOOKUP, parent, CALLER.pid, name) is None


def test_mkdir_asks_for_the_attributes_in_a_worker(remote: Mount) -> None:
    made = remote.run(remote.operations.mkdir, ROOT, b"team", 0o755, CALLER)
    assert made.st_ino == remote.inode("team")


def test_entries_of_an_image_are_removed_in_a_worker(remote: Mount) -> None:
    operations, image = remote.operations, remote.inode("app:1")
    below = remote.inode("app:1/blobs/sha256")
    for name in (b"index.json", b"manifest.json", b"oci-layout"):
        remote.run(operations.unlink, image, name, CALLER)
    for blob in APP.blobs():
        remote.run(operations.unlink, below, archives.digest(blob)[7:].encode(), CALLER)
    remote.run(operations.rmdir, remote.inode("app:1/blobs"), b"sha256", CALLER)
    remote.run(operations.rmdir, image, b"blobs", CALLER)
    remote.run(operations.rmdir, ROOT, b"app:1", CALLER)
    with pytest.raises(pyfuse3.FUSEError):
        remote.inode("app:1")

"""The life of a mount: from the kernel's handshake over readiness and signals to a clean end.

pyfuse3 keeps its session in module globals, so a process has one mount.
"""

import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path

import msgspec
import pyfuse3
import trio

from engine.archive.import_options import ImportOptions
from engine.engine import Engine
from engine.errors import EngineError, printable
from engine.layouts import warm_up
from engine.limits import Limits
from engine.stores.local.name_lock import NameLock
from imgfs.fuse.gather import Gathers
from imgfs.fuse.gone_names import drop_gone_names
from imgfs.fuse.handlers import Operations
from imgfs.fuse.inodes import Inodes
from imgfs.fuse.name_cache import NameCache
from imgfs.fuse.native.library import NativeLibrary
from imgfs.fuse.passthrough import Passthrough
from imgfs.fuse.read_ahead import raise_read_ahead
from imgfs.imports.directory import ImportDirectory
from imgfs.threads import DiskThreads
from imgfs.vfs.names import FAMILIAR, Names
from imgfs.vfs.nodes import Node
from imgfs.vfs.status import StatusDirectory
from imgfs.vfs.tree import ImageTree
from imgfs.vfs.views import CombinedView, View

log = logging.getLogger(__name__)

_PATIENCE = 5.0
"""Seconds that running requests have to be answered when the mount is to end, and then running
loads to be taken back.
"""
_MAX_REQUESTS = 1000
"""How many may wait at a time before the next one is not even looked at."""


class MountOptions(msgspec.Struct, frozen=True):
    """How a store is mounted.

    `fuse` are options that the kernel and fusermount3 know, `source` is what /proc/mounts calls
    what is mounted. Every `gc_interval` seconds what nothing needs is collected, if it is set.
    `session` is the part in C, or why there is none; `passthrough` says whether the kernel may read
    blobs by itself.
    """

    view: View = msgspec.field(default_factory=CombinedView)
    limits: Limits = msgspec.field(default_factory=Limits)
    gc_interval: float | None = None
    fuse: tuple[str, ...] = ()
    source: str = "imgfs"
    session: NativeLibrary | str = "not asked for"
    passthrough: bool = True
    names: Names = FAMILIAR


def serve(store: Path, mountpoint: Path, options: MountOptions, ready: Callable[[], None]) -> None:
    """Mount `store` and answer the kernel until it is unmounted or SIGTERM, SIGINT or SIGHUP comes.

    `ready` is called once the mount can be used. StoreError, OSError and RuntimeError say why it
    cannot be.
    """
    # A handler that raised in the middle of the event loop would break it.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    with Engine(store) as engine:
        mount = _Mount(engine, mountpoint, options, ready)
        try:
            trio.run(mount.run)
        except BaseExceptionGroup as group:
            raise _cause(group) from group
        if mount.workers.busy:
            # Closing the database would wait for them. What they have not committed is rolled back.
            log.error("ended, while the store's disk does not answer")
            os._exit(1)


class _Mount:
    def __init__(
        self, engine: Engine, mountpoint: Path, options: MountOptions, ready: Callable[[], None]
    ) -> None:
        self._engine = engine
        self._mountpoint = mountpoint
        self._options = options
        self._ready = ready
        part = options.session if options.passthrough else "switched off"
        self._passthrough = Passthrough(part, engine.path)
        self._operations: Operations | None = None
        self.workers = DiskThreads()

    async def run(self) -> None:
        """Serve until the end; a signal that comes when the end has begun changes nothing."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async with trio.open_nursery() as nursery:
                imports = self._make_imports(nursery)
                operations = self._wire(imports)
                source = self._options.source.replace("\\", "\\\\").replace(",", "\\,")
                named = {f"fsname={source}", "subtype=imgfs"}
                fuse = {*_checks(self._options.fuse), *self._options.fuse, *named}
                pyfuse3.init(operations, str(self._mountpoint), fuse)
                try:
                    await self._answer(signals)
                finally:
                    pyfuse3.close(unmount=True)
                    with trio.move_on_after(_PATIENCE, shield=True):
                        await imports.abandon()
                        await self.workers.rest()
                nursery.cancel_scope.cancel()

    async def _answer(self, signals: AsyncIterator[int]) -> None:
        async with trio.open_nursery() as nursery:
            assert self._operations is not None
            nursery.start_soon(_stop_on, signals, nursery.cancel_scope)
            nursery.start_soon(self._operations.callers.watch)
            nursery.start_soon(self._names.expire)
            nursery.start_soon(drop_gone_names, self._tree, self._operations.inodes, self.workers)
            nursery.start_soon(self._passthrough.close_idle)
            nursery.start_soon(self.workers.read, raise_read_ahead, self._mountpoint)
            if self._options.gc_interval is not None:
                nursery.start_soon(_collect_every, self._options.gc_interval, self._engine)
            self._ready()
            nursery.start_soon(self.workers.read, warm_up.warm_caches)
            await pyfuse3.main(max_tasks=_MAX_REQUESTS)
            nursery.cancel_scope.cancel()

    def _make_imports(self, nursery: trio.Nursery) -> ImportDirectory:
        options = ImportOptions(limits=self._options.limits)
        return ImportDirectory(
            lambda: self._engine.begin_import(options),
            self._engine.path,
            nursery,
            self.workers,
            Gathers(self._options.session),
            self._failed,
        )

    def _wire(self, imports: ImportDirectory) -> Operations:
        fixed: dict[str, Node] = {
            "import": imports,
            ".imgfs": StatusDirectory(lambda: self._status(imports), imports, self._engine.events),
        }
        names = self._options.names
        tree = self._tree = ImageTree(self._engine, self._options.view, fixed, names)
        inodes = Inodes(tree.root)
        self._names = NameCache(NameLock(self._engine.path), tree.version)
        self._operations = Operations(
            tree,
            inodes,
            self._names,
            self._passthrough,
            self.workers,
            self._engine.path,
            self._mountpoint,
        )
        return self._operations

    def _status(self, imports: ImportDirectory) -> dict[str, object]:
        assert self._operations is not None
        return {
            "store": str(self._engine.path),
            "mountpoint": str(self._mountpoint),
            "pid": os.getpid(),
            "images": self._engine.images.count(),
            "inodes": len(self._operations.inodes),
            "handles": self._operations.open_handles,
            "imports": imports.counts(),
            "passthrough": self._passthrough.told,
            "backing_files": len(self._passthrough),
        }

    async def _failed(self, name: str, reason: str) -> None:
        """A failed load is logged, and is an event of the store."""
        log.warning("import/%s was not loaded: %s", printable(name), reason)
        try:
            await self.workers.write(self._engine.events.add_failure, name, reason)
        except (EngineError, OSError) as error:
            log.warning("there is no event of it: %s", error)


def _checks(fuse: Collection[str]) -> set[str]:
    """Let the kernel check modes where root lets others in.

    Elsewhere it would ask for a directory's mode again and again, to keep root from nothing, and an
    ordinary user from removing what stands in image directories, which are read-only. The handlers
    see to it that only the owner changes anything; whom he lets in may read everything.
    """
    is_checked = os.getuid() == 0 and "allow_other" in fuse
    return set(pyfuse3.default_options) - (set() if is_checked else {"default_permissions"})


def _cause(error: BaseException) -> BaseException:
    """What went wrong in a nursery, if it was one thing."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


async def _stop_on(signals: AsyncIterator[int], serving: trio.CancelScope) -> None:
    """Take no more requests; those that are not answered in time never are."""
    async for number in signals:
        log.info("ending on signal %d", number)
        pyfuse3.terminate()
        serving.deadline = min(serving.deadline, trio.current_time() + _PATIENCE)


async def _collect_every(seconds: float, engine: Engine) -> None:
    while True:
        await trio.sleep(seconds)
        try:
            await trio.to_thread.run_sync(_collect, engine)
        except (EngineError, OSError) as error:
            log.warning("collecting failed: %s", error)


def _collect(engine: Engine) -> None:
    """A collection in a worker thread, which the end of the mount ends."""
    for garbage in engine.collector().collect():
        log.info("removed %s %s", garbage.kind, garbage.name)
        trio.from_thread.check_cancelled()

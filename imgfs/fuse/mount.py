"""The life of a mount: FUSE_INIT, readiness, signals and a clean end.

pyfuse3 keeps its session in module globals, so a process can have one mount.
"""

import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from pathlib import Path

import msgspec
import pyfuse3
import trio

from engine.archive.directory_import import DirectoryImport
from engine.archive.import_options import ImportOptions
from engine.archive.importer import Import
from engine.errors import EngineError, StoreError, printable
from engine.layouts import warm_up
from engine.limits import Limits
from engine.stores.open import create_store
from engine.stores.protocols import Store
from imgfs.fuse.gather import NativeGathers
from imgfs.fuse.gone_names import drop_gone_names
from imgfs.fuse.handlers import Operations
from imgfs.fuse.inodes import Inodes
from imgfs.fuse.name_cache import NameCache
from imgfs.fuse.native.library import NativeLibrary
from imgfs.fuse.passthrough import Passthrough
from imgfs.fuse.read_ahead import raise_read_ahead
from imgfs.imports.directory import ImportDirectory
from imgfs.imports.open_files import is_open
from imgfs.imports.services import ImportServices
from imgfs.mounts import device_at
from imgfs.threads import DiskThreads
from imgfs.vfs.blob_files import blob_opener
from imgfs.vfs.names import FAMILIAR, Names
from imgfs.vfs.nodes import FixedDirectory, Node
from imgfs.vfs.status import StatusDirectory
from imgfs.vfs.tree import ImageTree
from imgfs.vfs.views import CombinedView, View

log = logging.getLogger(__name__)

_PATIENCE = 5.0
"""Seconds that running requests have to finish when the mount ends, and that the abort of running
imports then has.
"""
_LINGER = 1.0
"""Seconds for which a layer stays open after its last file is closed, or twice as long."""
DAY = 86400.0
_MAX_REQUESTS = 1000
"""The number of requests that are handled at a time."""


class MountOptions(msgspec.Struct, frozen=True):
    """The options of a mount.

    `fuse` holds options of the kernel and fusermount3, `source` is the source in /proc/mounts.
    Garbage is collected every `gc_interval` seconds, unless that is None. An unfinished directory
    of `import/` is dropped after `import_expiry` seconds without a change. `native` is the native
    library, or the reason why it cannot be used; `passthrough` allows the kernel to read blobs
    itself. The root of the mount shows the images as `shows`: ROOTFS, LAYERS or
    ADDITIONAL_LAYERS, or as `view` if it is "".
    """

    view: View = msgspec.field(default_factory=CombinedView)
    limits: Limits = msgspec.field(default_factory=Limits)
    gc_interval: float | None = None
    import_expiry: float = DAY
    fuse: tuple[str, ...] = ()
    source: str = "imgfs"
    native: NativeLibrary | str = "not asked for"
    passthrough: bool = True
    names: Names = FAMILIAR
    shows: str = ""


def serve(
    location: str, mountpoint: Path, options: MountOptions, ready: Callable[[], None]
) -> None:
    """Mount the store at `location`, and answer the kernel until it is unmounted or SIGTERM, SIGINT
    or SIGHUP comes.

    `ready` is called once the mount can be used. Raise StoreError, OSError or RuntimeError if the
    store cannot be mounted.
    """
    with create_store(location) as store:
        if store.directory.resolve().is_relative_to(mountpoint.resolve()):
            reason = f"the mount on {mountpoint} would hide {store.directory}, which it needs"
            raise StoreError(location, f"{reason}; mount on another directory")
        mount = _Mount(store, mountpoint, options, ready)
        # A signal handler that raises would break the event loop.
        for number in _ending_signals():
            signal.signal(number, signal.SIG_DFL)
        try:
            trio.run(mount.run)
        except BaseExceptionGroup as group:
            raise _cause(group) from group
        if mount.workers.busy:
            # Closing the database would wait for the threads. Open transactions are rolled back.
            log.error("ended, while the store's disk does not answer")
            os._exit(1)


class _Mount:
    def __init__(
        self, store: Store, mountpoint: Path, options: MountOptions, ready: Callable[[], None]
    ) -> None:
        self._store = store
        self._mountpoint = mountpoint.resolve()
        self._given = mountpoint
        """The mount point by the name that it was given, which may have symlinks in it."""
        self._options = options
        self._ready = ready
        native = options.native if options.passthrough else "switched off"
        self._passthrough = Passthrough(native, store.directory)
        self._operations: Operations | None = None
        self._collected: dict[str, int] | None = None
        """The removals of the running collection so far, None while none runs."""
        self.workers = DiskThreads()

    async def run(self) -> None:
        """Serve until the mount ends; ignore signals that arrive while it ends."""
        with trio.open_signal_receiver(*_ending_signals()) as signals:
            async with trio.open_nursery() as nursery:
                imports = self._make_imports(nursery)
                operations = self._wire(imports)
                named = {_source_option(self._options.source), "subtype=imgfs"}
                fuse = {*_checks(self._options.fuse), *self._options.fuse, *named}
                pyfuse3.init(operations, str(self._mountpoint), fuse)
                operations.answer_directly()
                device = device_at(self._mountpoint)
                try:
                    await self._answer(signals, imports)
                finally:
                    # Another mount may stand at the path: in front of this one, or after umount -l.
                    pyfuse3.close(unmount=device_at(self._mountpoint) == device)
                    with trio.move_on_after(_PATIENCE, shield=True):
                        await imports.abandon()
                        await self.workers.rest()
                nursery.cancel_scope.cancel()

    async def _answer(self, signals: AsyncIterator[int], imports: ImportDirectory) -> None:
        async with trio.open_nursery() as nursery:
            assert self._operations is not None
            nursery.start_soon(_stop_on, signals, nursery.cancel_scope)
            nursery.start_soon(self._operations.callers.watch)
            nursery.start_soon(self._names.expire)
            nursery.start_soon(drop_gone_names, self._tree, self._operations.inodes, self.workers)
            nursery.start_soon(self._passthrough.close_idle)
            nursery.start_soon(self._close_idle_layers)
            nursery.start_soon(self.workers.read, raise_read_ahead, self._mountpoint)
            nursery.start_soon(imports.expire, self._options.import_expiry)
            if self._options.gc_interval is not None:
                nursery.start_soon(self._collect_every, self._options.gc_interval)
            self._ready()
            nursery.start_soon(self._warm_caches)
            await pyfuse3.main(max_tasks=_MAX_REQUESTS)
            nursery.cancel_scope.cancel()

    async def _warm_caches(self) -> None:
        """Import in a thread for which the end of the mount does not wait."""
        try:
            await trio.to_thread.run_sync(warm_up.warm_caches, abandon_on_cancel=True)
        except (OSError, ImportError) as error:  # what needs the modules imports them again
            log.warning("importing ahead failed: %s", error)

    async def _collect_every(self, seconds: float) -> None:
        while True:
            await trio.sleep(seconds)
            try:
                await trio.to_thread.run_sync(self._collect)
            except (EngineError, OSError) as error:
                log.warning("collecting failed: %s", error)
            finally:
                self._collected = None

    def _collect(self) -> None:
        """Collect garbage in a worker thread, until the mount ends."""
        freed = 0
        self._collected = {"removed": 0, "bytes": 0}
        for number, garbage in enumerate(self._store.collect(), 1):
            log.info("removed %s %s", garbage.kind, garbage.name)
            freed += garbage.size
            self._collected = {"removed": number, "bytes": freed}
            trio.from_thread.check_cancelled()

    async def _close_idle_layers(self) -> None:
        while True:
            await trio.sleep(_LINGER)
            await self.workers.read(self._tree.roots.opened.close_idle)

    def _make_imports(self, nursery: trio.Nursery) -> ImportDirectory:
        options = ImportOptions(limits=self._options.limits)
        return ImportDirectory(
            ImportServices(
                lambda: Import(self._store, options),
                lambda name: DirectoryImport(self._store, options, name),
                blob_opener(self._store.content),
                self._store.directory,
                nursery,
                self.workers,
                NativeGathers(self._options.native).make,
                self._failed,
                lambda path: is_open(path, device_at(self._mountpoint)),
            )
        )

    def _wire(self, imports: ImportDirectory) -> Operations:
        fixed: dict[str, Node] = {
            "import": imports if self._store.supports_changes else FixedDirectory("import", {}),
            ".imgfs": self._status_directory(imports),
        }
        names = self._options.names
        tree = self._tree = ImageTree(self._store, self._options.view, fixed, names)
        inodes = Inodes(tree.rooted(self._options.shows), tree.roots)
        self._names = NameCache(self._store.name_lock, tree.version)
        self._operations = Operations(
            inodes,
            self._names,
            self._passthrough,
            self._options.native,
            self.workers,
            self._store.disk,
            (self._mountpoint, self._given),
        )
        return self._operations

    def _status_directory(self, imports: ImportDirectory) -> StatusDirectory:
        """Return `.imgfs/`, which counts the images of a remote store in a worker."""
        images = self._store.images

        def status() -> dict[str, object]:
            return self._status(imports, images.count())

        def status_in_worker() -> dict[str, object]:
            return trio.from_thread.run_sync(self._status, imports, images.count())

        read = status_in_worker if images.is_remote else status
        return StatusDirectory(read, imports, self._store.events, images.is_remote)

    def _status(self, imports: ImportDirectory, images: int) -> dict[str, object]:
        assert self._operations is not None
        return {
            "store": self._store.location,
            "mountpoint": str(self._mountpoint),
            "pid": os.getpid(),
            "images": images,
            "inodes": len(self._operations.inodes),
            "handles": self._operations.open_handles,
            "imports": imports.counts(),
            "loading": imports.loading(),
            "collecting": self._collected,
            "passthrough": self._passthrough.status,
            "backing_files": len(self._passthrough),
            "roots": self._tree.roots.status(),
        }

    async def _failed(self, name: str, reason: str) -> None:
        """Log a failed load, and add it to the store's events."""
        log.warning("import/%s was not loaded: %s", printable(name), reason)
        try:
            await self.workers.write(self._store.events.add_failure, name, reason)
        except (EngineError, OSError) as error:
            log.warning("there is no event of it: %s", error)
        except Exception:  # would end the mount
            log.exception("there is no event of it")


def _checks(fuse: Collection[str]) -> set[str]:
    """Return the default options, with `default_permissions` only if root admits other users.

    Otherwise the kernel would query the mode of a directory again and again, and it would not let a
    user remove entries of image directories, which are read-only. The handlers allow changes to the
    owner alone; other users that the mount admits may read everything.
    """
    is_checked = os.getuid() == 0 and "allow_other" in fuse
    return set(pyfuse3.default_options) - (set() if is_checked else {"default_permissions"})


def _source_option(source: str) -> str:
    """Return the option that names the source in /proc/mounts.

    pyfuse3 takes ASCII only, so every other byte is written as \\xNN.
    """
    shown = os.fsencode(source).decode("ascii", errors="backslashreplace")
    return "fsname=" + shown.replace("\\", "\\\\").replace(",", "\\,")


def _cause(error: BaseException) -> BaseException:
    """Return the only exception in nested groups, or the group with several."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _ending_signals() -> Sequence[int]:
    """Return the signals that end the mount: those that the caller of the process does not ignore,
    and SIGALRM, with which the command line repeats one that came too early.
    """
    wanted = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM)
    return [number for number in wanted if signal.getsignal(number) is not signal.SIG_IGN]


async def _stop_on(signals: AsyncIterator[int], serving: trio.CancelScope) -> None:
    """Accept no more requests after a signal, and cancel those that run after _PATIENCE."""
    async for number in signals:
        log.info("ending on signal %d", number)
        pyfuse3.terminate()
        serving.deadline = min(serving.deadline, trio.current_time() + _PATIENCE)

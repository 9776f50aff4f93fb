"""The blobs of the store that a load relies on, protected by a lease."""

from contextlib import ExitStack
from threading import Lock

from engine.spec.digest import Digest
from engine.stores.protocols import Store
from engine.stores.records import Lease


class HeldBlobs:
    """Blobs that may not be collected until they are released. Safe from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = Lock()
        self._stack = ExitStack()
        self._lease: Lease | None = None
        self._digests: set[Digest] = set()

    def hold(self, digest: Digest) -> None:
        """Hold a blob, stored or not."""
        with self._lock:
            if digest in self._digests:
                return
            if self._lease is None:
                self._lease = self._stack.enter_context(self._store.leases.hold())
            self._store.leases.add(self._lease.id, digest)
            self._digests.add(digest)

    def release(self, digests: set[Digest]) -> None:
        """Release these blobs, which something else protects by now.

        If the others cannot be held anew, all stay held, and the error of the store is raised.
        """
        with self._lock:
            if not digests & self._digests:
                return
            kept, old = self._digests - digests, self._stack
            self._stack, self._lease = self._held_anew(kept)
            self._digests = kept
            old.close()

    def close(self) -> None:
        """Release all blobs."""
        with self._lock:
            self._lease = None
            self._digests.clear()
            self._stack.close()

    def _held_anew(self, digests: set[Digest]) -> tuple[ExitStack, Lease | None]:
        """Return a new lease of these blobs and the stack that ends it; no lease for no blobs."""
        if not digests:
            return ExitStack(), None
        with ExitStack() as stack:
            lease = stack.enter_context(self._store.leases.hold())
            with self._store.transaction():
                for digest in sorted(digests):
                    self._store.leases.add(lease.id, digest)
            return stack.pop_all(), lease

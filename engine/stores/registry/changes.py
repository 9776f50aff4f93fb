"""The names that a transaction changes: they are sent to the registry at its end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from engine.image import Image

Pending = dict[str, Image | None]
"""New images by full name; None for a name that is removed."""


class _Local(threading.local):
    pending: Pending | None = None


class Changes:
    """The open transactions of a store, one a thread.

    The blobs and records of a transaction are committed to the cache first, where they are nothing
    but cached. Then its names are sent to the registry. So no lock is held while blobs are sent,
    and a registry that refuses them leaves every name as it was.
    """

    def __init__(
        self,
        transaction: Callable[[], AbstractContextManager[object]],
        send: Callable[[Mapping[str, Image | None]], None],
    ) -> None:
        """`transaction` is that of the cache; `send` takes names to the registry, or raises."""
        self._transaction = transaction
        self._send = send
        self._local = _Local()

    @property
    def pending(self) -> Pending:
        """The changes of the calling thread's transaction so far."""
        return {} if self._local.pending is None else self._local.pending

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Enter a transaction, or a part of the calling thread's: as `Store.transaction`."""
        outer = self._local.pending
        pending: Pending = dict(outer or {})
        self._local.pending = pending
        try:
            with self._transaction():
                yield
            if outer is None and pending:
                self._send(pending)
        finally:
            self._local.pending = outer
        if outer is not None:
            outer.update(pending)

"""The names that a transaction changes: they are sent to the registry at its end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress

import msgspec

from engine.image import Image

Pending = dict[str, Image | None]
"""New images by full name; None for a name that is removed."""


class _Open(msgspec.Struct):
    """A transaction so far."""

    names: Pending = {}
    afterwards: list[Callable[[], None]] = []

    def part(self) -> _Open:
        """Return what a part of the transaction starts with."""
        return _Open(dict(self.names), list(self.afterwards))


class _TakenBack(Exception):
    """The end of a part of a transaction that changes nothing."""


class _Local(threading.local):
    opened: _Open | None = None


class Changes:
    """The open transactions of a store, one a thread.

    The blobs and records of a transaction are committed to the cache first, where they are nothing
    but cached. Then its names are sent to the registry, so that no lock is held meanwhile. What the
    registry has accepted, and the events that tell of it, are committed to the cache together. They
    are written there before, and taken back, so that nothing is sent if the cache is full.
    """

    def __init__(
        self,
        transaction: Callable[[], AbstractContextManager[object]],
        send: Callable[[Mapping[str, Image | None]], None],
        doubting: Callable[[Mapping[str, Image | None]], AbstractContextManager[None]],
        settle: Callable[[Mapping[str, Image | None]], None],
    ) -> None:
        """`transaction` is that of the cache; `send` takes names to the registry, or raises;
        `settle` notes in the cache what was sent; `doubting` encloses both.
        """
        self._transaction = transaction
        self._send = send
        self._doubting = doubting
        self._settle = settle
        self._local = _Local()

    @property
    def pending(self) -> Pending:
        """The changes of the calling thread's transaction so far."""
        return {} if self._local.opened is None else self._local.opened.names

    def afterwards(self, action: Callable[[], None]) -> None:
        """Do something in the cache once the registry has accepted the calling thread's
        transaction, which must be open.
        """
        assert self._local.opened is not None
        self._local.opened.afterwards.append(action)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Enter a transaction, or a part of the calling thread's: as `Store.transaction`."""
        outer = self._local.opened
        opened = self._local.opened = outer.part() if outer else _Open()
        try:
            with self._transaction():
                yield
                if outer is None:
                    self._rehearse(opened) if opened.names else self._end(opened)
            if outer is None and opened.names:
                with self._doubting(opened.names):
                    self._send(opened.names)
                    with self._transaction():
                        self._end(opened)
        finally:
            self._local.opened = outer
        if outer is not None:
            outer.names.update(opened.names)
            outer.afterwards = opened.afterwards

    def _rehearse(self, opened: _Open) -> None:
        """Write to the cache what the end will, and take it back; raise the error of the cache."""
        with suppress(_TakenBack), self._transaction():
            self._end(opened)
            raise _TakenBack

    def _end(self, opened: _Open) -> None:
        """Note in the cache what the registry has accepted."""
        self._settle(opened.names)
        for action in opened.afterwards:
            action()

"""Layers that a tree lacks although the store may get them, and whether it has got one."""

from collections.abc import Iterable, Mapping

import msgspec
from msgspec.structs import replace

from engine.errors import NotFound
from engine.stores.protocols import Store

Times = Mapping[str, float | None]
"""The times at which a store got layers, by their digests, None for those that it does not have."""


class Lacking(msgspec.Struct, frozen=True):
    """Layers that a tree lacks in whole or in part, as the store had them before the tree was made.

    `version` is that of the store then, or when it was last seen to have the same layers.
    """

    times: Times
    version: int

    def is_current(self, store: Store) -> bool:
        """Return whether the store has not changed since."""
        return self.version == store.version()

    def renewed(self, store: Store) -> "Lacking | None":
        """Return the same of the store as it is now, None if it has got another of the layers."""
        version = store.version()
        return replace(self, version=version) if self.times == times(store, self.times) else None


def times(store: Store, digests: Iterable[str]) -> Times:
    """Return when a store got layers."""
    found: dict[str, float | None] = {}
    for digest in digests:
        try:
            found[digest] = store.content.info(digest).created_at
        except NotFound:
            found[digest] = None
    return found

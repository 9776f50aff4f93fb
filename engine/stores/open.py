"""Open or create the store at a location.

No other module of the product knows the kinds of stores, except the commands that inspect a local
store.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from engine.errors import StoreError

if TYPE_CHECKING:
    from engine.stores.protocols import Store

_REGISTRIES: Final = ("registry", "registry+http", "registry+https")


def open_store(location: str) -> Store:
    """Open the store at a location, which must be there.

    Raise StoreMissing if there is none yet, StoreError if it cannot be opened.
    """
    from engine.stores.local.store import LocalStore

    return _at_url(location) or LocalStore.open(_path(location))


def create_store(location: str) -> Store:
    """Open the store at a location, or make one if there is none; raise StoreError."""
    from engine.stores.local.store import LocalStore

    return _at_url(location) or LocalStore.create(_path(location))


def _at_url(location: str) -> Store | None:
    """Return the store of a URL of a known kind, None for any other location."""
    kind, separator, _ = location.partition("://")
    if separator and kind in _REGISTRIES:
        from engine.stores.registry.store import RegistryStore  # it imports an HTTP client

        return RegistryStore.at(location)
    return None


def _path(location: str) -> Path:
    kind, separator, _ = location.partition("://")
    if separator and kind.isalnum():
        raise StoreError(location, f"expected a path, found a URL of the unknown kind {kind}")
    return Path(location)

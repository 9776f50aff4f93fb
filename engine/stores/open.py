"""Open or create the store at a location.

No other module of the product knows the kinds of stores, except the commands that inspect a local
store.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from engine.errors import StoreError

if TYPE_CHECKING:
    from engine.stores.containerd.store import ContainerdStore
    from engine.stores.protocols import Store

_REGISTRIES: Final = ("registry", "registry+http", "registry+https")
_CONTAINERD: Final = ("containerd", "docker")
_KINDS: Final = ", ".join((*_CONTAINERD, *_REGISTRIES))


def open_store(location: str) -> Store:
    """Open the store at a location, which must be there.

    Raise StoreMissing if there is none yet, StoreError if it cannot be opened.
    """
    from engine.stores.local.store import LocalStore

    if _kind(location) in _CONTAINERD:
        return _containerd(location).open(location)
    return _at_url(location) or LocalStore.open(_path(location))


def create_store(location: str) -> Store:
    """Open the store at a location, or make one if there is none; raise StoreError."""
    from engine.stores.local.store import LocalStore

    if _kind(location) in _CONTAINERD:
        return _containerd(location).create(location)
    return _at_url(location) or LocalStore.create(_path(location))


def _at_url(location: str) -> Store | None:
    """Return the store of a URL whose store is opened as it is created, None for any other."""
    if _kind(location) in _REGISTRIES:
        from engine.stores.registry.store import RegistryStore  # it imports an HTTP client

        return RegistryStore.at(location)
    return None


def _containerd(location: str) -> type[ContainerdStore]:
    """Return the store of containerds; raise StoreError if its libraries are not installed."""
    try:
        from engine.stores.containerd.store import ContainerdStore  # it imports gRPC
    except ModuleNotFoundError as error:
        raise StoreError(
            location,
            f"needs the Python module {error.name}, which is not installed;"
            " install imgfs[containerd], or python3-grpcio and python3-protobuf",
        ) from error
    return ContainerdStore


def _kind(location: str) -> str:
    """Return the kind of a URL, "" for a path."""
    kind, separator, _ = location.partition("://")
    return kind if separator else ""


def _path(location: str) -> Path:
    if (kind := _kind(location)).isalnum():
        raise StoreError(location, f"expected a path or a URL of {_KINDS}, found the kind {kind}")
    return Path(location)

"""Layers that are open for reading, one for all files of a layer that are open."""

import threading

import msgspec

from engine.layers.layer import Layer, Layers


class _Open(msgspec.Struct):
    layer: Layer
    users: int = 0
    is_idle: bool = False


class OpenLayers:
    """The layers of which files are open; safe from any thread.

    A layer stays open for a while after its last file is closed, since the next file that a program
    reads is often in the same layer. `close_idle` ends that, so that a removed layer frees its disk
    space.
    """

    def __init__(self, layers: Layers) -> None:
        self._layers = layers
        self._open: dict[str, _Open] = {}
        self._lock = threading.Lock()

    def take(self, digest: str) -> Layer:
        """Return an open layer, to be given back; it may have to be opened.

        Raise as `Layers.open` does.
        """
        with self._lock:
            found = self._open.get(digest)
            if found is not None:
                return _used(found)
        opened = self._layers.open(digest)
        with self._lock:
            found = self._open.setdefault(digest, _Open(opened))
            _used(found)
        if found.layer is not opened:
            opened.close()
        return found.layer

    def give_back(self, digest: str) -> None:
        """Count one user of an open layer less."""
        with self._lock:
            found = self._open[digest]
            found.users -= 1
            found.is_idle = False

    def is_open(self, digest: str) -> bool:
        """Return whether `take` need not open a layer."""
        return digest in self._open

    def close_idle(self) -> None:
        """Close the layers that nobody has used since the last call."""
        with self._lock:
            idle = [digest for digest, one in self._open.items() if not one.users and one.is_idle]
            closing = [self._open.pop(digest) for digest in idle]
            for one in self._open.values():
                one.is_idle = True
        for one in closing:
            one.layer.close()


def _used(found: _Open) -> Layer:
    found.users += 1
    found.is_idle = False
    return found.layer

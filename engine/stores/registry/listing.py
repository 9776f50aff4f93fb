"""The repositories and tags of a registry, remembered for a moment."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from enum import Enum
from threading import Lock
from typing import Final, Generic, TypeVar

import msgspec

from engine.errors import AccessDenied, InvalidDigest, InvalidReference, NotFound, Unreachable
from engine.spec import reference
from engine.stores.registry.api import Reading
from engine.stores.registry.client import Refused
from engine.stores.registry.location import Location

_K = TypeVar("_K")
_V = TypeVar("_V")
KEPT_SECONDS: Final = 5.0
"""Seconds for which an answer about names is remembered."""
_KEPT: Final = 100_000
_REFERRERS: Final = re.compile(r"[a-z0-9]+-[0-9a-f]{64}")


class ShortMemory(Generic[_K, _V]):
    """Answers that are remembered for a moment. Safe from any thread."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._lock = Lock()
        self._known: dict[_K, tuple[float, _V]] = {}

    def get(self, key: _K) -> _V | None:
        """Return the answer for a key, None if there is none that is young enough."""
        found = self._known.get(key)
        return found[1] if found and self._clock() < found[0] else None

    def put(self, key: _K, value: _V) -> None:
        """Remember an answer from now on."""
        with self._lock:
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[key] = self._clock() + self._seconds, value

    def drop(self, key: _K) -> None:
        """Forget the answer for a key."""
        with self._lock:
            self._known.pop(key, None)

    def clear(self) -> None:
        """Forget all answers."""
        with self._lock:
            self._known.clear()


class Repositories(msgspec.Struct, frozen=True):
    """The repositories below a prefix; `is_complete` is whether the registry lists all of them."""

    names: tuple[str, ...]
    is_complete: bool


class Untold(Enum):
    """The kind of `UNTOLD`."""

    UNTOLD = "untold"


UNTOLD: Final = Untold.UNTOLD
"""Stands for the names of a registry that does not list them."""


class Listing:
    """The names in a registry, as far as it tells them. Safe from any thread."""

    def __init__(self, reading: Reading, location: Location, version: Callable[[], int]) -> None:
        """`version` returns another number once names were changed; earlier answers are then
        forgotten.
        """
        self._reading = reading
        self._location = location
        self._version = version
        self._known_version = -1
        self._repositories = ShortMemory[int, Repositories](KEPT_SECONDS)
        self._tags = ShortMemory[tuple[int, str], tuple[str, ...] | Untold](KEPT_SECONDS)

    def repositories(self) -> Repositories:
        """Return the full names of the repositories below the store's prefix; those of a registry
        that lists none, or that does not answer, are not complete.
        """
        version = self._current_version()
        found = self._repositories.get(version)
        if found is None:
            try:
                found = Repositories(tuple(sorted(self._below())), True)
            except (AccessDenied, NotFound, Refused):
                found = Repositories((), False)
            except Unreachable:
                return Repositories((), False)
            self._repositories.put(version, found)
        return found

    def tags(self, repository: str) -> tuple[str, ...] | Untold:
        """Return the tags of a repository, given by its full name; UNTOLD if the registry has no
        list of them. Raise AccessDenied, Unreachable.
        """
        version = self._current_version()
        found = self._tags.get((version, repository))
        if found is None:
            path = repository.partition("/")[2]
            try:
                found = tuple(sorted(set(filter(_can_be_tag, self._reading.tags(path)))))
            except (NotFound, Refused):
                found = UNTOLD
            self._tags.put((version, repository), found)
        return found

    def forget(self) -> None:
        """Ask the registry again from now on."""
        self._repositories.clear()
        self._tags.clear()

    def _current_version(self) -> int:
        version = self._version()
        if version != self._known_version:
            self.forget()
            self._known_version = version
        return version

    def _below(self) -> set[str]:
        root, host = self._location.root, self._location.host
        names = {f"{host}/{path}" for path in self._reading.repositories() if _is_path(host, path)}
        return {name for name in names if name.startswith(root)}


def _can_be_tag(text: str) -> bool:
    """Return whether an image can have this tag; one of an index of referrers has none."""
    return reference.is_tag(text) and not _REFERRERS.fullmatch(text)


def _is_path(host: str, path: str) -> bool:
    """Return whether a reference can have this path; a registry may say anything."""
    try:
        found = reference.parse_normalized(f"{host}/{path}")
        return found.is_name_only and str(found) == f"{host}/{path}"
    except (InvalidReference, InvalidDigest):
        return False

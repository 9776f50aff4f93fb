"""Clients of a registry that hold an answer back, or refuse a request in the place of it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from urllib3.response import BaseHTTPResponse

from engine.errors import EngineError
from engine.stores.registry.client import Client
from engine.stores.registry.location import parse_location
from engine.stores.registry.store import RegistryStore


class FaultyClient(Client):
    """A client of a registry that answers as a test says."""

    def __init__(self, host: str, cache: Path) -> None:
        super().__init__(parse_location(f"registry://{host}?cache={cache}"), lambda _: None)
        self.refused: dict[tuple[str, str], EngineError] = {}
        """Errors in the place of answers, by method and the last part of a path."""
        self.meanwhile: dict[tuple[str, str], Callable[[], None]] = {}
        """What is done before the next such request is made."""
        self.made: list[tuple[str, str]] = []
        """The methods and paths of requests."""
        self.held: tuple[str, str] | None = None
        """The method and the end of the path of the request whose next answer is held."""
        self.has_answer = Event()
        self.released = Event()

    def request(
        self,
        method: str,
        path: str,
        scopes: tuple[str, ...] = (),
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> BaseHTTPResponse:
        self.made.append((method, path))
        key = method, path.rpartition("/")[2]
        if meanwhile := self.meanwhile.pop(key, None):
            meanwhile()
        if error := self.refused.get(key):
            raise error
        with self._holding(method, path):
            return super().request(method, path, scopes, headers, body)

    @contextmanager
    def _holding(self, method: str, path: str) -> Iterator[None]:
        """Hold the answer, also an error, if it is the one to be held."""
        is_held = self.held is not None and method == self.held[0] and self.held[1] in path
        if is_held:
            self.held = None
        try:
            yield
        finally:
            if is_held:
                self.has_answer.set()
                assert self.released.wait(30)

    def store(self) -> RegistryStore:
        """Open a store with this client."""
        return RegistryStore(self.location, self)

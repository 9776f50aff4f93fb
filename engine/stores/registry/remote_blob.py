"""A blob of a registry, which several repositories may have."""

from __future__ import annotations

from urllib3.response import BaseHTTPResponse

from engine.errors import AccessDenied, NotFound
from engine.stores.registry.api import Reading
from engine.stores.registry.location import Location
from engine.stores.registry.sources import Source, Sources


class RemoteBlob:
    """A blob, requested from one repository after the other until one gives it. Safe from any
    thread.
    """

    def __init__(
        self, reading: Reading, location: Location, sources: Sources, source: Source
    ) -> None:
        """`source` is one of the `sources`, which may change meanwhile."""
        self.digest = source.digest
        self.size = source.size
        self._reading = reading
        self._location = location
        self._sources = sources
        self._giver = source
        self._last: frozenset[str] = frozenset()
        """The repositories that are asked after all others."""

    def request(self, first: int, last: int) -> BaseHTTPResponse:
        """Return the answer to a request for bytes, as `Reading.blob` does, of the first repository
        that gives them; forget those before it that do not have the blob.

        Raise AccessDenied, or NotFound if no repository has the blob. It may be lacking for a
        moment only, so its sources stay.
        """
        lacking: list[Source] = []
        denied: AccessDenied | None = None
        for source in self._in_order():
            path = self._location.repository(source.repository)
            try:
                response = self._reading.blob(path, self.digest, first, last)
            except NotFound:
                lacking.append(source)
            except AccessDenied as error:
                denied = denied or error
                self._last |= {source.repository}
            else:
                for each in lacking:
                    self._sources.remove(each.digest, each.repository)
                self._giver = source
                return response
        raise denied or NotFound("blob", self.digest)

    def turn(self) -> None:
        """Ask other repositories first from now on: what the last one gave was wrong."""
        self._last |= {self._giver.repository}

    def _in_order(self) -> list[Source]:
        found = self._sources.find(self.digest)
        return sorted(found, key=lambda source: source.repository in self._last)

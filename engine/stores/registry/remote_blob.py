"""A blob of a registry, which several repositories may have."""

from __future__ import annotations

from collections.abc import Sequence

from urllib3.response import BaseHTTPResponse

from engine.errors import AccessDenied, EngineError, NotFound
from engine.stores.registry.api import Reading
from engine.stores.registry.location import Location
from engine.stores.registry.sources import Source, Sources


class RemoteBlob:
    """A blob, requested from one repository after the other until one gives it. Safe from any
    thread.
    """

    def __init__(
        self, reading: Reading, location: Location, sources: Sources, found: Sequence[Source]
    ) -> None:
        """`found` are the sources of the blob, at least one."""
        self.digest = found[0].digest
        self.size = found[0].size
        self._reading = reading
        self._location = location
        self._sources = sources
        self._order = tuple(found)

    def request(self, first: int, last: int) -> BaseHTTPResponse:
        """Return the answer to a request for bytes, as `Reading.blob` does, of the first repository
        that gives them; forget those before it that do not have the blob.

        Raise AccessDenied, or NotFound if no repository has the blob. It may be lacking for a
        moment only, so its sources stay.
        """
        order = self._order
        lacking: list[Source] = []
        denied: EngineError | None = None
        for source in order:
            path = self._location.repository(source.repository)
            try:
                response = self._reading.blob(path, self.digest, first, last)
            except NotFound:
                lacking.append(source)
            except AccessDenied as error:
                denied = denied or error
            else:
                self._prefer(source, lacking)
                return response
        raise denied or NotFound("blob", self.digest)

    def turn(self) -> None:
        """Ask the repository that was asked first after all others from now on."""
        first, *others = self._order
        self._order = (*others, first)

    def _prefer(self, source: Source, lacking: Sequence[Source]) -> None:
        for each in lacking:
            self._sources.remove(each.digest, each.repository)
        if self._order[0] != source:
            others = [each for each in self._order if each not in (source, *lacking)]
            self._order = (source, *others)

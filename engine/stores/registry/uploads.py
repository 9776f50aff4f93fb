"""The requests of the OCI distribution specification that write blobs and manifests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import quote

from urllib3.response import BaseHTTPResponse

from engine.content.protocols import ReaderAt
from engine.errors import AccessDenied, NotFound, StoreError, Unreachable
from engine.stores.registry.api import Manifest, Reading
from engine.stores.registry.client import Client, Refused, stated_number

_CHUNK: Final = 16 << 20
"""Bytes that are sent in one request, unless the registry wants more."""
_LARGEST_CHUNK: Final = 256 << 20
_ATTEMPTS: Final = 5
"""Requests for a blob after which a registry counts as unreachable."""
_BYTES: Final = "application/octet-stream"
_WRONG_RANGE: Final = 416


def push_scopes(repository: str, source: str = "") -> tuple[str, ...]:
    """Return the scopes of a token to write to a repository, and to read from another."""
    scopes = (f"repository:{repository}:pull,push",)
    return (*scopes, f"repository:{source}:pull") if source else scopes


class Uploads:
    """The requests to one registry that add something. Safe from any thread."""

    def __init__(self, client: Client, reading: Reading) -> None:
        self._client = client
        self._reading = reading

    def has_blob(self, repository: str, digest: str) -> bool:
        """Return whether a repository has a blob."""
        path = f"/v2/{repository}/blobs/{digest}"
        try:
            self._client.request("HEAD", path, push_scopes(repository))
        except NotFound:
            return False
        return True

    def blob(
        self, repository: str, digest: str, source: str, opened: Callable[[], ReaderAt]
    ) -> None:
        """Give a repository a blob that it does not have: by a mount from the repository `source`,
        unless that is "", or by sending what `opened` returns.
        """
        with self._client.transfer():
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    if not self.has_blob(repository, digest):
                        self._start_and_send(repository, digest, source, opened)
                    return
                except Unreachable:
                    if attempt == _ATTEMPTS:
                        raise
                    self._client.pause(attempt)

    def manifest(self, repository: str, reference: str, manifest: Manifest) -> bool:
        """Store a manifest under a tag or its digest; return whether the registry lists it among
        the referrers of its subject, if it has one.
        """
        headers = {"Content-Type": manifest.descriptor.media_type}
        path = f"/v2/{repository}/manifests/{reference}"
        scopes = push_scopes(repository)
        response = self._client.request("PUT", path, scopes, headers, manifest.data)
        return "OCI-Subject" in response.headers

    def _start_and_send(
        self, repository: str, digest: str, source: str, opened: Callable[[], ReaderAt]
    ) -> None:
        scopes = push_scopes(repository, source)
        query = f"?mount={quote(digest)}&from={quote(source, safe='')}" if source else ""
        path = f"/v2/{repository}/blobs/uploads/{query}"
        try:
            begun = self._client.request("POST", path, scopes, body=b"")
        except (AccessDenied, Refused):
            if not source:
                raise
            self._start_and_send(repository, digest, "", opened)
            return
        if begun.status != 201:  # else it was mounted
            with opened() as reader:
                self._send(begun, digest, reader, push_scopes(repository))

    def _send(
        self, begun: BaseHTTPResponse, digest: str, reader: ReaderAt, scopes: tuple[str, ...]
    ) -> None:
        """Send a blob in one request if it is small, else in pieces."""
        response, size = begun, _chunk_size(begun)
        offset = 0
        while reader.size - offset > size:
            piece = reader.pread(size, offset)
            headers = {
                "Content-Type": _BYTES,
                "Content-Range": f"{offset}-{offset + len(piece) - 1}",
            }
            url = self._next(response)
            response = self._go_on("PATCH", url, scopes, headers, piece)
            offset += len(piece)
        url = self._next(response)
        url += f"{'&' if '?' in url else '?'}digest={quote(digest)}"
        last = reader.pread(size, offset)
        headers = {"Content-Type": _BYTES}
        if offset:
            headers["Content-Range"] = f"{offset}-{offset + len(last) - 1}"
        self._go_on("PUT", url, scopes, headers, last)

    def _go_on(
        self,
        method: str,
        url: str,
        scopes: tuple[str, ...],
        headers: Mapping[str, str],
        piece: bytes,
    ) -> BaseHTTPResponse:
        """Send a piece of a blob; raise Unreachable if the upload is at another place or has ended,
        as when the answer to a request was lost.
        """
        try:
            return self._client.request(method, url, scopes, headers, piece)
        except (NotFound, Refused) as error:
            if isinstance(error, Refused) and error.status != _WRONG_RANGE:
                raise
            raise Unreachable(self._client.location.url, "has lost an upload") from None

    def _next(self, response: BaseHTTPResponse) -> str:
        """Return the URL of an upload's next request."""
        target = response.headers.get("Location", "")
        if not target:
            raise StoreError(self._client.location.url, "starts an upload without a Location")
        return self._client.named(response, target)


def _chunk_size(response: BaseHTTPResponse) -> int:
    wanted = stated_number(response, "OCI-Chunk-Min-Length") or 0
    return min(max(wanted, _CHUNK), _LARGEST_CHUNK)

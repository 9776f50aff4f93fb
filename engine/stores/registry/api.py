"""The requests of the OCI distribution specification that only read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, TypeVar

import msgspec
from urllib3.response import BaseHTTPResponse

from engine.errors import DigestMismatch, LimitExceeded, StoreError, Unreachable
from engine.spec import oci
from engine.spec.descriptor import Descriptor
from engine.spec.digest import of_bytes, parse, well_formed
from engine.stores.registry.client import Client

_T = TypeVar("_T")

_PAGE: Final = 1000
_PAGES: Final = 10_000
_LIST: Final = 128 << 20
"""Bytes of all pages of a list, which are some million names."""
_LINK: Final = 64 << 10
"""Characters of the Link headers of an answer that are looked at."""
_NEXT: Final = re.compile(r'<([^<>]*)>\s*;[^,<]*\brel="?next"?')
"""A link to the next page; no character is tried from two beginnings of a link."""
MANIFEST_TYPES: Final = (
    oci.INDEX,
    oci.MANIFEST,
    oci.DOCKER_MANIFEST_LIST,
    oci.DOCKER_MANIFEST,
)


class _Catalogue(msgspec.Struct, frozen=True):
    repositories: tuple[str, ...] | None = None


class _Tags(msgspec.Struct, frozen=True):
    tags: tuple[str, ...] | None = None


class Manifest(msgspec.Struct, frozen=True):
    """A manifest or index as the registry sent it, verified."""

    descriptor: Descriptor
    data: bytes


def pull_scope(repository: str) -> tuple[str, ...]:
    """Return the scope of a token to read a repository."""
    return (f"repository:{repository}:pull",)


class Reading:
    """The requests to one registry that change nothing. Safe from any thread."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def repositories(self) -> Iterator[str]:
        """Yield every repository of the registry; raise Refused or AccessDenied where it does not
        list them.
        """
        path = f"/v2/_catalog?n={_PAGE}"
        for data in self._pages(path, ("registry:catalog:*",)):
            yield from self._decode(data, _Catalogue, "catalogue").repositories or ()

    def tags(self, repository: str) -> Iterator[str]:
        """Yield the tags of a repository; raise NotFound."""
        path = f"/v2/{repository}/tags/list?n={_PAGE}"
        for data in self._pages(path, pull_scope(repository)):
            yield from self._decode(data, _Tags, "list of tags").tags or ()

    def head(self, repository: str, reference: str) -> str | None:
        """Return the digest of the manifest of a tag; None if the registry does not tell it. Raise
        NotFound.
        """
        headers = {"Accept": ", ".join(MANIFEST_TYPES)}
        path = f"/v2/{repository}/manifests/{reference}"
        response = self.client.request("HEAD", path, pull_scope(repository), headers)
        digest = response.headers.get("Docker-Content-Digest", "")
        return digest if well_formed(digest) else None

    def manifest(self, repository: str, reference: str) -> Manifest:
        """Return the manifest of a tag or digest; raise NotFound, DigestMismatch."""
        headers = {"Accept": ", ".join(MANIFEST_TYPES)}
        path = f"/v2/{repository}/manifests/{reference}"
        response = self.client.request("GET", path, pull_scope(repository), headers)
        data = self.client.document(response)
        stated = response.headers.get("Docker-Content-Digest", "")
        wanted = next(filter(well_formed, (reference, stated)), None)
        found = of_bytes(data, parse(wanted).algorithm if wanted else "sha256")
        if wanted and wanted != found:
            raise DigestMismatch(f"manifest {repository}:{reference}", wanted, found)
        content_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
        media_type = (
            content_type if content_type in MANIFEST_TYPES else oci.own_media_type(data, str(found))
        )
        return Manifest(Descriptor(media_type or oci.MANIFEST, found, len(data)), data)

    def referrers(self, repository: str, subject: str) -> list[Descriptor]:
        """Return the descriptors of what refers to a digest; raise NotFound or Refused if the
        registry has no such list.
        """
        path = f"/v2/{repository}/referrers/{subject}"
        pages = self._pages(path, pull_scope(repository))
        return [each for data in pages for each in oci.parse_index(data, path).manifests]

    def blob(self, repository: str, digest: str, first: int, last: int) -> BaseHTTPResponse:
        """Return the answer to a request for the bytes `first` to `last` of a blob, both included;
        a negative `last` asks for all of it.

        The status is 206, or 200 for the whole blob. Raise Unreachable for other bytes.
        """
        headers = {"Range": f"bytes={first}-{last}"} if last >= 0 else {}
        path = f"/v2/{repository}/blobs/{digest}"
        response = self.client.request("GET", path, pull_scope(repository), headers)
        span = response.headers.get("Content-Range", "").replace(" ", "")
        is_asked = response.status == 206 and headers and span.startswith(f"bytes{first}-")
        if response.status != 200 and not is_asked:
            response.close()
            url = self.client.location.url
            raise Unreachable(url, f"{path}: expected the bytes from {first}, found {span!r}")
        return response

    def _pages(self, path: str, scopes: tuple[str, ...]) -> Iterator[bytes]:
        """Yield each page of a list; a page with fewer entries than asked for is not the last.

        Raise LimitExceeded if the pages are too large together.
        """
        addresses = self.client.addresses
        url = addresses.of(path)
        seen: set[str] = set()
        size = 0
        while len(seen) < _PAGES:
            seen.add(url)
            response = self.client.request("GET", url, scopes)
            data = self.client.document(response)
            size += len(data)
            if size > _LIST:
                raise LimitExceeded(path.partition("?")[0], "bytes of a list", _LIST, size)
            yield data
            following = _NEXT.search(response.headers.get("Link", "")[:_LINK])
            if following is None:
                return
            url = self.client.named(response, following[1])
            if not addresses.is_own(url) or url in seen:
                return

    def _decode(self, data: bytes, kind: type[_T], what: str) -> _T:
        try:
            return msgspec.json.decode(data, type=kind)
        except (msgspec.MsgspecError, RecursionError):
            raise StoreError(self.client.location.url, f"expected a {what} as JSON") from None

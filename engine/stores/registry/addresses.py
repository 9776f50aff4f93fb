"""The addresses that the answers of one registry name. Safe from any thread.

They are parsed by urllib3, which connects to them: another parser may see another host.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urljoin

from urllib3.util import parse_url

from engine.errors import StoreError
from engine.stores.registry.location import Location

_PORTS: Final = {"http": 80, "https": 443}


def origin(url: str) -> tuple[str | None, str | None, int | None]:
    """Return the scheme, host and port of a URL."""
    parts = parse_url(url)
    return parts.scheme, parts.host, parts.port or _PORTS.get(parts.scheme or "")


def _has_tls(url: str) -> bool:
    return parse_url(url).scheme == "https"


class Addresses:
    """The addresses of a registry, and those that it sends its clients to."""

    def __init__(self, location: Location) -> None:
        self._location = location
        self._own = parse_url(location.base)
        self._origin = origin(location.base)

    def is_own(self, url: str) -> bool:
        """Return whether the registry is there: only it may have the user's credentials."""
        return origin(url) == self._origin

    def named(self, url: str, reference: str) -> str:
        """Return the URL of a reference in the registry's answer to `url`; at its own host by its
        own scheme, which a registry behind a proxy may not know. Raise StoreError.

        go-containerregistry does so too; containerd takes the address as it is.
        """
        target = self._joined(url, reference)
        parts, own = parse_url(target), self._own
        is_own = parts.host == own.host and parts.port in (None, own.port)
        if is_own and parts.scheme != own.scheme:
            return parts._replace(scheme=own.scheme, port=own.port).url
        return target

    def followed(self, url: str, reference: str) -> str:
        """Return the URL of a reference in any server's answer to `url`; raise StoreError if it is
        without TLS, and `url` is not.
        """
        target = self._joined(url, reference)
        if _has_tls(url) and not _has_tls(target):
            raise StoreError(self._location.url, "names an address without TLS")
        return target

    def of(self, reference: str) -> str:
        """Return the URL for a request that the registry asks for; raise StoreError if that would
        be without TLS, and the registry is not.
        """
        base = self._location.base
        return self.followed(base, self.named(base, reference))

    def _joined(self, url: str, reference: str) -> str:
        try:
            target = urljoin(url, reference)
            parse_url(target)
        except ValueError:
            raise StoreError(self._location.url, "names an address that is no URL") from None
        return target

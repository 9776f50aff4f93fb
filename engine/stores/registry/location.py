"""The URL of a registry, and the names of images in it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import msgspec

from engine.errors import InvalidDigest, InvalidReference, StoreError
from engine.spec import reference
from engine.spec.digest import ALGORITHMS
from engine.spec.reference import Reference

DOCKER_HUB: Final = "docker.io"
_HUB_ADDRESS: Final = "registry-1.docker.io"
_SIZE: Final = re.compile(r"(?P<number>[0-9]{1,15})(?P<unit>[KMGT])?")
_SCHEMES: Final[Mapping[str, str]] = {
    "registry": "",
    "registry+http": "http",
    "registry+https": "https",
}


class Location(msgspec.Struct, frozen=True):
    """A parsed URL of a registry.

    `host` is the registry in the names of images, with its port; `prefix` the namespace that is
    shown, "" for all; `base` the start of its HTTP addresses. `cache` is the directory of the
    cache, "" for the default; `cache_size` its limit in bytes, 0 for none.
    """

    url: str
    host: str
    prefix: str
    base: str
    cache: str = ""
    cache_size: int = 0

    @property
    def is_plain(self) -> bool:
        """Whether the registry is spoken to without TLS."""
        return self.base.startswith("http://")

    @property
    def root(self) -> str:
        """The start of the full names of all images in the store, with a slash at its end."""
        return f"{self.host}/{self.prefix}/" if self.prefix else f"{self.host}/"

    def full_name(self, name: str) -> str | None:
        """Return the full name, in this registry, of an image that a normalized name means; None if
        it is another registry's.

        A name without a registry is one of this registry. A digest is no name.
        """
        if name.partition(":")[0] in ALGORITHMS or self.root.startswith(f"{name}/"):
            return None
        try:
            ref = reference.parse_normalized(name)
        except (InvalidReference, InvalidDigest):
            return None
        own = name if ref.domain == self.host else None
        if own is None and ref.domain == DOCKER_HUB:
            own = f"{self.root}{ref.familiar}"
        return own if own is not None and own.startswith(self.root) else None

    def repository(self, name: str) -> str:
        """Return the repository of a full name, as the registry knows it."""
        return reference.parse_normalized(name).path

    def reference(self, name: str) -> str:
        """Return the tag or digest of a full name."""
        ref: Reference = reference.parse_normalized(name)
        return str(ref.digest) if ref.digest else ref.tag or ""


def parse_location(url: str) -> Location:
    """Parse registry://HOST[:PORT][/PREFIX][?cache=DIR&cache-size=SIZE].

    registry+http:// is without TLS, registry+https:// with it; registry:// is without it on this
    machine's own addresses only. Raise StoreError; the error shows no password.
    """
    scheme, _, rest = url.partition("://")
    try:
        parts = urlsplit(f"//{rest}")
    except ValueError:
        shown = f"{scheme}://{rest.rpartition('@')[2]}"
        raise StoreError(shown, "expected registry://HOST[:PORT][/PREFIX], found no URL") from None
    shown = url.replace(f"{parts.netloc.rpartition('@')[0]}@", "") if "@" in parts.netloc else url
    try:
        port = parts.port
    except ValueError:
        raise StoreError(shown, "expected a number as its port") from None
    if "@" in parts.netloc:
        raise StoreError(shown, "expected no user in the URL; log in with docker or podman login")
    if not parts.hostname:
        raise StoreError(shown, "expected registry://HOST[:PORT][/PREFIX], found no host")
    prefix = parts.path.strip("/")
    try:
        reference.parse_normalized(f"{parts.netloc}/{f'{prefix}/' if prefix else ''}x:1")
    except InvalidReference as error:
        raise StoreError(shown, str(error)) from None
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := set(options) - {"cache", "cache-size"}:
        raise StoreError(shown, f"expected the options cache, cache-size; found {min(unknown)}")
    size = _SIZE.fullmatch(options.get("cache-size", "0"))
    if size is None:
        raise StoreError(
            shown, f"cache-size: expected a size like 500M or 20G, found {options['cache-size']}"
        )
    limit = int(size["number"]) << (10 * " KMGT".index(size["unit"] or " "))
    protocol = _SCHEMES[scheme] or ("http" if _is_own(parts.hostname) else "https")
    address = _HUB_ADDRESS if parts.netloc == DOCKER_HUB and not port else parts.netloc
    base = f"{protocol}://{address}"
    return Location(shown, parts.netloc, prefix, base, options.get("cache", ""), limit)


def _is_own(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

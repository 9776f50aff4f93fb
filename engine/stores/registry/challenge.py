"""Challenges of HTTP authentication (RFC 9110, section 11), as registries make them."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

_TOKEN: Final = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_PART: Final = re.compile(
    rf"""[\s,]*(?:(?P<name>{_TOKEN})\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s,"]+))"""
    rf"""|(?P<scheme>{_TOKEN})(?=\s|,|$))"""
)


class Challenge(msgspec.Struct, frozen=True):
    """One way to authenticate: its scheme and the names of its parameters in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """Return the challenges in WWW-Authenticate headers; leave out what cannot be read."""
    found: list[tuple[str, dict[str, str]]] = []
    for header in headers:
        position = 0
        while match := _PART.match(header, position):
            position = match.end()
            if scheme := match["scheme"]:
                found.append((scheme.lower(), {}))
            elif found:
                quoted = match["quoted"]
                value = match["plain"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
                found[-1][1][match["name"].lower()] = value
    return [Challenge(scheme, parameters) for scheme, parameters in found]

"""The answers to a registry's challenges: Basic, and Bearer with tokens for scopes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Final
from urllib.parse import urlencode

import msgspec
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from engine.errors import AccessDenied
from engine.stores.registry.challenge import Challenge
from engine.stores.registry.credentials import Credentials

_DEFAULT_LIFE: Final = 60
_EARLY: Final = 5
"""Seconds before the end of a token's life at which it is not used any more."""
_CLIENT: Final = "imgfs"
FORM: Final = "application/x-www-form-urlencoded"
"""The type of the form with the user's identity token."""

FetchToken = Callable[[str, Mapping[str, str], bytes | None], bytes]
"""A request to a token server, by its URL, headers and form, whose answer it returns."""


class _Token(msgspec.Struct, frozen=True):
    token: str = ""
    access_token: str = ""
    expires_in: float = _DEFAULT_LIFE


class _Held(msgspec.Struct, frozen=True):
    header: str
    ends_at: float


class Authenticator:
    """The authorization of one client at one registry. Safe from any thread."""

    def __init__(
        self,
        host: str,
        find: Callable[[], Credentials | None],
        fetch: FetchToken,
        allows_plain: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`find` returns the user's credentials, `fetch` asks a token server; `allows_plain` is
        whether a token server may be without TLS, as the registry is.
        """
        self._host = host
        self._find = find
        self._fetch = fetch
        self._allows_plain = allows_plain
        self._clock = clock
        self._lock = Lock()
        self._held: dict[tuple[str, ...], _Held] = {}
        self._basic = ""

    def header(self, scopes: tuple[str, ...]) -> str | None:
        """Return the Authorization header that the registry accepted last for these scopes."""
        if self._basic:
            return self._basic
        held = self._held.get(scopes)
        return held.header if held and self._clock() < held.ends_at else None

    def answer(
        self, challenges: Sequence[Challenge], scopes: tuple[str, ...], refused: str | None = None
    ) -> str:
        """Return an Authorization header that answers one of these challenges, and is another one
        than the `refused` one.

        Raise AccessDenied if there are no credentials for it, or the token server refuses them.
        """
        with self._lock:
            found = self.header(scopes)
            if found not in (None, refused):  # another thread was faster
                return found
            for challenge in challenges:
                if challenge.scheme == "bearer" and "realm" in challenge.parameters:
                    held = self._token(challenge, scopes)
                    self._held[scopes] = held
                    return held.header
            if any(challenge.scheme == "basic" for challenge in challenges):
                credentials = self._find()
                if credentials is None:
                    raise AccessDenied(
                        self._host, "expected credentials, found none; use docker or podman login"
                    )
                self._basic = credentials.basic
                return self._basic
        schemes = ", ".join(sorted({challenge.scheme for challenge in challenges})) or "none"
        raise AccessDenied(self._host, f"expected a Bearer or Basic challenge, found {schemes}")

    def _token(self, challenge: Challenge, scopes: tuple[str, ...]) -> _Held:
        parameters = challenge.parameters
        realm = parameters["realm"]
        try:
            parts = parse_url(realm)
        except LocationParseError:
            raise AccessDenied(self._host, "its token server has no valid URL") from None
        if parts.scheme != "https" and not (parts.scheme == "http" and self._allows_plain):
            raise AccessDenied(self._host, "its token server is not reached by https")
        asked = list(dict.fromkeys([*scopes, *parameters.get("scope", "").split()]))
        credentials = self._find()
        service = parameters.get("service", "")
        headers: dict[str, str] = {}
        form: bytes | None = None
        if credentials and credentials.token:
            fields = {
                "grant_type": "refresh_token",
                "service": service,
                "client_id": _CLIENT,
                "scope": " ".join(asked),
                "refresh_token": credentials.token,
            }
            form = urlencode(fields).encode()
            headers["Content-Type"] = FORM
        else:
            query = [("service", service)] if service else []
            query += [("scope", scope) for scope in asked]
            if credentials:
                headers["Authorization"] = credentials.basic
                query.append(("account", credentials.user))
            realm += f"{'&' if parts.query else '?'}{urlencode(query)}"
        try:
            found = msgspec.json.decode(self._fetch(realm, headers, form), type=_Token)
        except (msgspec.MsgspecError, RecursionError):
            raise AccessDenied(self._host, "its token server answered with no token") from None
        token = found.token or found.access_token
        if not token or any(ord(c) <= 32 or ord(c) > 126 for c in token):
            raise AccessDenied(self._host, "its token server answered with no token")
        life = max(found.expires_in, _DEFAULT_LIFE)
        return _Held(f"Bearer {token}", self._clock() + life - _EARLY)

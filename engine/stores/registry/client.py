"""HTTP requests to one registry, with authorization, redirects and retries.

Credentials go to the registry's own origin, and to the token servers that it names itself. Another
host, to which it redirects or at which it wants an upload, gets no Authorization, and its challenge
is not answered: registries send the readers of blobs to storage with addresses that are signed.
Errors name the registry and a path, never a header or a query.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

import msgspec
import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.response import BaseHTTPResponse
from urllib3.util import parse_url

from engine.errors import AccessDenied, EngineError, NotFound, StoreError, Unreachable
from engine.stores.registry.addresses import Addresses, origin
from engine.stores.registry.authenticator import FORM, Authenticator
from engine.stores.registry.challenge import parse_challenges
from engine.stores.registry.connections import Connections
from engine.stores.registry.credentials import credential_files, find_credentials
from engine.stores.registry.location import Location
from engine.stores.registry.reachability import Reachability
from engine.units import is_number

_ATTEMPTS: Final = 5
_LONGEST_WAIT: Final = 30.0
_PROBE_SECONDS: Final = 3
_TOKENLESS_SECONDS: Final = 10.0
"""Seconds within which a token server that did not answer is asked by transfers only."""
_REDIRECTS: Final = 5
_RETRIED: Final = frozenset({429, 500, 502, 503, 504})
_REPEATABLE: Final = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_DOCUMENT: Final = 32 << 20
_UNREAD: Final = 64 << 10
"""Bytes that are read of a body that nobody wants, so that its connection can be used again."""


class _Problem(msgspec.Struct, frozen=True):
    code: str = ""
    message: str = ""


class _Problems(msgspec.Struct, frozen=True):
    errors: tuple[_Problem, ...] = ()


class _Transfer(threading.local):
    """The transfer of a thread."""

    is_entered = False
    has_begun = False
    """Whether a request of it was made."""


class _NoAnswer(Exception):
    """A request without an answer: the error, and the URL that was asked."""

    def __init__(self, url: str, error: HTTPError) -> None:
        super().__init__(url, error)
        self.url = url
        self.error = error


class Client:
    """A client of one registry. Safe from any thread."""

    def __init__(self, location: Location, sleep: Callable[[float], None] = time.sleep) -> None:
        """`sleep` waits before a request is repeated."""
        self.location = location
        self.addresses = Addresses(location)
        self._sleep = sleep
        self._transfer = _Transfer()
        home = Path.home()
        self._pool = Connections(location, home).pool
        files = credential_files(os.environ, home)
        self._authenticator = Authenticator(
            location.host,
            lambda: find_credentials(files, location.host, location.prefix),
            self._fetch_token,
            location.is_plain,
        )
        self._tokenless_until = float("-inf")
        self._reachability = Reachability(self._answers)
        self.is_reachable = self._reachability.is_reachable

    # What is asked

    def request(
        self,
        method: str,
        path: str,
        scopes: tuple[str, ...] = (),
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> BaseHTTPResponse:
        """Return the answer, whose body is not read yet, to a request for a path or URL of the
        registry.

        Raise NotFound for 404, AccessDenied, Unreachable, and Refused for other answers than 2xx,
        and than 304 and 416 to a GET.
        """
        url = self.addresses.of(path)
        for attempt in range(_ATTEMPTS):
            try:
                response = self._authorized(method, url, scopes, dict(headers or {}), body)
            except _NoAnswer as failed:
                is_last = attempt + 1 == _ATTEMPTS or method not in _REPEATABLE
                if is_last or _is_refused(failed.error):
                    raise self._unreachable(failed) from None
                self._sleep(_backoff(attempt))
                continue
            if response.status not in _RETRIED or attempt + 1 == _ATTEMPTS:
                break
            wait = _retry_after(response, attempt)
            discard(response)
            self._sleep(wait)
        if 200 <= response.status < 300 or (method == "GET" and response.status in (304, 416)):
            if method != "GET":
                discard(response)
            return response
        raise self._refused(method, url, response)

    def document(self, response: BaseHTTPResponse) -> bytes:
        """Return the body of an answer; raise StoreError if it is too large, Unreachable."""
        try:
            data = response.read(_DOCUMENT + 1, decode_content=True)
        except HTTPError as error:
            raise self._unreachable(_NoAnswer(self._url(response), error)) from None
        finally:
            _leave(response)
        if len(data) > _DOCUMENT:
            raise StoreError(self.location.url, "a document is larger than 32 MiB")
        return data

    def named(self, response: BaseHTTPResponse, reference: str) -> str:
        """Return the URL of a reference in an answer; raise StoreError."""
        return self.addresses.named(self._url(response), reference)

    def pause(self, failures: int) -> None:
        """Wait before something is tried again, longer with each failure."""
        self._sleep(_backoff(failures))

    @contextmanager
    def transfer(self) -> Iterator[None]:
        """Enter a transfer, whose requests come from the calling thread. After the first that is
        made, further ones are made also while the registry counts as away: it may be back.
        """
        self._transfer.is_entered = True
        try:
            yield
        finally:
            self._transfer.is_entered = self._transfer.has_begun = False

    # How it is asked

    def _answers(self) -> bool:
        """Return whether the registry answers anything at all, and soon; a certificate that is not
        accepted is an answer, of which a request tells more.
        """
        url = f"{self.location.base}/v2/"
        timeout = urllib3.Timeout(connect=_PROBE_SECONDS, read=_PROBE_SECONDS)
        try:
            pool = self._pool(url)
            response = pool.request(
                "GET", url, timeout=timeout, preload_content=False, redirect=False
            )
            discard(response)
        except HTTPError as error:
            return _cause(error, SSLError)
        return True

    def _authorized(
        self,
        method: str,
        url: str,
        scopes: tuple[str, ...],
        headers: dict[str, str],
        body: bytes | None,
    ) -> BaseHTTPResponse:
        if self._reachability.is_away and not self._transfer.has_begun:
            raise Unreachable(self.location.url, "does not answer")
        self._transfer.has_begun = self._transfer.is_entered
        if not self.addresses.is_own(url):
            return self._followed(method, url, headers, body)
        for is_last in (False, True):
            if header := self._authenticator.header(scopes):
                headers["Authorization"] = header
            response = self._followed(method, url, headers, body)
            if response.status != 401 or is_last or not self._is_own(response):
                return response
            challenges = parse_challenges(response.headers.getlist("WWW-Authenticate"))
            discard(response)
            headers["Authorization"] = self._authenticator.answer(
                challenges, scopes, headers.get("Authorization")
            )
        raise AssertionError("the second answer is returned")

    def _followed(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> BaseHTTPResponse:
        """Return the first answer that is no redirect, which has the URL that gave it; raise
        _NoAnswer.
        """
        sent = {"User-Agent": "imgfs", "Accept-Encoding": "identity", **headers}
        for _ in range(_REDIRECTS):
            try:
                response = self._pool(url).request(
                    method, url, headers=sent, body=body, preload_content=False, redirect=False
                )
            except HTTPError as error:
                raise _NoAnswer(url, error) from None
            response.url = url
            if self._is_own(response):
                self._reachability.note(is_answer=True)
            if response.status not in (301, 302, 303, 307, 308):
                return response
            discard(response)
            target = self.addresses.followed(url, response.headers.get("Location", ""))
            if origin(target) != origin(url):
                sent = self._without_credentials(sent)
            url = target
        raise StoreError(self.location.url, "redirects too often")

    def _without_credentials(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return the headers for another host; raise AccessDenied if the body is a form, which has
        the user's identity token.
        """
        if headers.get("Content-Type") == FORM:
            raise AccessDenied(self.location.url, "its token server redirects to another host")
        return {name: value for name, value in headers.items() if name != "Authorization"}

    def _fetch_token(self, url: str, headers: Mapping[str, str], form: bytes | None) -> bytes:
        if time.monotonic() < self._tokenless_until and not self._transfer.has_begun:
            raise Unreachable(self.location.url, "its token server does not answer")
        method = "GET" if form is None else "POST"
        try:
            response = self._followed(method, url, headers, form)
        except _NoAnswer as failed:
            if _is_refused(failed.error) or _cause(failed.error, ReadTimeoutError):
                self._tokenless_until = time.monotonic() + _TOKENLESS_SECONDS
            raise self._unreachable(failed) from None
        self._tokenless_until = float("-inf")
        try:
            data = response.read(1 << 20)
        except HTTPError as error:
            raise self._unreachable(_NoAnswer(self._url(response), error)) from None
        finally:
            _leave(response)
        if response.status >= 500 or response.status == 429:
            raise Unreachable(self.location.url, f"its token server answers {response.status}")
        if response.status != 200:
            raise AccessDenied(
                self.location.url, f"its token server refuses the credentials ({response.status})"
            )
        return data

    # What goes wrong

    def _unreachable(self, failed: _NoAnswer) -> StoreError:
        """Return the error of a request; of the registry itself it is noted if it is away."""
        is_own = self.addresses.is_own(failed.url)
        host = parse_url(failed.url).netloc
        reason = _first_line(failed.error)
        if _cause(failed.error, SSLError):
            whose = "its certificate" if is_own else f"the certificate of {host}"
            return StoreError(self.location.url, f"{whose} is not accepted: {reason}")
        if not is_own:
            return Unreachable(self.location.url, f"needs {host}, which does not answer: {reason}")
        if _is_refused(failed.error):
            self._reachability.note(is_answer=False)
        return Unreachable(self.location.url, f"does not answer: {reason}")

    def _refused(self, method: str, url: str, response: BaseHTTPResponse) -> EngineError:
        path = parse_url(url).path or ""
        status = response.status
        try:
            data = response.read(1 << 16)
            found = msgspec.json.decode(data, type=_Problems).errors
        except (HTTPError, msgspec.MsgspecError, RecursionError):
            found = ()
        finally:
            _leave(response)
        reason = "; ".join(filter(None, (each.message or each.code for each in found)))
        if status == 404:
            return NotFound("blob" if "/blobs/" in path else "image", path.rpartition("/")[2])
        if status in (401, 403):
            return AccessDenied(self.location.url, f"{method} {path}: {reason or 'denied'}")
        what = f"{method} {path}: the registry answers {status}"
        if status in _RETRIED:
            return Unreachable(self.location.url, f"{what} {reason}".rstrip())
        return Refused(self.location.url, f"{what} {reason}".rstrip(), status)

    def _is_own(self, response: BaseHTTPResponse) -> bool:
        return self.addresses.is_own(self._url(response))

    def _url(self, response: BaseHTTPResponse) -> str:
        """Return the URL that gave an answer."""
        return response.url or self.location.base


def discard(response: BaseHTTPResponse) -> None:
    """End an answer whose body nobody wants: its connection can be used again, or is closed if
    more than 64 KiB are left of the body.
    """
    with suppress(HTTPError):
        response.read(_UNREAD + 1, decode_content=False)
    _leave(response)


def stated_number(response: BaseHTTPResponse, header: str) -> int | None:
    """Return the number that a header of an answer states; None if it states none, or one that no
    size can have.
    """
    text = response.headers.get(header, "")
    return int(text) if is_number(text) else None


def _leave(response: BaseHTTPResponse) -> None:
    """End an answer: close its connection, unless the body has been read to its end, at which
    urllib3 takes the connection back.
    """
    response.close()
    response.release_conn()


class Refused(StoreError):
    """The registry refuses a request, with this HTTP status."""

    def __init__(self, path: str, reason: str, status: int) -> None:
        super().__init__(path, reason)
        self.status = status


def _is_refused(error: HTTPError) -> bool:
    """Return whether there was no connection at all."""
    return _cause(error, (NewConnectionError, ConnectTimeoutError))


def _cause(
    error: BaseException, kind: type[BaseException] | tuple[type[BaseException], ...]
) -> bool:
    while True:
        if isinstance(error, kind):
            return True
        reason = getattr(error, "reason", None) or getattr(error, "original_error", None)
        if not isinstance(reason, BaseException):
            return False
        error = reason


def _first_line(error: HTTPError) -> str:
    """Return what the system said, without the addresses that urllib3 puts before it."""
    return str(error).partition("\n")[0].rpartition(": ")[2].split("?")[0] or type(error).__name__


def _backoff(attempt: int) -> float:
    return float(0.1 * 2**attempt * (1 + random.random()))


def _retry_after(response: BaseHTTPResponse, attempt: int) -> float:
    """Return the seconds that an answer asks to wait, at most 30; by itself more with each
    attempt.
    """
    text = response.headers.get("Retry-After", "")
    if text.isascii() and text.isdigit():
        return min(float(text), _LONGEST_WAIT)
    with suppress(ValueError, OverflowError):
        return min(max(0.0, parsedate_to_datetime(text).timestamp() - time.time()), _LONGEST_WAIT)
    return _backoff(attempt)

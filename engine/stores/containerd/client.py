"""Calls to one containerd over its socket, with a namespace, deadlines and typed errors.

A connection that breaks is made again by the next call. Safe from any thread; not for use in a
child that was forked after the first call.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # it logs to stderr, where our errors are

import grpc
from google.protobuf.message import Message

from engine.errors import (
    AccessDenied,
    AlreadyExists,
    NotFound,
    StoreError,
    Unavailable,
    Unreachable,
)

M = TypeVar("M", bound=Message)
T = TypeVar("T")

_SECONDS: Final = 20.0
"""Seconds for an ordinary call. containerd may collect garbage, with all changes waiting."""
_LONGEST_MESSAGE: Final = 256 << 20
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", _LONGEST_MESSAGE),
    ("grpc.max_send_message_length", _LONGEST_MESSAGE),
    ("grpc.default_authority", "localhost"),  # Go refuses the path of a socket
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),
)
_ABSENT: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})
_REFUSED: Final = frozenset({grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED})
_EXISTS: Final = grpc.StatusCode.ALREADY_EXISTS


class _Disconnected(Unreachable):
    """There is no connection."""


class Client:
    """A connection to one containerd."""

    def __init__(self, url: str, path: Path) -> None:
        """`path` is that of the socket; `url` names the store in errors. Nothing is sent yet."""
        self._url = url
        self._socket = path
        self.namespace = ""
        self._channel = grpc.insecure_channel(f"unix:{path}", options=_OPTIONS)

    def close(self) -> None:
        """Break the connection, and with it the calls that run."""
        self._channel.close()

    def call(
        self,
        method: str,
        request: Message,
        response: type[M],
        about: tuple[str, str] = ("", ""),
    ) -> M:
        """Call a method and return its response.

        `about` is the kind and the name of the object in NotFound, AlreadyExists and Unavailable.
        Raise Unreachable, AccessDenied or StoreError.
        """
        ask = self._channel.unary_unary(
            method, request_serializer=_serialized, response_deserializer=response.FromString
        )

        def answer(wait: bool) -> M:
            found: M = ask(
                request, timeout=_SECONDS, metadata=self._metadata(), wait_for_ready=wait
            )
            return found

        return self._repeated(answer, about)

    def read(
        self,
        method: str,
        request: Message,
        response: type[M],
        about: tuple[str, str] = ("", ""),
    ) -> list[M]:
        """Return the responses of a method that returns a stream; raise as `call`."""
        ask = self._channel.unary_stream(
            method, request_serializer=_serialized, response_deserializer=response.FromString
        )

        def answer(wait: bool) -> list[M]:
            return list(
                ask(request, timeout=_SECONDS, metadata=self._metadata(), wait_for_ready=wait)
            )

        return self._repeated(answer, about)

    def subscribe(self, method: str, request: Message, response: type[M]) -> Subscription[M]:
        """Return a stream that lasts until it is cancelled or the connection breaks."""
        ask = self._channel.unary_stream(
            method,
            request_serializer=_serialized,
            response_deserializer=response.FromString,
        )
        with self._errors():
            return Subscription(ask(request, metadata=self._metadata()), self._errors)

    def write(
        self,
        method: str,
        requests: Iterable[Message],
        response: type[M],
        about: tuple[str, str],
        lease: str,
    ) -> M | None:
        """Send a stream, which may take any time, and return the last response, None if there was
        none; `lease` is one that protects what it adds. Raise as `call`.
        """
        ask = self._channel.stream_stream(
            method,
            request_serializer=_serialized,
            response_deserializer=response.FromString,
        )
        with self._errors(about):
            last = deque(ask(iter(requests), metadata=self._metadata(lease)), maxlen=1)
        return last.pop() if last else None

    def _repeated(self, answer: Callable[[bool], T], about: tuple[str, str]) -> T:
        """Return an answer, once more if containerd has been started again: a connection that has
        failed to be made is not tried again at once, unless the call waits for it.
        """
        try:
            with self._errors(about):
                return answer(False)
        except _Disconnected:
            if not self._is_listening():
                raise
        with self._errors(about):
            return answer(True)

    def _is_listening(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as attempt:
                attempt.settimeout(_SECONDS)
                attempt.connect(str(self._socket))
        except OSError:
            return False
        return True

    def _metadata(self, lease: str = "") -> tuple[tuple[str, str], ...]:
        found = [("containerd-namespace", self.namespace)] if self.namespace else []
        return tuple([*found, ("containerd-lease", lease)] if lease else found)

    @contextmanager
    def _errors(self, about: tuple[str, str] = ("", "")) -> Iterator[None]:
        """Raise the errors of gRPC as ours."""
        try:
            yield
        except ValueError as error:  # what gRPC raises for a channel that is closed
            raise Unreachable(self._url, "the connection to containerd was closed") from error
        except grpc.RpcError as error:
            raise self._typed(error, about) from error

    def _typed(self, error: Any, about: tuple[str, str]) -> Exception:
        code, details = error.code(), error.details() or ""
        if code == grpc.StatusCode.NOT_FOUND and about[0]:
            return NotFound(*about)
        if code == _EXISTS and about[0]:
            return AlreadyExists(*about)
        if code == grpc.StatusCode.UNAVAILABLE and "locked for" in details:
            return Unavailable(*about)
        if code in _ABSENT:
            return self._absent()
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            return Unreachable(self._url, f"containerd has not answered for {_SECONDS:g} s")
        if code in _REFUSED:
            return AccessDenied(self._url, details)
        return StoreError(self._url, f"containerd answers: {details} ({code.name})")

    def _absent(self) -> StoreError:
        if self._socket.exists() and not os.access(self._socket, os.R_OK | os.W_OK):
            return AccessDenied(self._url, f"{self._socket}: permission denied; run imgfs as root")
        return _Disconnected(self._url, f"containerd does not answer at {self._socket}")


class Subscription(Iterable[M]):
    """A stream of messages without an end of its own."""

    def __init__(self, call: Any, errors: Callable[[], Any]) -> None:
        self._call = call
        self._errors = errors

    def __iter__(self) -> Iterator[M]:
        with self._errors():
            yield from self._call

    def cancel(self) -> None:
        """End the stream, from any thread."""
        self._call.cancel()


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()

"""A proxy before a registry: it counts what passes, and gives wrong answers on demand.

A request is noted before the client has the last byte of its answer.
"""

import fcntl
import http.client
import re
import socket
import struct
import sys
import termios
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock
from typing import NamedTuple

from tests.stores.registry.serving import serving
from tests.waiting import wait_until

BLOB = "GET /v2/[^?]*/blobs/sha256"
_PIECE = 64 << 10


class Request(NamedTuple):
    """A request that has passed, and how many bytes of a body answered it."""

    method: str
    path: str
    span: str
    """The Range that was asked for, "" for all."""
    status: int
    size: int

    @property
    def line(self) -> str:
        return f"{self.method} {self.path}"


class Proxy(ThreadingHTTPServer):
    """Passes requests on to a registry; `faults` are taken in order, by requests that match."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, registry: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.registry = registry
        self.host = f"127.0.0.1:{self.server_port}"
        self.seen: list[Request] = []
        self.faults: list[str] = []
        self.faulty = BLOB
        self.answers: dict[str, bytes] = {}
        """Answers by path, in the place of the registry's."""
        self.released = Event()
        """Lets the answers with the fault "held" go on."""
        self._lock = Lock()

    def fault(self, line: str) -> str:
        """Return the fault of the next request of that method and path, "" for none."""
        with self._lock:
            return self.faults.pop(0) if self.faults and re.match(self.faulty, line) else ""

    def matching(self, pattern: str) -> list[Request]:
        """Return the requests whose method and path begin with what a pattern describes."""
        with self._lock:
            return [each for each in self.seen if re.match(pattern, each.line)]

    def note(self, request: Request) -> None:
        with self._lock:
            self.seen.append(request)

    def handle_error(self, *_: object) -> None:
        """Print nothing of clients that have gone."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def _pass_on(self) -> None:
        size = int(self.headers["Content-Length"] or 0)
        body = self.rfile.read(size)
        self.path = self.path.removeprefix(f"http://{self.headers['Host']}")
        fault = self.server.fault(f"{self.command} {self.path}")
        if self.path.startswith("/token"):
            self._answer(200, b'{"token": "token"}')
        elif self.path in self.server.answers:
            self._answer(200, self.server.answers[self.path])
        elif refuse := _REFUSALS.get(fault):
            status, headers = refuse
            realm = f'Bearer realm="http://{self.server.host}/token",service="here"'
            challenge = {"WWW-Authenticate": realm} if status == 401 else {}
            self._answer(status, b"{}", {**headers, **challenge})
        elif fault == "reset at once":
            self._reset()
        else:
            self._forward(body, fault)

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self._pass_on
        raise AttributeError(name)

    def _forward(self, body: bytes, fault: str) -> None:
        connection = http.client.HTTPConnection(self.server.registry)
        dropped = {"ignores ranges": ["range"], "expired": ["authorization"]}.get(fault, [])
        try:
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():  # of some there are several
                if name.lower() not in dropped:
                    connection.putheader(name, value)
            connection.endheaders(body)
            with connection.getresponse() as answer:
                if fault == "unanswered":
                    self._reset()
                else:
                    self._give(answer, fault)
        finally:
            connection.close()

    def _give(self, answer: http.client.HTTPResponse, fault: str) -> None:
        sent = 0
        is_noted = False
        length = int(answer.headers.get("Content-Length", 0))
        end = length // 2 if fault in ("reset", "cut", "short") else length
        wanted = 0 if self.command == "HEAD" else end

        def note() -> None:
            nonlocal is_noted
            if not is_noted:
                is_noted = True
                span = self.headers.get("Range", "").removeprefix("bytes=")
                self.server.note(Request(self.command, self.path, span, answer.status, sent))

        if not wanted or fault == "wrong range":  # of which the client reads no byte
            note()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            if fault == "short" and name == "Content-Length":
                value = str(length // 2)
            if fault == "wrong range" and name == "Content-Range":
                value = value.replace("bytes ", "bytes 1")
            self.send_header(name, value)
        self.end_headers()
        try:
            while sent < wanted and (data := answer.read(min(_PIECE, wanted - sent))):
                sent += len(data)
                if sent == wanted:  # before the client can go on
                    note()
                self.wfile.write(bytes(len(data)) if fault == "wrong" else data)
                if fault == "held" and sent >= length // 2:
                    self.server.released.wait(30)
        finally:
            note()
        if fault == "reset":
            self._reset()
        self.close_connection = self.close_connection or end < length

    def _reset(self) -> None:
        """End the connection by a reset, once the client has what was sent."""
        wait_until(lambda: not _unacknowledged(self.connection), "all is acknowledged")
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()
        self.close_connection = True

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] = {}) -> None:
        self.server.note(Request(self.command, self.path, "", status, len(body)))
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def _unacknowledged(connection: socket.socket) -> int:
    """Return the bytes that the other side has not acknowledged, as SIOCOUTQ of tcp(7) does."""
    data = fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4))
    return int.from_bytes(data, sys.byteorder)


_REFUSALS: Mapping[str, tuple[int, Mapping[str, str]]] = {
    "401": (401, {}),
    "429": (429, {"Retry-After": "7"}),
    "429 until a date": (429, {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}),
    "500": (500, {}),
    "signed": (307, {"Location": "http://127.0.0.1:1/blob?signature=secret"}),
    "503": (503, {"Retry-After": "7"}),
}


@contextmanager
def proxy(registry: str) -> Iterator[Proxy]:
    """Run a proxy before the registry at that host and port."""
    with serving(Proxy(registry)) as server:
        try:
            yield server
        finally:
            server.released.set()

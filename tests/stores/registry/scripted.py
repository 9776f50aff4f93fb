"""A server that answers as a test says, and notes what it was asked."""

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from tests.stores.registry.serving import serving

_PIECE = 64 << 10


class Asked(NamedTuple):
    """A request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    port: int
    """The client's end of the connection."""

    @property
    def authorization(self) -> str | None:
        return self.headers.get("Authorization")


class Answer(NamedTuple):
    """An answer; `size` zeros follow its body."""

    status: int = 200
    headers: Mapping[str, str] = {}
    body: bytes = b""
    size: int = 0


class Scripted(ThreadingHTTPServer):
    """A server at a bound socket."""

    daemon_threads = True

    def __init__(self, script: Callable[[Asked], Answer], bound: socket.socket) -> None:
        super().__init__(bound.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = bound
        self.script = script
        self.host = host_of(bound)
        self.server_activate()
        self.url = f"http://{self.host}"
        self.seen: list[Asked] = []
        self.ended: list[bool] = []
        """Whether the client took each answer to its end."""

    def handle_error(self, *_: object) -> None:
        """Print nothing of clients that have gone."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Scripted

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        port = self.client_address[1]
        asked = Asked(self.command, self.path, dict(self.headers.items()), body, port)
        self.server.seen.append(asked)
        answer = self.server.script(asked)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body) + answer.size))
        self.end_headers()
        is_whole = False
        try:
            if self.command != "HEAD":
                self.wfile.write(answer.body)
                for _ in range(0, answer.size, _PIECE):
                    self.wfile.write(bytes(_PIECE))
            is_whole = True
        finally:
            self.server.ended.append(is_whole)

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def scripted(
    script: Callable[[Asked], Answer], bound: socket.socket | None = None
) -> Iterator[Scripted]:
    """Run a server that answers by `script`, at a new socket unless one is given."""
    with serving(Scripted(script, bound or unheard())) as server:
        yield server


def unheard() -> socket.socket:
    """Return a socket with a port of the loopback: nobody answers, and nobody else can have it."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    return bound


def host_of(bound: socket.socket) -> str:
    """Return the host and port of a socket."""
    return "{}:{}".format(*bound.getsockname())

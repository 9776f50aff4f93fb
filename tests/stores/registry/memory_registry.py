"""A registry in this process that answers what a test has put into it, right or wrong."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.archives import ImageParts, digest, to_json
from tests.stores.registry.serving import serving


class MemoryRegistry(ThreadingHTTPServer):
    """Answers by path; a path that is not there is not found."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.host = f"127.0.0.1:{self.server_port}"
        self.answers: dict[str, bytes] = {"/v2/": b"{}"}
        self.statuses: dict[str, int] = {}
        """Statuses in the place of answers."""
        self.handlers: dict[str, Callable[[BaseHTTPRequestHandler, bytes], None]] = {}
        """Functions that send the answer to a GET by themselves, the headers included."""
        self.seen: list[str] = []
        """The paths that were asked for."""

    def put(self, repository: str, tag: str, image: ImageParts) -> None:
        """Add an image."""
        for data in image.blobs()[1:]:
            self.answers[f"/v2/{repository}/blobs/{digest(data)}"] = data
        self.put_manifest(repository, tag, image.manifest())

    def put_manifest(self, repository: str, tag: str, data: bytes) -> None:
        """Add a manifest or index under its tag and its digest, and list the tag."""
        for reference in (tag, digest(data)):
            self.answers[f"/v2/{repository}/manifests/{reference}"] = data
        base = f"/v2/{repository}/manifests/"
        names = [path.removeprefix(base) for path in self.answers if path.startswith(base)]
        tags = [name for name in names if ":" not in name]
        self.answers[f"/v2/{repository}/tags/list"] = to_json({"tags": tags})
        lists = [path for path in self.answers if path.endswith("/tags/list")]
        repositories = [path[len("/v2/") : -len("/tags/list")] for path in lists]
        self.answers["/v2/_catalog"] = to_json({"repositories": repositories})

    def handle_error(self, *_: object) -> None:
        """Print nothing of clients that have gone."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: MemoryRegistry

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.seen.append(path)
        data = self.server.answers.get(path)
        status = self.server.statuses.get(path, 404 if data is None else 200)
        if path in self.server.handlers and self.command == "GET":
            self.close_connection = True
            self.server.handlers[path](self, data or b"")
        elif data is None or status != 200:
            self._answer(status, b"{}", {})
        elif span := self.headers.get("Range", "").removeprefix("bytes="):
            first, _, last = span.partition("-")
            part = data[int(first) : int(last) + 1]
            self._answer(206, part, {"Content-Range": f"bytes {first}-{last}/{len(data)}"})
        else:
            self._answer(200, data, {"Docker-Content-Digest": digest(data)})

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def memory_registry() -> Iterator[MemoryRegistry]:
    """Run such a registry."""
    with serving(MemoryRegistry()) as server:
        yield server

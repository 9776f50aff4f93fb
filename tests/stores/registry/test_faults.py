"""Answers of a registry that break off, lie or make the client wait."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest

from engine.content.blobs import read_blob
from engine.errors import DigestMismatch
from engine.stores.open import open_store
from engine.stores.protocols import Store
from tests.archives import OCI_MANIFEST, ImageParts, digest, layer

IMAGE = ImageParts(layers=(layer("large", bytes(range(256)) * 4096),))
LARGE = IMAGE.layers[0]
WHOLE = "whole"


class Faulty(BaseHTTPRequestHandler):
    """A registry with one image, whose answers for its layer are as `faults` says, in order."""

    protocol_version = "HTTP/1.1"
    faults: ClassVar[list[str]]
    asked: ClassVar[list[str | None]]

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        blobs = {digest(data): data for data in IMAGE.blobs()}
        if self.path == "/v2/":
            self.answer(200, b"{}")
        elif "/manifests/" in self.path:
            self.answer(200, IMAGE.manifest(), {"Content-Type": OCI_MANIFEST})
        elif name != digest(LARGE):
            self.answer(200, blobs[name])
        else:
            self.asked.append(self.headers["Range"])
            self.serve_layer(self.faults.pop(0) if self.faults else WHOLE)

    def serve_layer(self, fault: str) -> None:
        start = int((self.headers["Range"] or "bytes=0-")[6:].partition("-")[0])
        if fault == "busy":
            self.answer(429, b"", {"Retry-After": "0"})
        elif fault == "wrong":
            self.answer(200, bytes(len(LARGE)))
        elif fault == "cut":
            self.send_response(200)
            self.send_header("Content-Length", str(len(LARGE)))
            self.end_headers()
            self.wfile.write(LARGE[: len(LARGE) // 2])
            self.close_connection = True
        elif start and fault == WHOLE:
            span = f"bytes {start}-{len(LARGE) - 1}/{len(LARGE)}"
            self.answer(206, LARGE[start:], {"Content-Range": span})
        else:
            self.answer(200, LARGE)

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextmanager
def faulty(cache: Path, *faults: str) -> Iterator[Store]:
    """Open the store of a registry with these faults."""
    Faulty.faults, Faulty.asked = list(faults), []
    with ThreadingHTTPServer(("127.0.0.1", 0), Faulty) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            with open_store(f"registry://127.0.0.1:{server.server_port}?cache={cache}") as store:
                assert store.images.place_at("app:1") is not None
                yield store
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("faults", "ranges"),
    [
        ((), 0),
        (("busy", "busy"), 0),
        (("cut",), 1),
        (("cut", "ignores ranges"), 1),
        (("wrong",), 0),
    ],
    ids=json.dumps,
)
def test_the_blob_comes_whole(tmp_path: Path, faults: tuple[str, ...], ranges: int) -> None:
    with faulty(tmp_path, *faults) as store:
        try:
            data = read_blob(store.content, digest(LARGE))
        except DigestMismatch:
            assert faults == ("wrong",)
            data = read_blob(store.content, digest(LARGE))
        assert data == LARGE
        assert sum(each is not None for each in Faulty.asked) == ranges


def test_wrong_bytes_are_never_a_blob(tmp_path: Path) -> None:
    with faulty(tmp_path, *["wrong"] * 4) as store:
        with pytest.raises(DigestMismatch):
            read_blob(store.content, digest(LARGE))
        assert digest(LARGE) not in [info.digest for info in store.content.walk()]

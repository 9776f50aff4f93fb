"""Uploads of which a proxy loses an answer, so that a request comes twice, and uploads to a
registry that is gone for a moment.
"""

from contextlib import ExitStack
from urllib.parse import parse_qs, urlsplit

import pytest

from engine.content.memory import MemoryReader
from engine.spec.digest import of_bytes
from engine.stores.registry.api import Reading
from engine.stores.registry.client import Client
from engine.stores.registry.location import parse_location
from engine.stores.registry.uploads import Uploads
from tests.stores.registry.scripted import Answer, Asked, host_of, scripted, unheard

SMALL = b"content of a blob"
LARGE = bytes((16 << 20) + 1)
"""Content that needs a PATCH and a PUT."""


class Backend:
    """The blobs of one repository, behind a proxy that loses the answer to one request."""

    def __init__(self, lost: str) -> None:
        """`lost` is the method of the request; "PUT early" a PUT that ends after its body is
        appended."""
        self.lost = lost
        self.blobs: dict[str, bytes] = {}
        self.uploads: dict[str, bytes] = {}
        self.begun = 0

    def answer(self, asked: Asked) -> Answer:
        url = urlsplit(asked.path)
        if asked.method == "HEAD":
            return Answer(200 if url.path.rpartition("/")[2] in self.blobs else 404)
        if asked.method == "POST":
            self.begun += 1
            return self.accept(f"/v2/app/blobs/uploads/{self.begun}", b"")
        if url.path not in self.uploads:
            return Answer(404)
        start = int(asked.headers.get("Content-Range", "0").partition("-")[0])
        if start != len(self.uploads[url.path]):
            return Answer(416, {"Location": url.path})
        accepted = self.accept(url.path, self.uploads[url.path] + asked.body)
        if asked.method == "PUT" and self.lost != "PUT early":
            self.blobs[parse_qs(url.query)["digest"][0]] = self.uploads.pop(url.path)
            accepted = Answer(201)
        if not self.lost.startswith(asked.method):
            return accepted
        self.lost = ""
        return Answer(502)

    def accept(self, path: str, data: bytes) -> Answer:
        self.uploads[path] = data
        return Answer(202, {"Location": path})


@pytest.mark.parametrize(
    ("data", "lost"),
    [
        (SMALL, "PUT"),
        (SMALL, "PUT early"),
        (LARGE, "PATCH"),
        (LARGE, "PUT"),
        (LARGE, "PUT early"),
    ],
    ids=["one", "one early", "first", "last", "last early"],
)
def test_the_blob_is_there_at_the_end(data: bytes, lost: str) -> None:
    backend = Backend(lost)
    digest = of_bytes(data)
    with scripted(backend.answer) as server:
        client = Client(parse_location(f"registry://{server.host}"), lambda _: None)
        uploads = Uploads(client, Reading(client))
        uploads.blob("app", digest, "", lambda: MemoryReader(data))
    assert backend.lost == ""
    assert list(backend.blobs) == [digest]
    assert backend.blobs[digest] == data


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["one", "more"])
def test_a_registry_that_is_gone_for_a_moment_breaks_no_upload(data: bytes) -> None:
    backend, bound = Backend(""), unheard()
    digest = of_bytes(data)
    waits: list[float] = []
    with ExitStack() as running:

        def come_back(seconds: float) -> None:
            waits.append(seconds)
            if sum(waits) >= 1:
                running.enter_context(scripted(backend.answer, bound))

        client = Client(parse_location(f"registry://{host_of(bound)}"), come_back)
        uploads = Uploads(client, Reading(client))
        uploads.blob("app", digest, "", lambda: MemoryReader(data))
    assert backend.blobs == {digest: data}

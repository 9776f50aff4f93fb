"""Relative addresses of uploads, which start from the address of the request that was answered."""

from urllib.parse import quote

import pytest

from engine.content.memory import MemoryReader
from engine.spec.digest import of_bytes
from engine.stores.registry.api import Reading
from engine.stores.registry.client import Client
from engine.stores.registry.location import parse_location
from engine.stores.registry.uploads import Uploads
from tests.stores.registry.scripted import Answer, Asked, scripted

DATA = bytes((16 << 20) + 1)
"""Content that needs a PATCH and a PUT."""
START = "/v2/app/blobs/uploads/"


@pytest.mark.parametrize(
    ("moved_to", "location", "path"),
    [
        ("", "uuid?state={}", "/v2/app/blobs/uploads/uuid?state={}"),
        ("", "../uuid?state={}", "/v2/app/blobs/uuid?state={}"),
        ("", "/uuid?state={}", "/uuid?state={}"),
        ("/moved/here/", "uuid?state={}", "/moved/here/uuid?state={}"),
    ],
    ids=["relative", "above", "from the root", "after a redirect"],
)
def test_the_address_of_an_upload(moved_to: str, location: str, path: str) -> None:
    def answer(asked: Asked) -> Answer:
        if asked.method == "HEAD":
            return Answer(404)
        if moved_to and asked.path == START:
            return Answer(307, {"Location": moved_to})
        if asked.method == "POST":
            return Answer(202, {"Location": location.format(0)})
        if asked.method == "PATCH":
            return Answer(202, {"Location": path.rpartition("/")[2].format(1)})
        return Answer(201)

    digest = of_bytes(DATA)
    with scripted(answer) as server:
        client = Client(parse_location(f"registry://{server.host}"), lambda _: None)
        uploads = Uploads(client, Reading(client))
        uploads.blob("app", digest, "", lambda: MemoryReader(DATA))
    piece, last = server.seen[-2:]
    assert (piece.method, piece.path) == ("PATCH", path.format(0))
    assert (last.method, last.path) == ("PUT", f"{path.format(1)}&digest={quote(digest)}")

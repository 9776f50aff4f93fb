"""Links from a page of a list to the next, by a registry alone."""

import json

import pytest

from engine.errors import LimitExceeded
from engine.stores.registry import api
from engine.stores.registry.api import Reading
from engine.stores.registry.client import Client
from engine.stores.registry.location import parse_location
from tests.stores.registry.scripted import Answer, Asked, scripted

NEXT = '</v2/app/tags/list?last=a>; rel="next"'


def tags(link: str) -> list[str]:
    """Return the tags of a list with the tag "a" and this link, and the tag "b" on its page."""

    def answer(asked: Asked) -> Answer:
        if asked.path.endswith("?last=a"):
            return Answer(body=json.dumps({"tags": ["b"]}).encode())
        return Answer(200, {"Link": link}, json.dumps({"tags": ["a"]}).encode())

    with scripted(answer) as server:
        location = parse_location(f"registry://{server.host}")
        return list(Reading(Client(location, lambda _: None)).tags("app"))


@pytest.mark.parametrize(
    "link",
    [
        NEXT,
        NEXT.replace('"', ""),
        NEXT.replace("; ", ";title=x;"),
        f'</v2/>; rel="first", {NEXT}',
        "<" * 60_000 + NEXT,
        "<>;" * 20_000 + NEXT,
    ],
    ids=["quoted", "bare", "with a title", "second", "60,000 beginnings", "20,000 links"],
)
def test_the_next_page_is_found(link: str) -> None:
    assert tags(link) == ["a", "b"]


@pytest.mark.parametrize("link", ["", "<" * 60_000, '</v2/app/tags/list?last=a>; rel="prev"'])
def test_the_last_page_has_none(link: str) -> None:
    assert tags(link) == ["a"]


def test_a_list_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "_LIST", 100_000)

    def answer(_: Asked) -> Answer:
        page = len(server.seen)
        link = f'</v2/app/tags/list?last={page}>; rel="next"'
        return Answer(200, {"Link": link}, json.dumps({"tags": [f"{page:01000}"]}).encode())

    with scripted(answer) as server:
        client = Client(parse_location(f"registry://{server.host}"), lambda _: None)
        with pytest.raises(LimitExceeded, match="bytes of a list"):
            list(Reading(client).tags("app"))
    assert len(server.seen) == 99

"""Answers that a client has no use for, and those that it must not take for a success."""

import pytest

from engine.errors import EngineError, NotFound
from engine.stores.registry.client import Client
from engine.stores.registry.location import parse_location
from tests.stores.registry.scripted import Answer, Scripted, scripted
from tests.waiting import wait_until

LONG = 64 << 20
"""Bytes that no buffer of a socket takes."""


def client_of(server: Scripted) -> Client:
    return Client(parse_location(f"registry://{server.host}"), lambda _: None)


@pytest.mark.parametrize(
    ("method", "long"),
    [
        ("GET", Answer(401, {"WWW-Authenticate": 'Bearer realm="/"'}, size=LONG)),
        ("GET", Answer(302, {"Location": "/v2/"}, size=LONG)),
        ("GET", Answer(404, size=LONG)),
        ("GET", Answer(503, size=LONG)),
        ("PUT", Answer(201, size=LONG)),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Answer) else value,
)
def test_a_long_body_that_nobody_wants_is_not_read(method: str, long: Answer) -> None:
    answers = [long]
    with scripted(lambda _: answers.pop() if answers else Answer()) as server:
        client = client_of(server)
        try:
            client.request(method, "/v2/app").close()
        except EngineError:
            assert long.status in (401, 404)
        client.request("HEAD", "/v2/")
        wait_until(lambda: len(server.ended) == len(server.seen), "all answers have ended")
        assert False in server.ended


def test_a_connection_is_used_again_after_a_short_body() -> None:
    answers = [Answer(404, body=b"{}"), Answer(201, body=b"{}"), Answer(503, body=b"{}"), Answer()]
    with scripted(lambda _: answers.pop(0)) as server:
        client = client_of(server)
        with pytest.raises(NotFound):
            client.request("PUT", "/v2/app")
        client.request("PUT", "/v2/app")
        client.request("PUT", "/v2/app")
    assert answers == []
    assert len({asked.port for asked in server.seen}) == 1


@pytest.mark.parametrize(
    "text", ["soon", "9" * 400, "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"]
)
def test_any_retry_after_is_read(text: str) -> None:
    answers = [Answer(503, {"Retry-After": text}), Answer()]
    with scripted(lambda _: answers.pop(0)) as server:
        client_of(server).request("HEAD", "/v2/")
    assert answers == []

"""Answers that a client has no use for, and those that it must not take for a success; a proxy's
password; when a registry that is away is asked.
"""

import base64

import pytest

from engine.errors import EngineError, NotFound, Unreachable
from engine.stores.registry.client import Client
from engine.stores.registry.location import parse_location
from tests.stores.registry.scripted import Answer, Asked, Scripted, host_of, scripted, unheard
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


def test_a_registry_that_is_away_is_asked_by_no_new_transfer() -> None:
    bound = unheard()
    client = Client(parse_location(f"registry://{host_of(bound)}"), lambda _: None)
    with client.transfer(), pytest.raises(Unreachable):
        client.request("HEAD", "/v2/")
    with scripted(lambda _: Answer(), bound) as server:
        with pytest.raises(Unreachable):
            client.request("HEAD", "/v2/")
        with client.transfer(), pytest.raises(Unreachable):
            client.request("HEAD", "/v2/")
        assert server.seen == []


def test_a_token_server_that_is_away_is_asked_by_transfers_only() -> None:
    bound = unheard()
    challenge = {"WWW-Authenticate": f'Bearer realm="http://{host_of(bound)}/token"'}

    def answer(asked: Asked) -> Answer:
        return Answer() if asked.authorization else Answer(401, challenge)

    with scripted(answer) as registry:
        client = client_of(registry)
        with pytest.raises(Unreachable):
            client.request("HEAD", "/v2/a", ("a",))
        with scripted(lambda _: Answer(body=b'{"token": "x"}'), bound) as tokens:
            for name in ("a", "b"):
                with pytest.raises(Unreachable, match="its token server does not answer"):
                    client.request("HEAD", f"/v2/{name}", (name,))
            assert tokens.seen == []
            with client.transfer():
                client.request("HEAD", "/v2/c", ("c",))
            client.request("HEAD", "/v2/a", ("a",))
            assert len(tokens.seen) == 2


def test_a_token_server_that_is_silent_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.stores.registry.connections._READ_SECONDS", 0.5)
    with unheard() as silent:
        silent.listen()
        challenge = {"WWW-Authenticate": f'Bearer realm="http://{host_of(silent)}/token"'}
        with scripted(lambda _: Answer(401, challenge)) as registry:
            client = client_of(registry)
            with pytest.raises(Unreachable, match=f"needs {host_of(silent)}"):
                client.request("HEAD", "/v2/a", ("a",))
            with pytest.raises(Unreachable, match="its token server does not answer"):
                client.request("HEAD", "/v2/b", ("b",))


@pytest.mark.parametrize(
    ("user", "sent"),
    [
        ("u:secret", b"u:secret"),
        ("a%40b:p%C3%A4ss%3Aword", "a@b:päss:word".encode()),
        ("u:%E2%82%AC%", "u:€%".encode()),
        ("u", b"u:"),
    ],
)
def test_a_proxy_gets_the_password_that_is_meant(
    monkeypatch: pytest.MonkeyPatch, user: str, sent: bytes
) -> None:
    with scripted(lambda _: Answer()) as server:
        monkeypatch.setenv("http_proxy", f"http://{user}@{server.host}")
        client = Client(parse_location("registry+http://registry.example"), lambda _: None)
        client.request("HEAD", "/v2/")
    (asked,) = server.seen
    header = {name.lower(): value for name, value in asked.headers.items()}["proxy-authorization"]
    assert header == f"Basic {base64.b64encode(sent).decode()}"

"""Hosts that a registry sends its clients to, and that must not have the user's credentials."""

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from engine.content.memory import MemoryReader
from engine.errors import AccessDenied, NotFound, Unreachable
from engine.spec.digest import of_bytes
from engine.stores.registry.api import Reading
from engine.stores.registry.client import Client
from engine.stores.registry.location import parse_location
from engine.stores.registry.uploads import Uploads
from tests.stores.registry.scripted import Answer, Asked, Scripted, scripted, unheard

BLOB = b"content of a blob"
BASIC = f"Basic {base64.b64encode(b'u:secret').decode()}"


class Registry:
    """A registry that requires a token of its own token server, and has its blobs elsewhere."""

    def __init__(self, other: Scripted) -> None:
        self.other = other.url.replace("127.0.0.1", "localhost")
        self.realm = f"{self.other}/token"
        self.sends_to = ""
        """The start of the addresses of its uploads."""

    def answer(self, asked: Asked) -> Answer:
        if asked.authorization != "Bearer token":
            return Answer(401, {"WWW-Authenticate": f'Bearer realm="{self.realm}"'})
        if asked.method == "POST":
            return Answer(202, {"Location": f"{self.sends_to}/v2/upload"})
        if asked.method == "PUT":
            return Answer(201)
        if asked.method == "HEAD":
            return Answer(404)
        return Answer(307, {"Location": f"{self.other}/elsewhere"})


class Other:
    """Another host: a token server, and storage that challenges whoever reads."""

    def __init__(self) -> None:
        self.storage = Answer(200, {}, BLOB)
        self.moved_to = ""
        """The address to which the token server redirects, "" for none."""

    def answer(self, asked: Asked) -> Answer:
        if asked.method == "PUT":
            return Answer(201)
        if asked.path == "/elsewhere":
            return self.storage
        if self.moved_to and not asked.path.startswith("/moved"):
            return Answer(307, {"Location": self.moved_to})
        return Answer(200, {}, b'{"token": "token"}')


@pytest.fixture
def script() -> Other:
    return Other()


@pytest.fixture
def other(script: Other) -> Iterator[Scripted]:
    with scripted(script.answer) as server:
        yield server


@pytest.fixture
def registry(other: Scripted) -> Registry:
    return Registry(other)


@pytest.fixture
def server(registry: Registry, home: Path) -> Iterator[Scripted]:
    """Return the registry, at which a user has logged in."""
    with scripted(registry.answer) as running:
        log_in(home, running, {"auth": base64.b64encode(b"u:secret").decode()})
        yield running


def log_in(home: Path, server: Scripted, entry: Mapping[str, str]) -> None:
    (home / ".docker").mkdir(exist_ok=True)
    (home / ".docker/config.json").write_text(json.dumps({"auths": {server.host: entry}}))


@pytest.fixture
def reading(server: Scripted) -> Reading:
    return Reading(Client(parse_location(f"registry://{server.host}"), lambda _: None))


def read(reading: Reading) -> bytes:
    return reading.client.document(reading.blob("app", of_bytes(BLOB), 0, -1))


def send(reading: Reading) -> None:
    uploads = Uploads(reading.client, reading)
    uploads.blob("app", of_bytes(BLOB), "", lambda: MemoryReader(BLOB))


def test_a_token_server_that_the_registry_names_gets_them(
    reading: Reading, other: Scripted
) -> None:
    assert read(reading) == BLOB
    token, blob = other.seen
    assert token.authorization == BASIC
    assert blob.authorization is None


@pytest.mark.parametrize("challenge", ['Bearer realm="{}/evil"', "Basic"])
def test_a_challenge_after_a_redirect_is_not_answered(
    reading: Reading, script: Other, registry: Registry, other: Scripted, challenge: str
) -> None:
    assert read(reading) == BLOB
    header = challenge.format(registry.other)
    script.storage = Answer(401, {"WWW-Authenticate": header})
    with pytest.raises(AccessDenied) as denied:
        read(reading)
    assert "\n" not in str(denied.value)
    assert [each.authorization for each in other.seen] == [BASIC, None, None]
    script.storage = Answer(200, {}, BLOB)
    assert read(reading) == BLOB


def test_a_token_server_that_moves_to_another_host_gets_no_password(
    reading: Reading, script: Other, other: Scripted
) -> None:
    script.moved_to = f"{other.url}/moved"
    assert read(reading) == BLOB
    asked, moved, _ = other.seen
    assert (asked.authorization, moved.authorization) == (BASIC, None)


def test_an_identity_token_goes_to_no_other_host(
    reading: Reading, script: Other, other: Scripted, server: Scripted, home: Path
) -> None:
    log_in(home, server, {"identitytoken": "secret"})
    script.moved_to = f"{other.url}/moved"
    with pytest.raises(AccessDenied, match="redirects to another host") as denied:
        read(reading)
    assert "\n" not in str(denied.value)
    assert len(other.seen) == 1
    script.moved_to = "/moved"
    assert read(reading) == BLOB
    assert other.seen[-2].body == other.seen[0].body
    assert b"secret" in other.seen[0].body


def test_an_upload_to_another_host_has_none(
    reading: Reading, registry: Registry, other: Scripted
) -> None:
    registry.sends_to = registry.other
    send(reading)
    sent = other.seen[-1]
    assert (sent.method, sent.body, sent.authorization) == ("PUT", BLOB, None)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_upload_to_the_registry_goes_by_its_scheme(
    reading: Reading, registry: Registry, server: Scripted, scheme: str
) -> None:
    registry.sends_to = f"{scheme}://{server.host}"
    send(reading)
    sent = server.seen[-1]
    assert (sent.method, sent.body, sent.authorization) == ("PUT", BLOB, "Bearer token")


@pytest.mark.parametrize("dead", ["storage", "token server", "upload"])
def test_a_host_that_is_dead_is_not_the_registry(
    request: pytest.FixtureRequest, reading: Reading, registry: Registry, dead: str
) -> None:
    request.addfinalizer((bound := unheard()).close)
    host = f"localhost:{bound.getsockname()[1]}"
    if dead == "storage":
        registry.other = f"http://{host}"
    elif dead == "upload":
        registry.sends_to = f"http://{host}"
    else:
        registry.realm = f"http://{host}/token"
    with pytest.raises(Unreachable, match=host) as caught:
        send(reading) if dead == "upload" else read(reading)
    assert "\n" not in str(caught.value)
    assert reading.client.is_reachable(60)
    if dead != "token server":
        with pytest.raises(NotFound):
            reading.client.request("HEAD", "/v2/app/blobs/x", ("repository:app:pull",))

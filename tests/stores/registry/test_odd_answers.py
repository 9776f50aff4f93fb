"""Answers, addresses and files that are hostile or odd: each is an error of its own kind."""

import base64
import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from engine.content.memory import MemoryReader
from engine.errors import AccessDenied, EngineError, LimitExceeded, StoreError
from engine.spec.digest import of_bytes
from engine.stores.open import open_store
from engine.stores.registry.api import Reading
from engine.stores.registry.client import Client, Refused
from engine.stores.registry.credentials import Credentials, find_credentials
from engine.stores.registry.location import parse_location
from engine.stores.registry.uploads import Uploads
from tests.archives import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, ImageParts, descriptor, to_json
from tests.stores.registry.memory_registry import MemoryRegistry, memory_registry
from tests.stores.registry.scripted import Answer, Asked, Scripted, scripted

APP = ImageParts()
DEEP = b'{"x":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}"
"""Too deep for Python 3.14, too, which takes as much as fits on the stack."""
LONG = "9" * (sys.get_int_max_str_digits() + 1)


def reading_of(server: Scripted) -> Reading:
    return Reading(Client(parse_location(f"registry://{server.host}"), lambda _: None))


@pytest.mark.parametrize("rest", ["[::1/x", "[zz]", "[::1]x/", "h\u2100x", "u:secret@[zz]/x"])
def test_a_url_that_is_none(rest: str) -> None:
    with pytest.raises(StoreError) as caught:
        parse_location(f"registry://{rest}")
    assert "secret" not in str(caught.value)


def test_an_error_that_is_nested_too_deeply() -> None:
    answer = Answer(400, body=DEEP[: 1 << 15])
    with scripted(lambda _: answer) as server, pytest.raises(Refused, match="answers 400"):
        reading_of(server).client.request("GET", "/v2/")


def test_a_list_that_is_nested_too_deeply() -> None:
    with scripted(lambda _: Answer(body=DEEP)) as server:
        reading = reading_of(server)
        for names in (reading.repositories(), reading.tags("app")):
            with pytest.raises(StoreError, match="as JSON"):
                list(names)
        with pytest.raises(EngineError):
            reading.referrers("app", of_bytes(b""))


def test_a_token_that_is_nested_too_deeply() -> None:
    def answer(asked: Asked) -> Answer:
        if asked.path.startswith("/token"):
            return Answer(body=DEEP)
        realm = f"http://{asked.headers['Host']}/token"
        return Answer(401, {"WWW-Authenticate": f'Bearer realm="{realm}"'})

    with scripted(answer) as server, pytest.raises(AccessDenied, match="no token"):
        reading_of(server).client.request("GET", "/v2/")


def test_credentials_that_are_nested_too_deeply(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(DEEP)
    with pytest.raises(AccessDenied, match="expected a file"):
        find_credentials([file], "h", "")


def test_a_credential_helper_whose_answer_is_nested_too_deeply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, file = tmp_path / "answer", tmp_path / "config.json"
    answer.write_bytes(DEEP)
    helper = tmp_path / "docker-credential-deep"
    helper.write_text(f"#!/bin/sh\ncat > /dev/null\nexec cat {answer}\n")
    helper.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    file.write_text(json.dumps({"credsStore": "deep"}))
    with pytest.raises(AccessDenied, match="expected a user"):
        find_credentials([file], "h", "")


@pytest.mark.parametrize(
    "auth", ["ü", "é" * 8, "====", base64.b64encode(b"\xff:\xff").decode()], ids=ascii
)
def test_credentials_that_are_not_encoded(tmp_path: Path, auth: str) -> None:
    file = tmp_path / "config.json"
    entry = {"auth": auth, "username": "u", "password": "p"}
    file.write_text(json.dumps({"auths": {"h": entry}}))
    assert find_credentials([file], "h", "") == Credentials("u", "p")


def test_a_piece_of_more_bytes_than_there_are_digits() -> None:
    data = b"content of a blob"
    answers = {
        "HEAD": Answer(404),
        "POST": Answer(202, {"Location": "/v2/u", "OCI-Chunk-Min-Length": LONG}),
        "PUT": Answer(201),
    }
    with scripted(lambda asked: answers[asked.method]) as server:
        reading = reading_of(server)
        uploads = Uploads(reading.client, reading)
        uploads.blob("app", of_bytes(data), "", lambda: MemoryReader(data))
        assert server.seen[-1].body == data


@pytest.fixture
def registry() -> Iterator[MemoryRegistry]:
    with memory_registry() as running:
        yield running


def sized(*sizes: int) -> bytes:
    """Return a manifest whose layers state these sizes."""
    layers = [
        {**descriptor(str(n).encode(), OCI_LAYER), "size": size} for n, size in enumerate(sizes)
    ]
    config = descriptor(APP.config, OCI_CONFIG)
    return to_json(
        {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers}
    )


@pytest.mark.parametrize("sizes", [((1 << 63) - 1,), (1 << 62, 1 << 62)], ids=["one", "two"])
def test_a_size_that_no_store_can_have_is_an_error_of_its_image(
    registry: MemoryRegistry, tmp_path: Path, sizes: tuple[int, ...]
) -> None:
    registry.put("app", "1", APP)
    registry.put_manifest("app", "huge", sized(*sizes))
    with open_store(f"registry://{registry.host}?cache={tmp_path}/cache") as store:
        assert [image.name for image in store.images.all()] == [f"{registry.host}/app:1"]
        with pytest.raises(LimitExceeded, match="size in bytes"):
            store.images.get(f"{registry.host}/app:huge")


def test_a_content_length_of_more_digits_than_a_number_has(
    registry: MemoryRegistry, tmp_path: Path
) -> None:
    disputed = f"/v2/app/blobs/{of_bytes(b'0')}"

    def answer(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", LONG)
        handler.end_headers()

    registry.handlers[disputed] = answer
    registry.put_manifest("app", "1", sized(1 << 20))
    registry.put_manifest("app", "2", sized(1 << 21))
    registry.answers[f"/v2/app/blobs/{of_bytes(APP.config)}"] = APP.config
    with open_store(f"registry://{registry.host}?cache={tmp_path}/cache") as store:
        for tag in ("1", "2"):
            with suppress(EngineError):
                store.images.get(f"{registry.host}/app:{tag}")
    assert disputed in registry.seen

"""Challenges, credentials and URLs, without a registry."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import AccessDenied, StoreError
from engine.stores.registry.authenticator import Authenticator
from engine.stores.registry.challenge import Challenge, parse_challenges
from engine.stores.registry.credentials import Credentials, find_credentials
from engine.stores.registry.location import parse_location


def test_challenges() -> None:
    header = 'Bearer realm="https://a/t?x=1,2",service="s\\"q", Basic realm=plain'
    assert parse_challenges([header]) == [
        Challenge("bearer", {"realm": "https://a/t?x=1,2", "service": 's"q'}),
        Challenge("basic", {"realm": "plain"}),
    ]


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    parse_challenges([text])


def test_tokens_are_asked_for_once_a_scope() -> None:
    asked: list[str] = []

    def fetch(url: str, _headers: object, _form: object) -> bytes:
        asked.append(url)
        return b'{"token": "abc", "expires_in": 100}'

    now = [0.0]
    authenticator = Authenticator("h", lambda: None, fetch, False, lambda: now[0])
    scopes = ("repository:a:pull",)
    challenge = Challenge("bearer", {"realm": "https://t/token", "service": "s"})
    assert authenticator.header(scopes) is None
    assert authenticator.answer([challenge], scopes) == "Bearer abc"
    assert authenticator.header(scopes) == "Bearer abc"
    now[0] = 96.0
    assert authenticator.header(scopes) is None
    assert asked == ["https://t/token?service=s&scope=repository%3Aa%3Apull"]


def test_credentials_are_sent_to_no_token_server_without_tls() -> None:
    authenticator = Authenticator("h", lambda: None, lambda *_: b"", False)
    challenge = Challenge("bearer", {"realm": "http://t/token"})
    with pytest.raises(AccessDenied, match="not reached by https"):
        authenticator.answer([challenge], ())


def test_a_token_server_has_a_valid_url() -> None:
    authenticator = Authenticator("h", lambda: None, lambda *_: b"", False)
    challenge = Challenge("bearer", {"realm": "https://["})
    with pytest.raises(AccessDenied, match="no valid URL"):
        authenticator.answer([challenge], ())


def test_credentials_of_a_namespace_come_first(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    entries = {"https://h/v1/": "u:one", "h/team": "u:two"}
    auths = {key: {"auth": base64.b64encode(v.encode()).decode()} for key, v in entries.items()}
    file.write_text(json.dumps({"auths": auths}))
    assert find_credentials([tmp_path / "absent", file], "h", "team/x") == Credentials("u", "two")
    assert find_credentials([file], "h", "") == Credentials("u", "one")
    assert find_credentials([file], "other", "") is None
    assert "one" not in repr(Credentials("u", "one"))


@pytest.mark.parametrize(
    ("url", "base", "root"),
    [
        ("registry://localhost:5000", "http://localhost:5000", "localhost:5000/"),
        ("registry://h.example/team/x", "https://h.example", "h.example/team/x/"),
        ("registry+http://h.example", "http://h.example", "h.example/"),
        ("registry://docker.io", "https://registry-1.docker.io", "docker.io/"),
    ],
)
def test_urls(url: str, base: str, root: str) -> None:
    location = parse_location(url)
    assert (location.base, location.root) == (base, root)


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("12", 12), ("5K", 5 << 10), ("20G", 20 << 30), ("1T", 1 << 40)]
)
def test_sizes_of_the_cache(text: str, size: int) -> None:
    assert parse_location(f"registry://h?cache-size={text}").cache_size == size


@pytest.mark.parametrize(
    "url",
    [
        "registry://",
        "registry://h:x",
        "registry://u:secret@h",
        "registry://h/A",
        "registry://h?x=1",
        "registry://h?cache-size=x",
        "registry://h?cache-size=1.5G",
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(StoreError) as caught:
        parse_location(url)
    assert "secret" not in str(caught.value)

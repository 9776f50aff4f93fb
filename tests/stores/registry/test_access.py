"""Access to a registry: certificates, tokens, helpers, redirects, and lists in several pages."""

import base64
import json
import os
import shutil
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from engine.content.blobs import read_blob
from engine.errors import AccessDenied, StoreError
from engine.stores.open import open_store
from tests.archives import OCI_MANIFEST, ImageParts, digest, layer
from tests.stores.registry.server import certificate, lacking, load_into, registry
from tests.stores.registry.serving import serving

IMAGE = ImageParts(layers=(layer("large", bytes(range(256)) * 4096),))
LARGE = digest(IMAGE.layers[0])
BASIC = f"Basic {base64.b64encode(b'u:secret').decode()}"


@pytest.mark.parametrize("by", ["certs.d", "SSL_CERT_FILE"])
def test_only_a_certificate_that_is_trusted_is_accepted(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    if reason := lacking():
        pytest.skip(reason)
    directory = tmp_path / "registry"
    directory.mkdir()
    made = certificate(directory)
    with registry(directory, certificate=made) as host:
        url = f"registry+https://{host}?cache={tmp_path}/cache"
        with (
            open_store(url) as store,
            pytest.raises(StoreError, match="its certificate is not accepted"),
        ):
            store.images.get(f"{host}/app:1")
        if by == "certs.d":
            trusted = home / ".config/containers/certs.d" / host
            trusted.mkdir(parents=True)
            shutil.copy(made, trusted / "ca.crt")
        else:
            monkeypatch.setenv("SSL_CERT_FILE", str(made))
        load_into(url, IMAGE)
        with open_store(url.replace("/cache", "/other")) as store:
            assert store.images.get(f"{host}/app:1").target.digest == digest(IMAGE.manifest())
            assert read_blob(store.content, LARGE) == IMAGE.layers[0]


class Guarded(BaseHTTPRequestHandler):
    """A registry with one image, whose blobs are elsewhere, for those who have a fresh token."""

    protocol_version = "HTTP/1.1"
    server: "Servers"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.server.seen.append((self.path, self.headers["Authorization"]))
        if url.path == "/token":
            self.give_token(parse_qs(url.query))
        elif url.path.startswith("/elsewhere/"):
            self.answer(200, {digest(one): one for one in IMAGE.blobs()}[url.path[11:]])
        elif self.headers["Authorization"] != f"Bearer token{self.server.tokens}":
            realm = f'realm="http://{self.server.host}/token",service="here",scope="repository:app:pull"'
            self.answer(401, b"{}", {"WWW-Authenticate": f"Bearer {realm}"})
        elif url.path == "/v2/app/tags/list":
            self.list("tags", [f"n{i}" for i in range(self.server.tags)], parse_qs(url.query))
        elif url.path == "/v2/_catalog":
            self.list("repositories", ["app", "b/x", "c/x", "d/x"], parse_qs(url.query))
        elif "/manifests/" in url.path:
            self.answer(200, IMAGE.manifest(), {"Content-Type": OCI_MANIFEST})
        elif "/blobs/" in url.path:
            name = url.path.rpartition("/")[2]
            self.answer(307, b"", {"Location": f"http://{self.server.other}/elsewhere/{name}"})
        else:
            self.answer(200, b"{}")

    def give_token(self, asked: dict[str, list[str]]) -> None:
        if self.headers["Authorization"] != BASIC:
            self.answer(401, b"{}")
            return
        assert asked["service"] == ["here"]
        self.server.tokens += 1
        self.answer(200, json.dumps({"token": f"token{self.server.tokens}"}).encode())

    def list(self, what: str, names: list[str], asked: dict[str, list[str]]) -> None:
        """Give two names in the first page, and then as many as are asked for."""
        start = int(asked.get("last", ["0"])[0])
        end = start + int(asked["n"][0]) if start else 2
        path = urlsplit(self.path).path
        link = {"Link": f'<{path}?n=1000&last={end}>; rel="next"'} if end < len(names) else {}
        self.answer(200, json.dumps({what: names[start:end]}).encode(), link)

    def answer(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class Servers(ThreadingHTTPServer):
    """A server, the other one that has its blobs, and the requests that it has seen."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Guarded)
        self.seen: list[tuple[str, str | None]] = []
        self.tokens = 0
        self.tags = 6
        self.host = self.other = f"127.0.0.1:{self.server_port}"


@pytest.fixture
def guarded() -> Iterator[Servers]:
    with serving(Servers()) as blobs, serving(Servers()) as server:
        server.other = f"localhost:{blobs.server_port}"
        server.elsewhere = blobs  # type: ignore[attr-defined]
        yield server


def log_in(home: Path, host: str) -> None:
    (home / ".docker").mkdir()
    auth = base64.b64encode(b"u:secret").decode()
    (home / ".docker/config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))


def read_all(server: Servers, cache: Path) -> None:
    with open_store(f"registry://{server.host}?cache={cache}") as store:
        image = store.images.get(f"{server.host}/app:1")
        assert image.target.digest == digest(IMAGE.manifest())
        assert read_blob(store.content, LARGE) == IMAGE.layers[0]


def test_a_token_is_asked_for_with_the_users_credentials(
    guarded: Servers, home: Path, tmp_path: Path
) -> None:
    log_in(home, guarded.host)
    read_all(guarded, tmp_path / "cache")
    assert guarded.tokens == 1


def test_another_host_receives_no_credentials(guarded: Servers, home: Path, tmp_path: Path) -> None:
    log_in(home, guarded.host)
    read_all(guarded, tmp_path / "cache")
    seen = guarded.elsewhere.seen  # type: ignore[attr-defined]
    assert any(LARGE in path for path, _ in seen)
    assert {authorization for _, authorization in seen} == {None}


def test_a_token_that_is_not_accepted_any_more_is_replaced(
    guarded: Servers, home: Path, tmp_path: Path
) -> None:
    log_in(home, guarded.host)
    with open_store(f"registry://{guarded.host}?cache={tmp_path}/cache") as store:
        store.images.get(f"{guarded.host}/app:1")
        guarded.tokens += 1  # as if the last one had expired
        assert read_blob(store.content, LARGE) == IMAGE.layers[0]


def test_without_credentials_access_is_denied_in_one_line(guarded: Servers, tmp_path: Path) -> None:
    with open_store(f"registry://{guarded.host}?cache={tmp_path}/cache") as store:
        with pytest.raises(AccessDenied) as denied:
            store.images.get(f"{guarded.host}/app:1")
        assert "\n" not in str(denied.value)


def test_a_helper_is_asked_for_credentials(
    guarded: Servers, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    helper = programs / "docker-credential-mine"
    helper.write_text(
        f'#!/bin/sh\nread host; [ "$1 $host" = "get {guarded.host}" ] || exit 1\n'
        'echo \'{"ServerURL": "", "Username": "u", "Secret": "secret"}\'\n'
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    (home / ".docker").mkdir()
    config = {"credHelpers": {guarded.host: "mine"}}
    (home / ".docker/config.json").write_text(json.dumps(config))
    read_all(guarded, tmp_path / "cache")


def test_every_page_of_a_list_is_read(guarded: Servers, home: Path, tmp_path: Path) -> None:
    log_in(home, guarded.host)
    with open_store(f"registry://{guarded.host}?cache={tmp_path}/cache") as store:
        images = store.images.all(f"{guarded.host}/app")
        assert [image.name.rpartition(":")[2] for image in images] == [f"n{i}" for i in range(6)]
        assert store.images.has_paths(f"{guarded.host}/d/")
        assert not store.images.has_paths(f"{guarded.host}/e/")


def test_a_list_of_10_000_tags_asks_for_none_of_them(
    guarded: Servers, home: Path, tmp_path: Path
) -> None:
    log_in(home, guarded.host)
    guarded.tags = 10_000
    with open_store(f"registry://{guarded.host}?cache={tmp_path}/cache") as store:
        listed = dict(store.images.listed(f"{guarded.host}/"))
    assert sum(name.startswith("app:") for name in listed) == 10_000
    asked = [path for path, _ in guarded.seen]
    assert not any("/manifests/" in path for path in asked)
    assert len(asked) < 30

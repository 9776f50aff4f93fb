"""Tokens: scopes to pull and to push, and to mount a blob of another repository."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import AccessDenied
from engine.names import tag
from engine.stores.open import open_store
from tests.archives import ImageParts, digest
from tests.stores.registry.proxy import Proxy, proxy
from tests.stores.registry.server import certificate, lacking, load_into, registry
from tests.stores.registry.tokens import USER, TokenServer, token_server

IMAGE = ImageParts()
SENDS = "(PATCH|PUT) .*/blobs/uploads"


@pytest.fixture
def tokens(tmp_path: Path) -> Iterator[TokenServer]:
    if reason := lacking():
        pytest.skip(reason)
    with token_server(certificate(tmp_path)) as server:
        yield server


@pytest.fixture
def before(tokens: TokenServer, tmp_path: Path) -> Iterator[Proxy]:
    """Return a proxy before a registry that asks for tokens."""
    (tmp_path / "registry").mkdir()
    with registry(tmp_path / "registry", tokens.config) as host, proxy(host) as found:
        yield found


def log_in(home: Path, host: str) -> None:
    (home / ".docker").mkdir()
    auth = base64.b64encode(USER.encode()).decode()
    (home / ".docker/config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))


def test_a_blob_of_another_repository_is_mounted(
    before: Proxy, tokens: TokenServer, home: Path, tmp_path: Path
) -> None:
    log_in(home, before.host)
    url = f"registry://{before.host}?cache={tmp_path}/cache"
    load_into(url, IMAGE)
    sent = len(before.matching(SENDS))
    assert sent == 2
    with open_store(url) as store:
        tag(store, "app:1", "team/other:1")
    assert len(before.matching(SENDS)) == sent
    assert [each.status for each in before.matching("POST .*mount=")].count(201) == 2
    pull, push = "repository:app:pull", "repository:team/other:pull,push"
    assert any({push, pull} <= set(scopes) for scopes in tokens.scopes)
    with open_store(url.replace("/cache", "/more")) as store:
        assert store.images.get(f"{before.host}/team/other:1").target.digest == digest(
            IMAGE.manifest()
        )


def test_a_mount_that_is_refused_is_an_upload(before: Proxy, home: Path, tmp_path: Path) -> None:
    log_in(home, before.host)
    url = f"registry://{before.host}?cache={tmp_path}/cache"
    load_into(url, IMAGE)
    before.faulty, before.faults = "POST .*mount=", ["401", "401"]
    with open_store(url) as store:
        tag(store, "app:1", "team/other:1")
    assert before.faults == []
    assert before.matching("HEAD .*team/other")


def test_who_may_only_pull_changes_nothing(before: Proxy, home: Path, tmp_path: Path) -> None:
    url = f"registry://{before.host}?cache={tmp_path}/cache"
    with pytest.raises(AccessDenied) as denied:
        load_into(url, IMAGE)
    assert "\n" not in str(denied.value)
    with open_store(url) as store:
        assert store.images.all() == []
    log_in(home, before.host)
    load_into(url, IMAGE)


def test_a_token_that_has_expired_is_replaced(
    before: Proxy, tokens: TokenServer, home: Path, tmp_path: Path
) -> None:
    log_in(home, before.host)
    url = f"registry://{before.host}?cache={tmp_path}/cache"
    before.faulty, before.faults = "PUT .*/manifests/", ["expired"]
    load_into(url, IMAGE)
    assert before.faults == []
    assert sum("repository:app:pull,push" in scopes for scopes in tokens.scopes) == 2

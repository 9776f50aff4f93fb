"""Fixtures of tests of registries."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.stores.registry import client, lookup


@pytest.fixture(scope="module", autouse=True)
def patience() -> Iterator[pytest.MonkeyPatch]:
    """Wait longer for a registry than the product does; yield what has set that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lookup, "_PATIENCE", 60)
        patch.setattr(lookup, "_LONGER_PATIENCE", 60)
        patch.setattr(client, "_PROBE_SECONDS", 60)
        yield patch


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the home directory of a user without credentials."""
    path = tmp_path / "home"
    path.mkdir()
    monkeypatch.setenv("HOME", str(path))
    for name in (
        *("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"),
        *("SSL_CERT_FILE", "http_proxy", "no_proxy"),
    ):
        monkeypatch.delenv(name, raising=False)
    return path

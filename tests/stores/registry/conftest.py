"""Fixtures of tests of registries."""

from pathlib import Path

import pytest


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

"""Debian's docker-registry on a free port of the loopback, for tests."""

import http.client
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.archive.import_options import ImportOptions
from engine.archive.importer import Import
from engine.stores.open import open_store
from tests.archives import ImageParts, oci_archive
from tests.waiting import wait_until

_CONFIG = """version: 0.1
log: {{level: info, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {root}}}
  delete: {{enabled: true}}
http: {{addr: "127.0.0.1:0"{http}}}
{more}
"""
_LISTENS = re.compile(r"listening on 127\.0\.0\.1:(\d+)\D")
_USERS = "u:$2y$04$FfmJJWan9PxFN9jSGsyi7O4YyPmJ8Xh8ymHSzdN5Wi6cGAIKpVRJS\n"
"""The user u with the password secret, as htpasswd writes it."""


def basic(directory: Path) -> str:
    """Return the part of a configuration that requires the user u and the password secret."""
    users = directory / "users"
    users.write_text(_USERS)
    return f"auth: {{htpasswd: {{realm: r, path: {users}}}}}"


def lacking() -> str | None:
    """Return what this machine lacks for a registry, or None."""
    return None if shutil.which("docker-registry") else "no docker-registry"


@contextmanager
def registry(directory: Path, more: str = "", certificate: Path | None = None) -> Iterator[str]:
    """Run a registry with its data in a directory; yield its host and port.

    With a certificate, whose key is beside it, the registry speaks TLS.
    """
    config = directory / "config.yml"
    key = certificate and certificate.with_suffix(".key")
    http = f", tls: {{certificate: {certificate}, key: {key}}}" if certificate else ""
    text = _CONFIG.format(root=directory / "data", http=http, more=more)
    config.write_text(text)
    said = directory / "log"
    with said.open("wb") as log:
        command = ["docker-registry", "serve", str(config)]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_until(
                lambda: process.poll() is not None or _port(said) is not None,
                "the registry listens",
            )
            port = _port(said)
            assert port, f"the registry has ended: {said.read_text()}"
            wait_until(lambda: _answers(port), "the registry answers")
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def _port(log: Path) -> int | None:
    """Return the port on which a registry says that it listens."""
    found = _LISTENS.search(log.read_text())
    return int(found[1]) if found else None


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().status in (200, 400, 401)  # 400: it speaks TLS
    except OSError:
        return False
    finally:
        connection.close()


def load_into(
    url: str, image: ImageParts, name: str = "docker.io/library/app:1", gzipped: bool = False
) -> None:
    """Load an image into the store of a URL."""
    with open_store(url) as store, Import(store, ImportOptions()) as importing:
        importing.feed(oci_archive((image, name), gzipped=gzipped))
        importing.finish()


def certificate(directory: Path) -> Path:
    """Return a new certificate of this machine's own address, with its key beside it."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    made = directory / "registry.crt"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=registry", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(made.with_suffix(".key")), "-out", str(made)),
        ],
        check=True,
        capture_output=True,
    )
    return made

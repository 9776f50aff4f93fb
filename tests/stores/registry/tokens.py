"""A small token server, whose tokens docker-registry accepts."""

import base64
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.stores.registry.serving import serving

USER = "u:secret"
BASIC = f"Basic {base64.b64encode(USER.encode()).decode()}"


class TokenServer(ThreadingHTTPServer):
    """Grants what is asked for to the user `USER`, and only reading to anybody else."""

    daemon_threads = True

    def __init__(self, certificate: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.certificate = certificate
        self.scopes: list[list[str]] = []
        """Those of each request, in their order."""

    @property
    def config(self) -> str:
        """The part of a registry's configuration that requires the tokens."""
        realm = f"http://127.0.0.1:{self.server_port}/token"
        return (
            f"auth: {{token: {{realm: '{realm}', service: here, issuer: tests,"
            f" rootcertbundle: {self.certificate}}}}}"
        )

    def token(self, access: list[dict[str, Any]]) -> str:
        """Return a signed token that grants access to repositories."""
        lines = self.certificate.read_text().splitlines()
        header = {"typ": "JWT", "alg": "RS256", "x5c": ["".join(lines[1:-1])]}
        now = int(time.time())
        claims = {
            "iss": "tests",
            "sub": "u",
            "aud": "here",
            "jti": str(len(self.scopes)),
            "nbf": now - 60,
            "iat": now,
            "exp": now + 300,
            "access": access,
        }
        signed = b".".join(_encoded(json.dumps(part).encode()) for part in (header, claims))
        key = self.certificate.with_suffix(".key")
        command = ["openssl", "dgst", "-sha256", "-sign", str(key)]
        signature = subprocess.run(command, input=signed, capture_output=True, check=True).stdout
        return (signed + b"." + _encoded(signature)).decode()


class _Handler(BaseHTTPRequestHandler):
    server: TokenServer

    def do_GET(self) -> None:
        asked = parse_qs(urlsplit(self.path).query).get("scope", [])
        self.server.scopes.append(asked)
        may_write = self.headers["Authorization"] == BASIC
        access = []
        for scope in asked:
            kind, name, actions = scope.split(":")
            granted = [each for each in actions.split(",") if may_write or each == "pull"]
            access.append({"type": kind, "name": name, "actions": granted})
        body = json.dumps({"token": self.server.token(access), "expires_in": 300}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def _encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


@contextmanager
def token_server(certificate: Path) -> Iterator[TokenServer]:
    """Run a token server that signs with the key beside a certificate."""
    with serving(TokenServer(certificate)) as server:
        yield server

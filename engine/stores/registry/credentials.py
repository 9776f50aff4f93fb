"""Credentials of registries, from the files and helpers of docker and podman."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from engine.errors import AccessDenied
from engine.stores.registry.location import DOCKER_HUB

_HUB_KEY: Final = "https://index.docker.io/v1/"
_TOKEN_USER: Final = "<token>"
_HELPER_SECONDS: Final = 30


class Credentials(msgspec.Struct, frozen=True):
    """A user with a password, or an identity token, which is "" if there is none."""

    user: str
    password: str
    token: str = ""

    def __repr__(self) -> str:
        return f"Credentials({self.user!r}, …)"

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        pair = f"{self.user}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"


class _Entry(msgspec.Struct, frozen=True):
    auth: str = ""
    username: str = ""
    password: str = ""
    identitytoken: str = ""


class _File(msgspec.Struct, frozen=True, rename="camel"):
    auths: Mapping[str, _Entry] = {}
    cred_helpers: Mapping[str, str] = {}
    creds_store: str = ""


class _Answer(msgspec.Struct, frozen=True, rename="pascal"):
    username: str
    secret: str


def credential_files(environment: Mapping[str, str], home: Path) -> list[Path]:
    """Return the files that podman and docker look into, in their order."""
    files = []
    if given := environment.get("REGISTRY_AUTH_FILE"):
        files.append(Path(given))
    if runtime := environment.get("XDG_RUNTIME_DIR"):
        files.append(Path(runtime, "containers/auth.json"))
    config = environment.get("XDG_CONFIG_HOME")
    files.append(Path(config or home / ".config", "containers/auth.json"))
    docker = environment.get("DOCKER_CONFIG")
    files.append(Path(docker or home / ".docker", "config.json"))
    return files


def find_credentials(files: list[Path], host: str, prefix: str) -> Credentials | None:
    """Return the credentials for a namespace of a registry; None if the files have none.

    Raise AccessDenied if a file cannot be used; the error quotes nothing of it.
    """
    for file in files:
        try:
            content = msgspec.json.decode(file.read_bytes(), type=_File)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise AccessDenied(host, f"{file} cannot be read: {error.strerror}") from None
        except (msgspec.MsgspecError, RecursionError):
            raise AccessDenied(host, f"{file}: expected a file of docker or podman login") from None
        if found := _find(content, host, prefix):
            return found
    return None


def _find(content: _File, host: str, prefix: str) -> Credentials | None:
    for key in _keys(host, prefix):
        for stored, entry in content.auths.items():
            if _bare(stored) == key and (found := _of_entry(entry)):
                return found
    for key in _keys(host, prefix):
        if helper := content.cred_helpers.get(key):
            return _ask(helper, _HUB_KEY if key == DOCKER_HUB else key)
    if content.creds_store:
        return _ask(content.creds_store, _HUB_KEY if host == DOCKER_HUB else host)
    return None


def _keys(host: str, prefix: str) -> Iterator[str]:
    """Yield the namespace, each one above it, and the registry."""
    parts = [host, *prefix.split("/")] if prefix else [host]
    for count in range(len(parts), 0, -1):
        yield "/".join(parts[:count])


def _bare(key: str) -> str:
    """Return the registry of a key, of which old files have a URL."""
    bare = key.removeprefix("https://").removeprefix("http://").rstrip("/")
    for version in ("/v1", "/v2"):
        bare = bare.removesuffix(version)
    return DOCKER_HUB if bare in ("index.docker.io", "registry-1.docker.io") else bare


def _of_entry(entry: _Entry) -> Credentials | None:
    if entry.identitytoken:
        return Credentials(entry.username, "", entry.identitytoken)
    if entry.auth:
        with suppress(ValueError):  # no base64, or no UTF-8
            user, colon, password = base64.b64decode(entry.auth).decode().partition(":")
            if colon:
                return Credentials(user, password.rstrip("\0"))
    return Credentials(entry.username, entry.password) if entry.username else None


def _ask(helper: str, server: str) -> Credentials | None:
    """Return what a credential helper knows of a registry; None if it knows nothing."""
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, "get"],
            input=server.encode(),
            capture_output=True,
            check=False,
            timeout=_HELPER_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = "did not answer" if isinstance(error, subprocess.TimeoutExpired) else str(error)
        raise AccessDenied(server, f"{program}: {reason}") from None
    if done.returncode:
        return None
    try:
        answer = msgspec.json.decode(done.stdout, type=_Answer)
    except (msgspec.MsgspecError, RecursionError):
        raise AccessDenied(server, f"{program}: expected a user and a secret as JSON") from None
    if answer.username == _TOKEN_USER:
        return Credentials("", "", answer.secret)
    return Credentials(answer.username, answer.secret)

"""The certificates of a registry, from the directories of docker and podman."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from pathlib import Path

from engine.errors import StoreError


def certificate_directories(host: str, home: Path) -> list[Path]:
    """Return the directories that docker and podman look into for a registry."""
    above = ("/etc/containers/certs.d", "/etc/docker/certs.d")
    return [home / ".config/containers/certs.d" / host, *(Path(each, host) for each in above)]


def tls_context(directories: Iterable[Path]) -> ssl.SSLContext:
    """Return a context that trusts the system's authorities and those in NAME.crt of these
    directories, and shows the certificates NAME.cert with NAME.key. Raise StoreError.
    """
    context = ssl.create_default_context()
    for directory in directories:
        try:
            files = sorted(directory.iterdir())
        except OSError:
            continue
        for file in files:
            try:
                if file.suffix == ".crt":
                    context.load_verify_locations(file)
                elif file.suffix == ".cert":
                    context.load_cert_chain(file, file.with_suffix(".key"))
            except (OSError, ssl.SSLError) as error:
                raise StoreError(str(file), f"expected a certificate: {error.strerror}") from None
    return context

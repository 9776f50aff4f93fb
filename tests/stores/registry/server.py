"""Debian's docker-registry on a free port of the loopback, for tests."""

import http.client
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.waiting import wait_until

_CONFIG = """version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {root}}}
  delete: {{enabled: true}}
http: {{addr: "127.0.0.1:{port}"}}
{more}
"""


def lacking() -> str | None:
    """Return what this machine lacks for a registry, or None."""
    return None if shutil.which("docker-registry") else "no docker-registry"


@contextmanager
def registry(directory: Path, more: str = "") -> Iterator[str]:
    """Run a registry with its data in a directory; yield its host and port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = directory / "config.yml"
    config.write_text(_CONFIG.format(root=directory / "data", port=port, more=more))
    with (directory / "log").open("wb") as log:
        command = ["docker-registry", "serve", str(config)]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_until(lambda: _answers(port), "the registry answers")
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().status in (200, 401)
    except OSError:
        return False
    finally:
        connection.close()

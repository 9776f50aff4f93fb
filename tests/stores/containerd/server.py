"""A containerd for tests, with directories and a socket of its own."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.waiting import wait_until

_CONFIG = """\
version = 2
root = "{root}/root"
state = "{root}/state"
disabled_plugins = {disabled}
[grpc]
address = "{root}/sock"
[ttrpc]
address = "{root}/sock.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
path = "{root}/opt"
[plugins."io.containerd.gc.v1.scheduler"]
startup_delay = "24h"
pause_threshold = 0.000001
"""
"""Without collections but those that somebody waits for."""


def lacking() -> str | None:
    """Return what this machine lacks for a containerd, or None."""
    if os.geteuid() != 0:
        return "containerd needs root"
    return None if _find("containerd") and _find("ctr") else "containerd is not installed"


class Server:
    """A containerd that is started, stopped and killed."""

    def __init__(self, root: Path, disabled: Sequence[str]) -> None:
        self.root = root
        self.socket = root / "sock"
        self._process: subprocess.Popen[bytes] | None = None
        (root / "config.toml").write_text(_CONFIG.format(root=root, disabled=json.dumps(disabled)))

    def url(self, namespace: str) -> str:
        return f"containerd://{self.socket}?namespace={namespace}"

    def ctr(self, namespace: str, *arguments: str | Path) -> str:
        """Run ctr, which must succeed; return its output."""
        command = ["ctr", "--address", str(self.socket), "--namespace", namespace]
        done = subprocess.run([*command, *map(str, arguments)], capture_output=True, check=False)
        assert done.returncode == 0, f"{arguments}: {done.stderr.decode()}"
        return done.stdout.decode().strip()

    def collect(self, namespace: str) -> None:
        """Let containerd collect what nothing needs."""
        self.ctr(namespace, "leases", "create", "--id", "ends")
        self.ctr(namespace, "leases", "rm", "--sync", "ends")

    def stored(self, namespace: str) -> set[str]:
        """Return the digests of all blobs."""
        return set(self.ctr(namespace, "content", "ls", "-q").split())

    def start(self) -> None:
        with (self.root / "log").open("ab") as log:
            self._process = process = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL"),
                    *("unshare", "--mount", "--propagation", "private"),
                    *(str(_find("containerd")), "--config", str(self.root / "config.toml")),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

        def is_ready() -> bool:
            command = ["ctr", "--address", str(self.socket), "version"]
            return subprocess.run(command, capture_output=True, check=False).returncode == 0

        wait_until(lambda: process.poll() is not None or is_ready(), "containerd is ready", 60)
        assert process.poll() is None, (self.root / "log").read_text()[-2000:]

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


@contextmanager
def running(
    root: Path, disabled: Sequence[str] = ("io.containerd.grpc.v1.cri",)
) -> Iterator[Server]:
    """Run a containerd below a directory, which is removed at the end, without some plugins."""
    root.mkdir()
    server = Server(root, disabled)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        with suppress(OSError):
            shutil.rmtree(root)


def _find(tool: str) -> str | None:
    return shutil.which(tool, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")

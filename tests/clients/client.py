"""Real clients, restricted to the directories of a test.

Tests run docker, podman, skopeo and the others only as a `Client`: called with arguments, it
returns what the tool prints; formatted into a shell's command line, it is the whole command.
`daemon` runs the daemons that some of them need.
"""

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pytest

from tests.waiting import wait_until


@dataclass(frozen=True, slots=True)
class Client:
    """A command with arguments and an environment that restrict it to the test's directories."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: str | Path, stdin: bytes | IO[bytes] | None = None) -> str:
        """Run it; return its standard output without surrounding white space. It must succeed."""
        return self.output(*arguments, stdin=stdin).decode().strip()

    def output(self, *arguments: str | Path, stdin: bytes | IO[bytes] | None = None) -> bytes:
        """Run it; return its standard output as bytes. It must succeed."""
        done = self.run(*arguments, stdin=stdin)
        said = done.stderr.decode(errors="replace")
        assert done.returncode == 0, f"{self.command[0]} {arguments}: {done.returncode}: {said}"
        return done.stdout

    def run(
        self, *arguments: str | Path, stdin: bytes | IO[bytes] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run it to its end; return the result even if it failed."""
        command = [*self.command, *(str(argument) for argument in arguments)]
        environment = {**os.environ, **self.environment}
        if stdin is None or isinstance(stdin, bytes):
            return subprocess.run(
                command, input=stdin or b"", capture_output=True, env=environment, check=False
            )
        return subprocess.run(
            command, stdin=stdin, capture_output=True, env=environment, check=False
        )

    def __str__(self) -> str:
        """Return the command for a shell: f"tar -c . | {docker} load"."""
        changes = [f"{name}={value}" for name, value in self.environment.items()]
        return shlex.join(["env", *changes, *self.command])


def shell(script: str) -> str:
    """Run a shell script; return its stripped output. Each command of a pipeline must succeed."""
    return Client(("bash", "-euo", "pipefail", "-c"))(script)


def find(tool: str) -> str:
    """Return the path of a tool, also from directories that only root's PATH has; skip the test if
    it is missing.
    """
    path = shutil.which(tool, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"{tool} is not installed")
    return path


def require_root(why: str) -> None:
    """Skip the test unless it may create namespaces, as root may on a real machine."""
    if os.geteuid() != 0:
        pytest.skip(f"{why} needs root")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip(f"{why} needs mount name spaces, which are forbidden here")


@contextmanager
def daemon(*command: str, log: Path, ready: Callable[[], bool]) -> Iterator[None]:
    """Run a daemon in process and mount namespaces of its own, with its own /run.

    Whatever it starts or mounts ends with it. The daemon ends with this process.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL"),
                *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
                *("sh", "-c", 'mount -t tmpfs tmpfs /run && exec "$@"', "sh"),
                *command,
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until(lambda: process.poll() is not None or ready(), f"{command[0]} is ready", 60)
        assert process.returncode is None, f"{command[0]} ended:\n{log.read_text()[-2000:]}"
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def directory(path: Path) -> Iterator[Path]:
    """Create a directory; at the end unmount everything below it, and remove it."""
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        for point in reversed(_mounts_below(path)):
            subprocess.run(["umount", "--lazy", point], capture_output=True, check=False)
        shutil.rmtree(path, ignore_errors=True)


def _mounts_below(path: Path) -> list[str]:
    """Return the mount points at and below a directory, in the order of mounting."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    points = [line.split(" ")[4] for line in lines.splitlines()]
    return [point for point in points if Path(point).is_relative_to(path)]

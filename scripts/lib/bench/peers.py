"""The other tools that are installed, each with its storage below one directory.

The daemons of docker and containerd start when they are first needed, in their own name spaces, and
end with the `ExitStack`. They need root.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from scripts.lib.bench.running import Daemon, Failed, call, children, command
from scripts.lib.bench.turns import Sample, say
from tests.clients.client import Client, directory
from tests.clients.containers import DRIVERS, environment, use_driver
from tests.clients.daemons import running_containerd, running_dockerd


@dataclass(frozen=True, slots=True)
class Peer:
    """A tool, the daemon that works for it, and the URL of the store over the daemon."""

    client: Client
    daemon: Daemon | None = None
    url: str = ""

    def timed(self, *arguments: str | Path) -> Sample:
        words = [*self.client.command, *arguments]
        return command(words, self.daemon, self.client.environment)

    def call(self, *arguments: str | Path) -> str:
        """Run a command of the tool without measuring it."""
        return call(*self.client.command, *arguments, environment=self.client.environment)


class Peers:
    """All tools; one that is not installed or does not start is None, and a note says why."""

    def __init__(self, root: Path, stack: ExitStack) -> None:
        self._notes: list[str] = []
        self._root = stack.enter_context(directory(root))
        self._stack = stack

    def new_notes(self) -> list[str]:
        """Return the notes since the last call."""
        found, self._notes = self._notes, []
        return found

    @cached_property
    def docker(self) -> Peer | None:
        if not self._has("docker", "dockerd") or not self._may_isolate("docker"):
            return None
        return self._started("docker", lambda root: _docker(root))

    @cached_property
    def ctr(self) -> Peer | None:
        if not self._has("ctr", "containerd") or not self._may_isolate("ctr"):
            return None
        return self._started("ctr", lambda root: _ctr(root))

    @cached_property
    def podman(self) -> Peer | None:
        if not self._has("podman") or not self._may_isolate("podman"):
            return None
        # podman run waits for 20 s in vain if the paths of its sockets are long.
        short = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
        state = self._stack.enter_context(directory(Path(short, "podman")))
        words = ("podman", "--runroot", f"{state}/run", "--tmpdir", f"{state}/tmp")
        for driver in DRIVERS:
            use_driver(self._containers.root, driver)
            peer = Peer(Client(words, self._containers.environment))
            if peer.client.run("info").returncode == 0:
                return peer
        self._notes.append("podman is left out: it does not run here")
        return None

    @cached_property
    def skopeo(self) -> Peer | None:
        if not self._has("skopeo"):
            return None
        return Peer(Client(("skopeo", "--insecure-policy"), self._containers.environment))

    @cached_property
    def umoci(self) -> Peer | None:
        return Peer(Client(("umoci",))) if self._has("umoci") else None

    @cached_property
    def buildah(self) -> Peer | None:
        """buildah, with the options that select its storage."""
        return (
            Peer(Client(("buildah", "--storage-driver", "vfs"))) if self._has("buildah") else None
        )

    @cached_property
    def _containers(self) -> "_Containers":
        root = self._root / "containers"
        return _Containers(root, environment(root))

    def _has(self, *tools: str) -> bool:
        path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
        lacking = [tool for tool in tools if not shutil.which(tool, path=path)]
        if lacking:
            self._notes.append(f"{tools[0]} is left out: {', '.join(lacking)} is not installed")
        return not lacking

    def _may_isolate(self, tool: str) -> bool:
        if os.geteuid() != 0:
            self._notes.append(f"{tool} is left out: it needs root here")
        return os.geteuid() == 0

    def _started(
        self, tool: str, start: Callable[[Path], AbstractContextManager[Peer]]
    ) -> Peer | None:
        root = self._root / tool
        root.mkdir()
        say(f"starting {tool}'s daemon")
        before = set(children(os.getpid()))
        try:
            peer = self._stack.enter_context(start(root))
        except (AssertionError, Failed) as error:
            self._notes.append(f"{tool} is left out: {str(error).splitlines()[0]}")
            return None
        (started,) = set(children(os.getpid())) - before
        return replace(peer, daemon=Daemon(started))


@dataclass(frozen=True, slots=True)
class _Containers:
    """The storage of podman and skopeo, and the options that select it."""

    root: Path
    environment: dict[str, str]


@contextmanager
def _docker(root: Path) -> Iterator[Peer]:
    with running_dockerd(root) as running:
        yield Peer(running.docker)


@contextmanager
def _ctr(root: Path) -> Iterator[Peer]:
    with running_containerd(root) as running:
        yield Peer(running.ctr, url=running.url)

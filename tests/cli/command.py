"""Run `imgfs`, check what it prints, and inspect the store without it."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.local_engine import LocalEngine
from tests.mounts import IMGFS

_TABLES = ("blobs", "images", "targets", "members", "manifests", "leases", "lease_resources")


@dataclass(frozen=True)
class Done:
    """The result of a command that has ended."""

    status: int
    out: bytes
    err: bytes

    @property
    def lines(self) -> list[str]:
        return self.out.decode().splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Command:
    """Run `imgfs` as a process, on a store."""

    store: Path

    def __call__(self, *arguments: str | Path, stdin: bytes = b"", **environment: str) -> Done:
        command = [*IMGFS, *map(str, arguments)]
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            check=False,
            env=self.environment | environment,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str | Path, **more: Any) -> subprocess.Popen[bytes]:
        command = [*IMGFS, *map(str, arguments)]
        return subprocess.Popen(command, env=self.environment, **more)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "IMGFS_STORE": str(self.store)}


def succeeded(done: Done) -> Done:
    assert (done.status, done.err) == (0, b"")
    return done


def refusal(done: Done, status: int = 1) -> str:
    """Return the error of a failed command: one line that is safe for any terminal."""
    text = done.err.decode()
    assert done.status == status, text
    assert text.startswith("imgfs: ")
    assert text.endswith("\n")
    assert "Traceback" not in text
    assert "internal error" not in text
    line = text.removeprefix("imgfs: ").removesuffix("\n")
    assert line.isprintable()
    return line


def names(store: Path) -> dict[str, str]:
    """Return the familiar name and the image ID of every stored image."""
    with LocalEngine(store) as engine:
        return {
            image.familiar: engine.images.manifests(image.target.digest)[0].config
            for image in engine.images.all()
        }


def picture(store: Path) -> object:
    """Return every row and every file of a store."""
    with LocalEngine(store) as engine:
        rows = [engine.database.read(f"SELECT * FROM {table}") for table in _TABLES]
    files = [(str(p), p.stat().st_size) for p in sorted(store.rglob("*")) if p.is_file()]
    return rows, [file for file in files if "imgfs.db" not in file[0]]

"""`imgfs info`."""

import json
import os
import platform as host_platform
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import click

from engine import platforms
from engine.engine import Engine
from engine.errors import printable
from imgfs.cli.common import format_option, human, print_json, with_engine
from imgfs.cli.mounts import mountpoints

_PATIENCE = 2.0
"""Seconds that a mount has to say what it is."""


@click.command()
@format_option
@with_engine
def info(engine: Engine, form: str) -> None:
    """Tell of the store, its mounts and the versions of what imgfs stands on.

    \b
    imgfs info --format json
    """
    from importlib.metadata import version

    disk = os.statvfs(engine.path)
    mounts = _mounts(engine.path)
    sizes = [blob.size for blob in engine.content.walk()]
    told: dict[str, Any] = {
        "store": str(engine.path),
        "images": engine.images.count(),
        "blobs": len(sizes),
        "bytes": sum(sizes),
        "free": disk.f_bavail * disk.f_frsize,
        "mounts": list(mounts),
        "passthrough": mounts,
        "platform": platforms.format(platforms.host()),
        "imgfs": version("imgfs"),
        "pyfuse3": version("pyfuse3"),
        "python": host_platform.python_version(),
        "kernel": host_platform.release(),
    }
    if form == "json":
        print_json(told)
        return
    shown = told | {name: human(told[name]) for name in ("bytes", "free")}
    shown["mounts"] = ", ".join(told["mounts"]) or "none"
    ways = [f"{way} ({path})" for path, way in mounts.items()]
    shown["passthrough"] = ", ".join(ways) or "nothing is mounted"
    for name, value in shown.items():
        print(f"{name + ':':12} {printable(str(value), 2000)}")


def _mounts(store: Path) -> dict[str, str]:
    """Where this store is mounted by processes whose mounts we may read, and what they say of
    kernel passthrough. One that does not answer is told of, and not waited for.
    """
    told: dict[str, str] = {}
    asked = {path: Thread(target=_ask, args=(path, store, told)) for path in mountpoints()}
    for thread in asked.values():
        thread.daemon = True
        thread.start()
    deadline = time.monotonic() + _PATIENCE
    for path, thread in asked.items():
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            print(f"imgfs: {printable(str(path))}: does not answer", file=sys.stderr)
    return dict(sorted(told.items()))


def _ask(path: Path, store: Path, told: dict[str, str]) -> None:
    with suppress(OSError, ValueError):
        status = json.loads((path / ".imgfs" / "status.json").read_bytes())
        if status.get("store") == str(store):
            told[str(path)] = str(status.get("passthrough", "off"))

"""`imgfs info`: show a store, its mounts, and versions."""

import json
import os
import platform as host_platform
import sys
import time
from argparse import Namespace
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

from engine.errors import StoreMissing, escaped, printable
from engine.spec import platforms
from imgfs.cli.support.command import Command, Parser
from imgfs.cli.support.common import format_option, human, opened, print_json, store_location
from imgfs.mounts import mountpoints

_PATIENCE = 2.0
"""Seconds that a mount has for its answer."""


def _options(parser: Parser) -> None:
    format_option(parser, "table", "json")


def _info(args: Namespace) -> None:
    """Show the store, its mounts, and the versions of imgfs and its libraries.

    imgfs info --format json
    """
    location = store_location(args.store)
    directory, images, sizes, exists = Path(location), 0, list[int](), False
    with suppress(StoreMissing), opened(args) as store:
        directory, images, exists = store.disk, store.images.count(), True
        sizes = [blob.size for blob in store.content.walk()]
    document = _document(location, directory, images, sizes)
    if args.format == "json":
        print_json(document)
        return
    shown = document | {name: human(document[name]) for name in ("bytes", "free")}
    shown["store"] += "" if exists else " (there is none yet)"
    shown["mounts"] = ", ".join(document["mounts"]) or "none"
    ways = [f"{way} ({path})" for path, way in document["passthrough"].items()]
    shown["passthrough"] = ", ".join(ways) or "nothing is mounted"
    for name, value in shown.items():
        print(f"{name + ':':12} {escaped(str(value))}")


INFO = Command(_info, _options)


def _document(store: str, directory: Path, images: int, sizes: list[int]) -> dict[str, Any]:
    from importlib.metadata import version

    disk = os.statvfs(next(p for p in (directory, *directory.parents) if p.exists()))
    mounts = _mounts(store)
    return {
        "store": store,
        "images": images,
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


def _mounts(store: str) -> dict[str, str]:
    """Return the readable mounts of this store, each with its state of kernel passthrough; report a
    mount that does not answer in time.
    """
    states: dict[str, str] = {}
    asked = {path: Thread(target=_ask, args=(path, store, states)) for path in mountpoints()}
    for thread in asked.values():
        thread.daemon = True
        thread.start()
    deadline = time.monotonic() + _PATIENCE
    for path, thread in asked.items():
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            print(f"imgfs: {printable(str(path))}: does not answer", file=sys.stderr)
    return dict(sorted(states.items()))


def _ask(path: Path, store: str, states: dict[str, str]) -> None:
    with suppress(OSError, ValueError):
        status = json.loads((path / ".imgfs" / "status.json").read_bytes())
        if status.get("store") == store:
            states[str(path)] = str(status.get("passthrough", "off"))

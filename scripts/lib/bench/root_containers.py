"""Start a container on a root of the mount, with an overlay over it, and of an unpacked image."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from scripts.lib.bench.bench import Bench
from scripts.lib.bench.debian_roots import PROGRAM
from scripts.lib.bench.images import NAME
from scripts.lib.bench.mounting import Mount
from scripts.lib.bench.results import Goal
from scripts.lib.bench.running import call, command
from scripts.lib.bench.saving import FULL_NAME
from scripts.lib.bench.turns import Contender, Sample

_UNPACKED = "podman run, unpacked"
_RUNC = """\
mount -t overlay none -o "lowerdir=$1,upperdir=$0/upper,workdir=$0/work" "$0/rootfs" &&
runc --root "$0/state" run --bundle "$0" imgfs-bench; status=$?; umount "$0/rootfs"; exit $status
"""


def measure(bench: Bench, mount: Mount) -> None:
    """Measure the time until a container prints; podman has unpacked the image."""
    podman = bench.peers.podman
    if podman is None:
        return
    options = ("run", "--rm", "--network", "none")
    root = mount.path / "rootfs" / NAME
    rootfs = ("--rootfs", f"{root}:O")

    def first(start: Callable[[], Sample]) -> Sample:
        mount.remount()
        return start()

    def run(*words: str) -> Sample:
        return _until_output(podman.timed(*options, *words, *PROGRAM))

    podman.call(*options, FULL_NAME, *PROGRAM)
    contenders = [
        Contender(_UNPACKED, lambda: run(FULL_NAME)),
        Contender("podman run --rootfs, first", lambda: first(lambda: run(*rootfs))),
        Contender("podman run --rootfs, second", lambda: run(*rootfs)),
    ]
    with bench.place("containers") as place:
        if shutil.which("runc", path=f"{os.environ['PATH']}:/usr/sbin"):
            words = ["sh", "-c", _RUNC, str(place), _bundle(place, root)]

            def runc() -> Sample:
                return _until_output(command(words))

            contenders.append(Contender("runc on an overlay, first", lambda: first(runc)))
            contenders.append(Contender("runc on an overlay, second", runc))
        done = bench.contest("the first output of a container", contenders)
    for name in list(done.samples)[1:]:
        goal = Goal(1.5 if name.endswith("first") else 1.1)
        bench.report.time(done, f"{name} ÷ podman run of the unpacked image", name, goal, _UNPACKED)


def _until_output(sample: Sample) -> Sample:
    """Return the sample with the time until the first output."""
    assert sample.first_byte is not None
    return replace(sample, seconds=sample.first_byte)


def _bundle(place: Path, root: Path) -> str:
    """Make a bundle whose root is an overlay of `root`, which is returned as mount wants it."""
    for name in ("upper", "work", "rootfs", "state"):
        (place / name).mkdir()
    call("runc", "spec", "--bundle", place)
    config = json.loads((place / "config.json").read_bytes())
    config["root"] = {"path": str(place / "rootfs"), "readonly": False}
    config["process"] |= {"terminal": False, "args": list(PROGRAM), "rlimits": []}
    (place / "config.json").write_text(json.dumps(config))
    return str(root).replace(":", "\\:")

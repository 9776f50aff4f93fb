"""Load into a containerd, and read what it has through a mount, beside ctr and its own files."""

import os
from pathlib import Path
from unittest import mock

from scripts.lib.bench.bench import Bench
from scripts.lib.bench.images import NAME, StoredImage
from scripts.lib.bench.mounting import IMGFS, write_into
from scripts.lib.bench.peers import Peer
from scripts.lib.bench.results import Goal
from scripts.lib.bench.running import command, read_all, work
from scripts.lib.bench.saving import FULL_NAME
from scripts.lib.bench.turns import Contender, Sample

_CTR, _CP, _LOAD = "ctr images import --no-unpack", "imgfs, cp", "imgfs load"
_FILES, _FIRST, _AGAIN = "containerd's files", "imgfs, first", "imgfs, second"


def measure(bench: Bench) -> None:
    ctr = bench.peers.ctr
    if ctr is None:
        return
    image = bench.images.image(bench.size)
    image.warm()
    with mock.patch.dict(os.environ, {"XDG_CACHE_HOME": str(bench.scratch / "user-cache")}):
        _loading(bench, ctr, image)
        _reading(bench, ctr, image)


def _loading(bench: Bench, ctr: Peer, image: StoredImage) -> None:
    with bench.mounted(ctr.url) as mount:

        def imported() -> Sample:
            _clear(ctr)
            return ctr.timed("images", "import", "--no-unpack", "--all-platforms", image.archive)

        def copied() -> Sample:
            _clear(ctr)
            return write_into(mount, ["cp", image.archive, mount.path / "import" / "x.tar"])

        def loaded() -> Sample:
            _clear(ctr)
            return command([*IMGFS, "--store", ctr.url, "load", "-q", "-i", image.archive])

        contenders = [Contender(_CTR, imported), Contender(_CP, copied), Contender(_LOAD, loaded)]
        done = bench.contest("loading into containerd", contenders, image.size)
    for name in (_CP, _LOAD):
        what = f"loading the {bench.size} archive into containerd ÷ {_CTR}, by {name}"
        bench.report.time(done, what, name, Goal(0.5), _CTR)


def _reading(bench: Bench, ctr: Peer, image: StoredImage) -> None:
    _clear(ctr)
    ctr.call("images", "import", "--no-unpack", "--all-platforms", image.archive)
    files = bench.scratch / "peers/ctr/root/io.containerd.content.v1.content"
    with bench.mounted(ctr.url) as mount:

        def first() -> Sample:
            mount.remount()
            return again()

        def again() -> Sample:
            return work(lambda: _read_blobs(mount.path / NAME))

        contenders = [
            Contender(_FILES, lambda: work(lambda: _read_blobs(files))),
            Contender(_FIRST, first),
            Contender(_AGAIN, again),
        ]
        _read_blobs(files)
        done = bench.contest("reading the blobs of a containerd", contenders, image.size)
    for name, goal in ((_FIRST, Goal(0.9, 0.3, True)), (_AGAIN, Goal(0.95, 0.85, True))):
        what = f"reading an image of containerd ÷ plain reads of its files, throughput, {name}"
        bench.report.throughput(done, what, name, goal, _FILES)


def _clear(ctr: Peer) -> None:
    ctr.client.run("images", "rm", "--sync", FULL_NAME)
    os.sync()


def _read_blobs(directory: Path) -> None:
    for blob in sorted((directory / "blobs" / "sha256").iterdir()):
        read_all(blob)

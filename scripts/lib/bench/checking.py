"""Check a store: every blob against its digest, and every layer against its diff ID."""

from scripts.lib.bench.bench import Bench
from scripts.lib.bench.mounting import IMGFS
from scripts.lib.bench.results import Goal
from scripts.lib.bench.running import command
from scripts.lib.bench.turns import Contender

_HASH, _FSCK, _DEEP = "openssl sha256", "imgfs fsck", "imgfs fsck --deep"


def measure(bench: Bench) -> None:
    image = bench.images.image(bench.size, "gzip")
    image.warm()
    blobs = sorted((image.store / "blobs").glob("*/*"))
    fsck = [*IMGFS, "--store", str(image.store), "fsck", "-q"]
    contenders = [
        Contender(_HASH, lambda: command(["openssl", "sha256", *blobs])),
        Contender(_FSCK, lambda: command(fsck)),
        Contender(_DEEP, lambda: command([*fsck, "--deep"])),
    ]
    done = bench.contest("checking gzip layers", contenders, image.size)
    what = "imgfs fsck ÷ openssl sha256 of all blobs"
    bench.report.time(done, what, _FSCK, Goal(0.6), _HASH)

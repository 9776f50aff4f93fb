"""Commit gzip layers anew, as zstd and uncompressed, beside a pipeline of tools that does the same.

The pipeline decompresses and compresses layer by layer, hashes both forms, and syncs what it
writes.
"""

import shutil
from functools import partial
from pathlib import Path

from scripts.lib.bench.bench import Bench
from scripts.lib.bench.images import NAME, StoredImage, gzip_layers
from scripts.lib.bench.mounting import IMGFS
from scripts.lib.bench.results import Goal
from scripts.lib.bench.running import command
from scripts.lib.bench.turns import Contender, Sample

_TOOLS = ("igzip", "zstd", "openssl")
_HASH = "openssl sha256"
_PIPELINES = {
    "zstd": f'igzip -dc "$f" | tee >({_HASH} >&2) | zstd -q -3 -T0 | tee "$o" | {_HASH}',
    "uncompressed": f'igzip -dc "$f" | tee "$o" | {_HASH}',
}
_EACH = 'set -o pipefail; for f; do o=$0/${f##*/}; %s || exit; sync "$o"; done'


def measure(bench: Bench, size: str) -> None:
    """Measure the gzip image of a size."""
    if missing := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        bench.report.notes.append(f"commit --force-compression: not installed: {missing[0]}")
        return
    image = bench.images.image(size, "gzip")
    image.warm()
    for compression, pipeline in _PIPELINES.items():
        ours, tools = f"to {compression}", f"to {compression}, tools"
        contenders = [
            Contender(ours, partial(_commit, bench, image, compression)),
            Contender(tools, partial(_pipe, bench, image, _EACH % pipeline)),
        ]
        done = bench.contest(f"gzip layers to {compression}", contenders, image.size)
        what = f"commit --force-compression of gzip layers to {compression} ÷ a pipeline of tools"
        bench.report.time(done, what, ours, Goal(1), tools)


def _commit(bench: Bench, image: StoredImage, compression: str) -> Sample:
    with bench.place() as place:
        shutil.copytree(image.store, place / "store")
        _synced(place / "store")
        options = ["--config-only", "--force-compression", "--compression", compression]
        words = ["commit", "-q", "--base", NAME, *options, "again:1"]
        return command([*IMGFS, "--store", place / "store", *words])


def _pipe(bench: Bench, image: StoredImage, pipeline: str) -> Sample:
    with bench.place() as place:
        return command(["bash", "-c", pipeline, place, *gzip_layers(image)])


def _synced(store: Path) -> None:
    """Wait until a copied store is on the disk, and give it the mode of a store."""
    store.chmod(0o700)
    command(["sync", "-f", store])

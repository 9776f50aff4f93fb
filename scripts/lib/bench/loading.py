"""Load an archive: by cp and by smaller writers into `import/`, and by `imgfs load`; new or already
stored; with plain and with compressed layers.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from scripts.lib.bench.bench import Bench
from scripts.lib.bench.images import StoredImage, gzip_layers
from scripts.lib.bench.mounting import IMGFS, Mount
from scripts.lib.bench.results import Goal
from scripts.lib.bench.running import command
from scripts.lib.bench.saving import FULL_NAME
from scripts.lib.bench.turns import Contender, Contest, Sample

_HASH, _COPY = "openssl sha256", "cp and fsync"
_CP, _LOAD = "imgfs, cp", "imgfs load"
_DD = {"10 KiB": "imgfs, dd bs=10k", "32 KiB": "imgfs, dd bs=32k"}
TOOLS = "igzip | openssl sha256, openssl sha256"
SKOPEO = "skopeo copy to oci:"
_PEERS = ("ctr images import --no-unpack", SKOPEO)


def measure(bench: Bench) -> None:
    plain = bench.images.image(bench.size)
    plain.warm()
    small_writers = [
        Contender(name, lambda name=name: _into_import(bench, plain, *_dd(name)))  # type: ignore[misc]  # mypy infers no type for a lambda with defaults
        for name in _DD.values()
    ]
    done = _new(bench, "loading, plain layers", plain, small_writers)
    report, slower = bench.report, done.slowest((_HASH, _COPY))
    what = (
        f"loading the {bench.size} archive by cp into import/ ÷ the slower of hash and cp + fsync"
    )
    report.time(done, what, _CP, Goal(1.3, 1.8), slower)
    for writer, name in _DD.items():
        report.time(done, f"the same with a {writer} writer", name, Goal(1.5, 4), slower)
    report.time(done, "the same by imgfs load from a file", _LOAD, Goal(1.15), slower)
    best = done.fastest(_PEERS)
    what = "loading by cp ÷ the fastest peer that stores without unpacking, time"
    report.time(done, what, _CP, Goal(0.4, 0.6), best)
    _there_already(bench, plain)
    zipped = bench.images.image(bench.size, "gzip")
    zipped.warm()
    done = _new(bench, "loading, gzip layers", zipped, layer_by_layer(gzip_layers(zipped)))
    what = "loading gzip layers by imgfs load"
    skopeo = SKOPEO if SKOPEO in done.samples else None
    report.time(done, f"{what} ÷ skopeo copy to oci:", _LOAD, Goal(0.6), skopeo)
    tools = TOOLS if TOOLS in done.samples else None
    report.time(done, f"{what} ÷ hash and unpacked hash of each layer", _LOAD, Goal(0.75), tools)
    report.time(done, "the same by cp into import/ ÷ by imgfs load", _CP, Goal(1.1), _LOAD)


def _new(bench: Bench, title: str, image: StoredImage, more: list[Contender]) -> Contest:
    archive = image.archive

    def copy() -> Sample:
        with bench.place() as place:
            return command(["sh", "-c", 'cp "$0" "$1" && sync "$1"', archive, place / "copy"])

    def load() -> Sample:
        with bench.place() as place:
            return command([*IMGFS, "--store", place / "store", "load", "-q", "-i", archive])

    contenders = [
        Contender(_HASH, lambda: command(["openssl", "sha256", archive])),
        Contender(_COPY, copy),
        Contender(_CP, lambda: _into_import(bench, image, "cp", archive)),
        *more,
        Contender(_LOAD, load),
        *_peers(bench, archive),
    ]
    return bench.contest(title, contenders, image.size)


def _peers(bench: Bench, archive: Path) -> list[Contender]:
    found: list[Contender] = []
    if ctr := bench.peers.ctr:

        def imported() -> Sample:
            ctr.client.run("images", "rm", "--sync", FULL_NAME)
            with bench.place():
                return ctr.timed("images", "import", "--no-unpack", "--all-platforms", archive)

        found.append(Contender(_PEERS[0], imported))
    if skopeo := bench.peers.skopeo:

        def copied() -> Sample:
            with bench.place() as place:
                words = ["copy", "-q", "--dest-oci-accept-uncompressed-layers"]
                return skopeo.timed(*words, f"oci-archive:{archive}", f"oci:{place}/layout:1")

        found.append(Contender(SKOPEO, copied))
    return found


def layer_by_layer(blobs: Sequence[Path]) -> list[Contender]:
    """Return the verification of each gzip blob in turn, by tools; none if igzip is missing."""
    if shutil.which("igzip") is None:
        return []
    script = 'for f; do igzip -dc "$f" | openssl sha256 & openssl sha256 "$f"; wait; done'
    return [Contender(TOOLS, lambda: command(["sh", "-c", script, "sh", *blobs]))]


def _dd(name: str) -> tuple[str, str, str]:
    return "dd", name.rpartition(" ")[2], "status=none"


def _into_import(bench: Bench, image: StoredImage, *writer: str | Path) -> Sample:
    """Write into a new store through a new mount. Closing the file ends the load."""
    with bench.place() as place, bench.mounted(place / "store") as mount:
        return _write(mount, image, *writer)


def _write(mount: Mount, image: StoredImage, *writer: str | Path) -> Sample:
    """Write a file into a mount and return what was measured.

    The kernel counts bytes written to a mount as if it were a disk, so the bytes written are the
    daemon's alone, unless the writer's do reach a disk, by passthrough.
    """
    target = mount.path / "import" / "x.tar"
    ends = [f"if={image.archive}", f"of={target}"] if writer[0] == "dd" else [target]
    before = mount.daemon.written()
    sample = command([*writer, *ends], mount.daemon)
    if mount.has_passthrough:
        return sample
    return replace(sample, written=mount.daemon.written() - before)


def _there_already(bench: Bench, image: StoredImage) -> None:
    with bench.mounted(image.store) as mount:
        load: list[str | Path] = [*IMGFS, "--store", image.store, "load", "-q", "-i", image.archive]
        contenders: dict[str, Callable[[], Sample]] = {
            _HASH: lambda: command(["openssl", "sha256", image.archive]),
            _CP: lambda: _write(mount, image, "cp", image.archive),
            _LOAD: lambda: command(load),
        }
        done = bench.contest(
            "loading what is there already",
            [Contender(name, once) for name, once in contenders.items()],
            image.size,
        )
    what = "loading what is there already ÷ openssl sha256"
    bench.report.time(done, f"{what}, by imgfs load", _LOAD, Goal(1.1), _HASH)
    bench.report.time(done, f"{what}, by cp into import/", _CP, Goal(1.1), _HASH)

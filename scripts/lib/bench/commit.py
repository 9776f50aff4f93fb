"""Make an image from a directory of at most 150 MB, and compress the layers of one anew."""

import shlex
from collections.abc import Callable
from pathlib import Path

from scripts.lib.bench import recompressing
from scripts.lib.bench.bench import Bench
from scripts.lib.bench.images import NAME
from scripts.lib.bench.mounting import IMGFS
from scripts.lib.bench.peers import Peer
from scripts.lib.bench.results import Goal, Row
from scripts.lib.bench.running import command
from scripts.lib.bench.turns import Contender, Sample

_OURS, _COPY = "imgfs commit", "cp -a and sync"
_BUILDAH, _BUILDAH_COPIES = "buildah commit", "buildah copy, commit"
_COMMIT = ("commit", "-q", "--disable-compression=false")
Sizes = dict[str, int]


def measure(bench: Bench) -> None:
    size = "small" if bench.size == "small" else "medium"
    tree = bench.images.tree(size)
    sizes: Sizes = {}
    contenders = [
        Contender(_OURS, lambda: _imgfs(bench, tree, "gzip", sizes)),
        Contender(f"{_OURS}, zstd", lambda: _imgfs(bench, tree, "zstd", sizes)),
        *_peers(bench, tree, sizes),
        Contender(_COPY, lambda: _copy(bench, tree)),
    ]
    done = bench.contest("committing a directory", contenders, _size_of(tree))
    best = _BUILDAH if _BUILDAH in done.samples else None
    what = f"commit of the {size} root to gzip ÷ buildah commit"
    bench.report.time(done, f"{what}, time", _OURS, Goal(0.3), best)
    value = sizes[_OURS] / sizes[_BUILDAH] if best else None
    bench.report.rows.append(Row(f"{what}, size", value, Goal(1.1)))
    for name, made in sizes.items():
        bench.report.rows.append(Row(f"size of the image by {name}", made / 1e6, None, "MB"))
    recompressing.measure(bench, size)


def _imgfs(bench: Bench, tree: Path, compression: str, sizes: Sizes) -> Sample:
    with bench.place() as place:
        words = ["--store", str(place / "store"), "commit", "-q", "--compression", compression]
        sample = command([*IMGFS, *words, tree, NAME])
        name = _OURS if compression == "gzip" else f"{_OURS}, {compression}"
        sizes[name] = _size_of(place / "store" / "blobs")
    return sample


def _copy(bench: Bench, tree: Path) -> Sample:
    with bench.place() as place:
        return command(["sh", "-c", 'cp -a "$0" "$1" && sync', tree, place / "copy"])


def _peers(bench: Bench, tree: Path, sizes: Sizes) -> list[Contender]:
    def contender(name: str, once: Callable[[Path], Sample]) -> Contender:
        def run() -> Sample:
            with bench.place() as place:
                sample = once(place)
                sizes[name] = _size_of(place / "layout")
                return sample

        return Contender(name, run)

    found: list[Contender] = []
    if umoci := bench.peers.umoci:
        found.append(contender("umoci insert", lambda p: _umoci_insert(umoci, tree, p)))
    if buildah := bench.peers.buildah:
        found.append(contender(_BUILDAH_COPIES, lambda p: _buildah_copy_commit(buildah, tree, p)))
        found.append(contender(_BUILDAH, lambda p: _buildah_commit(buildah, tree, p)))
    return found


def _umoci_insert(umoci: Peer, tree: Path, place: Path) -> Sample:
    umoci.call("init", "--layout", place / "layout")
    umoci.call("new", "--image", f"{place}/layout:1")
    return umoci.timed("insert", "--image", f"{place}/layout:1", tree, "/")


def _buildah_commit(buildah: Peer, tree: Path, place: Path) -> Sample:
    """Commit a container that has the tree already."""
    where = _storage(place)
    container = buildah.call(*where, "from", "scratch").strip()
    buildah.call(*where, "copy", "-q", container, tree, "/")
    return buildah.timed(*where, *_COMMIT, container, f"oci:{place}/layout:1")


def _buildah_copy_commit(buildah: Peer, tree: Path, place: Path) -> Sample:
    """Copy the directory and commit it, which is the work that imgfs does."""
    where = _storage(place)
    container = buildah.call(*where, "from", "scratch").strip()
    copy = shlex.join([*buildah.client.command, *where, "copy", "-q", container, str(tree), "/"])
    image = f"oci:{place}/layout:1"
    commit = shlex.join([*buildah.client.command, *where, *_COMMIT, container, image])
    return command(["sh", "-c", f"{copy} && {commit}"])


def _storage(place: Path) -> list[str]:
    return ["--root", f"{place}/root", "--runroot", f"{place}/run"]


def _size_of(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())

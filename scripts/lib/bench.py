"""Times imgfs against the peers that are installed, in one run and by turns (A B C A B C …)."""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

SOURCES = ("/usr/lib", "/usr/bin", "/usr/share")
TREE_BYTES = 150 << 20


@dataclass
class Contender:
    """Something that does the work; `run` returns how many bytes it made."""

    name: str
    run: Callable[[Path, Path], int]
    seconds: list[float] = field(default_factory=list)
    size: int = 0


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="bench")
    parser.add_argument("area", choices=["commit"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        tree = make_tree(Path(folder) / "tree")
        contenders = [
            Contender("imgfs commit", imgfs_commit),
            Contender("imgfs commit, zstd", imgfs_zstd),
        ]
        if shutil.which("umoci"):
            contenders.append(Contender("umoci insert", umoci_insert))
        if shutil.which("buildah"):
            contenders.append(Contender("buildah copy, commit", buildah_commit))
        contenders.append(Contender("cp -a and sync", copy))
        for number in range(options.rounds):
            for contender in contenders:
                with scratch(Path(folder), f"{number}-{contenders.index(contender)}") as place:
                    began = time.perf_counter()
                    contender.size = contender.run(tree, place)
                    contender.seconds.append(time.perf_counter() - began)
    report(contenders, options.json)


def make_tree(root: Path) -> Path:
    """About 150 MB of this machine's files, those with the first names."""
    size = 0
    for source in SOURCES:
        for directory, folders, files in os.walk(source):
            folders.sort()
            for name in sorted(files):
                path = Path(directory, name)
                if size > TREE_BYTES:
                    return root
                if path.is_file() and not path.is_symlink():
                    target = root / path.relative_to("/")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(path, target)
                    size += path.stat().st_size
    return root


@contextmanager
def scratch(folder: Path, name: str) -> Iterator[Path]:
    place = folder / name
    place.mkdir()
    os.sync()
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def imgfs_commit(tree: Path, place: Path) -> int:
    return _imgfs(tree, place, "gzip")


def imgfs_zstd(tree: Path, place: Path) -> int:
    return _imgfs(tree, place, "zstd")


def _imgfs(tree: Path, place: Path, compression: str) -> int:
    command = [sys.executable, "-m", "imgfs", "--store", str(place / "store"), "commit"]
    call([*command, "--compression", compression, str(tree), "bench:1"])
    return size_of(place / "store" / "blobs")


def umoci_insert(tree: Path, place: Path) -> int:
    image = f"{place}/layout:1"
    call(["umoci", "init", "--layout", f"{place}/layout"])
    call(["umoci", "new", "--image", image])
    call(["umoci", "insert", "--image", image, str(tree), "/"])
    return size_of(place / "layout")


def buildah_commit(tree: Path, place: Path) -> int:
    where = ["buildah", "--storage-driver", "vfs", "--root", f"{place}/root"]
    where += ["--runroot", f"{place}/run"]
    container = call([*where, "from", "scratch"]).strip()
    call([*where, "copy", "-q", container, str(tree), "/"])
    call(
        [*where, "commit", "-q", "--disable-compression=false", container, f"oci:{place}/layout:1"]
    )
    return size_of(place / "layout")


def copy(tree: Path, place: Path) -> int:
    call(["cp", "-a", str(tree), str(place / "copy")])
    os.sync()
    return size_of(place / "copy")


def call(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    if done.returncode:
        sys.exit(f"bench: {' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def size_of(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def report(contenders: Sequence[Contender], as_json: bool) -> None:
    """Medians, and what imgfs needs in terms of each."""
    ours = contenders[0]
    rows = [
        (
            c.name,
            statistics.median(c.seconds),
            c.size,
            statistics.median(ours.seconds) / statistics.median(c.seconds),
            ours.size / c.size,
        )
        for c in contenders
    ]
    if as_json:
        keys = ("name", "median_seconds", "bytes", "time_ratio", "size_ratio")
        print(json.dumps([dict(zip(keys, row, strict=True)) for row in rows], indent=2))
        return
    print(f"{'':24}{'median s':>10}{'MB':>8}{'imgfs / it, time':>18}{'size':>8}")
    for name, seconds, size, time_ratio, size_ratio in rows:
        print(f"{name:24}{seconds:>10.2f}{size / 1e6:>8.0f}{time_ratio:>18.2f}{size_ratio:>8.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])

"""Times imgfs against the peers that are installed, in one run and by turns (A B C A B C …)."""

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

SOURCES = ("/usr/lib", "/usr/bin", "/usr/share")
TREE_BYTES = 150 << 20
_COMMIT = ("commit", "-q", "--disable-compression=false")


@dataclass
class Contender:
    """Something that does the work.

    `prepare` gets a tree and a scratch directory and returns the command that is timed and the
    directory in which the image is then; `memory` is the most that a process of it held, in bytes.
    """

    name: str
    prepare: Callable[[Path, Path], tuple[Sequence[str], Path]]
    seconds: list[float] = field(default_factory=list)
    size: int = 0
    memory: int = 0


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="bench")
    parser.add_argument("area", choices=["commit"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        tree = make_tree(Path(folder) / "tree")
        contenders = [
            Contender("imgfs commit", partial(imgfs_commit, "gzip")),
            Contender("imgfs commit, zstd", partial(imgfs_commit, "zstd")),
        ]
        if shutil.which("umoci"):
            contenders.append(Contender("umoci insert", umoci_insert))
            contenders.append(Contender("umoci repack", umoci_repack))
        if shutil.which("buildah"):
            contenders.append(Contender("buildah copy, commit", buildah_copy_commit))
            contenders.append(Contender("buildah commit", buildah_commit))
        contenders.append(Contender("cp -a and sync", copy))
        for number in range(options.rounds):
            for contender in contenders:
                with scratch(Path(folder), f"{number}-{contenders.index(contender)}") as place:
                    measure(contender, tree, place)
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


def measure(contender: Contender, tree: Path, place: Path) -> None:
    command, image = contender.prepare(tree, place)
    os.sync()
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    contender.seconds.append(time.perf_counter() - began)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"bench: {' '.join(command)}: {said.decode().strip()}")
    contender.memory = max(contender.memory, usage.ru_maxrss << 10)
    contender.size = size_of(image)


def imgfs_commit(compression: str, tree: Path, place: Path) -> tuple[Sequence[str], Path]:
    store = place / "store"
    command = [sys.executable, "-m", "imgfs", "--store", str(store), "commit"]
    return [*command, "--compression", compression, str(tree), "bench:1"], store / "blobs"


def umoci_insert(tree: Path, place: Path) -> tuple[Sequence[str], Path]:
    image = f"{place}/layout:1"
    call(["umoci", "init", "--layout", f"{place}/layout"])
    call(["umoci", "new", "--image", image])
    return ["umoci", "insert", "--image", image, str(tree), "/"], place / "layout"


def umoci_repack(tree: Path, place: Path) -> tuple[Sequence[str], Path]:
    image, bundle = f"{place}/layout:1", f"{place}/bundle"
    call(["umoci", "init", "--layout", f"{place}/layout"])
    call(["umoci", "new", "--image", image])
    call(["umoci", "unpack", "--image", image, bundle])
    call(["cp", "-a", f"{tree}/.", f"{bundle}/rootfs"])
    return ["umoci", "repack", "--image", image, bundle], place / "layout"


def buildah_commit(tree: Path, place: Path) -> tuple[Sequence[str], Path]:
    """The tree is in the container by then."""
    where, container = _buildah(place)
    call([*where, "copy", "-q", container, str(tree), "/"])
    return [*where, *_COMMIT, container, f"oci:{place}/layout:1"], place / "layout"


def buildah_copy_commit(tree: Path, place: Path) -> tuple[Sequence[str], Path]:
    """From the directory to the image, as imgfs."""
    where, container = _buildah(place)
    copies = shlex.join([*where, "copy", "-q", container, str(tree), "/"])
    commits = shlex.join([*where, *_COMMIT, container, f"oci:{place}/layout:1"])
    return ["sh", "-c", f"{copies} && {commits}"], place / "layout"


def _buildah(place: Path) -> tuple[list[str], str]:
    where = ["buildah", "--storage-driver", "vfs", "--root", f"{place}/root"]
    where += ["--runroot", f"{place}/run"]
    return where, call([*where, "from", "scratch"]).strip()


def copy(tree: Path, place: Path) -> tuple[Sequence[str], Path]:
    target = place / "copy"
    return ["sh", "-c", f"cp -a {tree} {target} && sync"], target


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
            c.memory,
        )
        for c in contenders
    ]
    if as_json:
        keys = ("name", "median_seconds", "bytes", "time_ratio", "size_ratio", "memory")
        print(json.dumps([dict(zip(keys, row, strict=True)) for row in rows], indent=2))
        return
    print(f"{'':22}{'median s':>10}{'MB':>8}{'imgfs / it, time':>18}{'size':>8}{'memory MB':>12}")
    for name, seconds, size, time_ratio, size_ratio, memory in rows:
        figures = f"{seconds:>10.2f}{size / 1e6:>8.0f}{time_ratio:>18.2f}{size_ratio:>8.2f}"
        print(f"{name:22}{figures}{memory / 1e6:>12.0f}")


if __name__ == "__main__":
    main(sys.argv[1:])

"""Look into the root of an image: through the mount, by tools that unpack it, and by other mounts.

First means after a new mount, with the store's files in the page cache. Second is the run after
that. ratarmount and squashfuse are mounted anew before each run, and ratarmount has its indexes.
"""

import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from random import Random

from scripts.lib.bench import root_containers
from scripts.lib.bench.bench import Bench
from scripts.lib.bench.debian_roots import (
    COMPRESSIONS,
    PROGRAM,
    RootImage,
    root_image,
    with_other_digests,
)
from scripts.lib.bench.images import NAME
from scripts.lib.bench.loading import SKOPEO, TOOLS, layer_by_layer
from scripts.lib.bench.mounting import IMGFS, Mount
from scripts.lib.bench.results import Goal, Row
from scripts.lib.bench.root_mounts import RootMount, ratarmount, squashfuse, unpacked
from scripts.lib.bench.running import command
from scripts.lib.bench.saving import FULL_NAME
from scripts.lib.bench.turns import Contender, Sample

_FIRST, _AGAIN, _DISK = "imgfs, first", "imgfs, second", "disk"
_RATARMOUNT, _SQUASHFUSE, _GUNZIP = "ratarmount", "squashfuse", "the layers, decompressed"
_UNPACK, _PODMAN = "umoci unpack", "podman image mount"
_FILE = PROGRAM[1].lstrip("/")
_FILES = 200
_IMAGES = 5
_DECOMPRESS = {"gzip": ("gzip", "-dc"), "zstd": ("zstd", "-dcq"), "none": ("cat",)}
_NOTHING = "no file holds these words"
_TABLELESS = (sys.executable, "-m", "scripts.lib.bench.without_tables")


def measure(bench: Bench) -> None:
    """Measure gzip layers against all peers, and layers of other kinds against the disk."""
    if not Path("/var/lib/dpkg/status").exists():
        bench.report.notes.append("roots are left out: they are made of Debian packages")
        return
    image = root_image(bench.images, bench.size, "gzip")
    _memory(bench, image)
    image.warm()
    _load(bench, image)
    _export(bench, image)
    for compression in COMPRESSIONS:
        image = root_image(bench.images, bench.size, compression)
        image.warm()
        with ExitStack() as stack:
            scratch = stack.enter_context(bench.place())
            disk = unpacked(image, scratch / "root")
            mount = stack.enter_context(bench.mounted(image.store))
            if compression == "gzip":
                _open(bench, image, mount)
                root_containers.measure(bench, mount)
                others = {
                    _RATARMOUNT: ratarmount(image, scratch),
                    _SQUASHFUSE: squashfuse(disk, scratch),
                }
            else:
                others = {}
            shown = _Roots(bench, mount, disk, {k: v for k, v in others.items() if v}, compression)
            shown.find()
            shown.random_files()
            shown.grep(image)


def _open(bench: Bench, image: RootImage, mount: Mount) -> None:
    """Measure the first `cat`, which other tools begin with a mount or by unpacking."""

    def first() -> Sample:
        mount.remount()
        return command(["cat", mount.path / "rootfs" / NAME / _FILE])

    def unpack() -> Sample:
        with bench.place("bundle") as place:
            script = 'umoci unpack --image "$0" "$1" && cat "$1/rootfs/$2"'
            return command(["sh", "-c", script, f"{image.layout}:1", place / "bundle", _FILE])

    contenders = [Contender(_FIRST, first)]
    if podman := bench.peers.podman:
        pulled = podman.call("pull", "-q", f"oci:{image.layout}:1").strip()
        podman.call("tag", pulled, FULL_NAME)

        def mounted() -> Sample:
            podman.call("image", "umount", "--all", "--force")
            script = 'cat "$("$@")/$0"'
            words = [*podman.client.command, "image", "mount", FULL_NAME]
            return command(["sh", "-c", script, _FILE, *words], None, podman.client.environment)

        contenders.append(Contender(_PODMAN, mounted))
    if bench.peers.umoci:
        contenders.append(Contender(_UNPACK, unpack))
    done = bench.contest("the first cat of a file", contenders)
    what = f"first cat of a file of the {bench.size} root after a mount"
    for against, name, goal in (
        (_PODMAN, "podman image mount and cat", 1),
        (_UNPACK, "umoci unpack and cat", 0.01),
    ):
        found = done.fastest([against])
        bench.report.time(done, f"{what} ÷ {name}", _FIRST, Goal(goal), found)


def _load(bench: Bench, image: RootImage) -> None:
    """Measure a load of real layers, and what the tables add to it, in time and in space."""

    def load(*words: str) -> Sample:
        with bench.place() as place:
            return command([*words, "--store", place / "store", "load", "-q", image.layout])

    contenders = [
        Contender("imgfs load", lambda: load(*IMGFS)),
        Contender("without tables", lambda: load(*_TABLELESS)),
        *layer_by_layer(image.layers),
    ]
    if skopeo := bench.peers.skopeo:

        def copied() -> Sample:
            with bench.place() as place:
                return skopeo.timed("copy", "-q", f"oci:{image.layout}:1", f"oci:{place}/layout:1")

        contenders.append(Contender(SKOPEO, copied))
    done = bench.contest("loading the layout of a real root, gzip layers", contenders, image.size)
    what = f"load of the {bench.size} root"
    for against, goal in ((SKOPEO, 0.6), (TOOLS, 0.75)):
        found = done.fastest([against])
        bench.report.time(done, f"{what} ÷ {against}", "imgfs load", Goal(goal), found)
    used, least = done.cores("imgfs load"), Goal(1.8, at_least=True)
    bench.report.rows.append(Row(f"{what}: cores in use", used, least, "cores"))
    what = "load of gzip layers with their tables ÷ without, time"
    bench.report.time(done, what, "imgfs load", Goal(1.15), "without tables")
    tables = sum(file.stat().st_size for file in (image.store / "layers").glob("*/*"))
    bench.report.rows.append(
        Row("tables ÷ gzip layers, size", 100 * tables / image.size, Goal(1), "%")
    )


def _export(bench: Bench, image: RootImage) -> None:
    def export() -> Sample:
        return command([*IMGFS, "--store", image.store, "export", "-q", NAME])

    def unpack() -> Sample:
        with bench.place() as place:
            script = 'umoci unpack --image "$0" "$1" && tar -C "$1/rootfs" -c .'
            return command(["sh", "-c", script, f"{image.layout}:1", place / "bundle"])

    contenders = [Contender("imgfs export", export)]
    if bench.peers.umoci:
        contenders.append(Contender(_UNPACK, unpack))
    done = bench.contest("the root as a tar, to a pipe", contenders)
    found = done.fastest([_UNPACK])
    bench.report.time(done, "imgfs export ÷ umoci unpack and tar", "imgfs export", Goal(0.5), found)


def _memory(bench: Bench, image: RootImage) -> None:
    """Measure the daemon after looks at roots of images that share no layer."""
    with bench.place() as place:
        for number in range(_IMAGES):
            layout = place / "layout"
            with_other_digests(image, layout, number)
            command([*IMGFS, "--store", place / "store", "load", "-q", layout])
            shutil.rmtree(layout)
        with bench.mounted(place / "store") as mount:
            for number in range(_IMAGES):
                root = mount.path / "rootfs" / f"bench:{number}"
                command(["find", root, "-printf", "%s\n"])
                command(["cat", root / _FILE])
            found = mount.daemon.memory() / 1e6
    what = f"the daemon's memory with {_IMAGES} {bench.size} roots open"
    bench.report.rows.append(Row(what, found, Goal(120), "MB"))


class _Roots:
    """One root as imgfs, the disk and other mounts show it."""

    def __init__(
        self,
        bench: Bench,
        mount: Mount,
        disk: Path,
        others: dict[str, RootMount],
        compression: str,
    ) -> None:
        self._bench = bench
        self._mount = mount
        self._disk = disk
        self._others = others
        self._kind = compression

    def find(self) -> None:
        done = self._bench.contest(
            f"find, {self._kind} layers",
            self._contenders(lambda root: command(["find", root, "-printf", "%s\n"])),
        )
        report = self._bench.report
        if self._others:
            report.time(done, "find in the root, first, ÷ ext4", _FIRST, Goal(4), _DISK)
            report.time(done, "find in the root, second, ÷ ext4", _AGAIN, Goal(4), _DISK)

    def random_files(self) -> None:
        files = sorted(p.relative_to(self._disk) for p in self._disk.rglob("*") if _is_file(p))
        chosen = Random(1).sample(files, min(_FILES, len(files)))
        script = 'cd "$0" && exec cat -- "$@"'
        done = self._bench.contest(
            f"{len(chosen)} files at random, {self._kind} layers",
            self._contenders(lambda root: command(["sh", "-c", script, root, *chosen])),
        )
        if self._others:
            what = f"{len(chosen)} random files ÷ ratarmount"
            found = done.fastest([_RATARMOUNT])
            self._bench.report.time(done, what, _FIRST, Goal(0.5), found)

    def grep(self, image: RootImage) -> None:
        script = 'grep -rqF "$1" "$0"; test $? = 1'
        words: list[str | Path] = [*_DECOMPRESS[self._kind], *image.layers]
        done = self._bench.contest(
            f"grep -r, {self._kind} layers",
            [
                *self._contenders(lambda root: command(["sh", "-c", script, root, _NOTHING])),
                Contender(_GUNZIP, lambda: command(words)),
            ],
        )
        report = self._bench.report
        what = f"grep -r in the root, {self._kind} layers"
        report.time(done, f"{what}, second, ÷ ext4", _AGAIN, Goal(8), _DISK)
        if self._others:
            report.time(done, f"{what}, first, ÷ decompressing", _FIRST, Goal(1.5), _GUNZIP)
            found = done.fastest([_RATARMOUNT])
            report.time(done, f"{what}, first, ÷ ratarmount", _FIRST, Goal(0.25), found)

    def _contenders(self, read: Callable[[Path], Sample]) -> list[Contender]:
        root = self._mount.path / "rootfs" / NAME

        def first() -> Sample:
            self._mount.remount()
            return read(root)

        def other(shown: RootMount) -> Sample:
            with shown.mounted() as path:
                return read(path)

        return [
            Contender(_DISK, lambda: read(self._disk)),
            Contender(_FIRST, first),
            Contender(_AGAIN, lambda: read(root)),
            *(Contender(name, _calling(other, shown)) for name, shown in self._others.items()),
        ]


def _calling(call: Callable[[RootMount], Sample], shown: RootMount) -> Callable[[], Sample]:
    return lambda: call(shown)


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()

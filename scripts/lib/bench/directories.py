"""Write an OCI layout as a directory: by `cp -r` and `rsync -r`, into `import/` and onto the disk;
new, or already stored.
"""

from collections.abc import Callable
from itertools import count

from scripts.lib.bench.bench import Bench
from scripts.lib.bench.images import NAME, StoredImage
from scripts.lib.bench.mounting import IMGFS, write_into
from scripts.lib.bench.results import Goal
from scripts.lib.bench.running import command
from scripts.lib.bench.turns import Contender, Sample

_WRITERS = {"cp -r": ("cp", "-r"), "rsync -r": ("rsync", "-r")}
_LOAD = "imgfs load DIR"


def measure(bench: Bench) -> None:
    image = bench.images.image(bench.size)
    image.warm()
    _new(bench, image)
    _there_already(bench, image)


def _new(bench: Bench, image: StoredImage) -> None:
    def on_disk(*writer: str) -> Sample:
        with bench.place() as place:
            script = '"$@" && sync -f "$0"'
            return command(["sh", "-c", script, place, *writer, f"{image.layout}/", place / "x"])

    def into_import(*writer: str) -> Sample:
        with bench.place() as place, bench.mounted(place / "store") as mount:
            return write_into(mount, [*writer, f"{image.layout}/", mount.path / "import" / "x"])

    def load() -> Sample:
        with bench.place() as place:
            return command([*IMGFS, "--store", place / "store", "load", "-q", image.layout])

    contenders = [Contender(_LOAD, load)]
    for name, words in _WRITERS.items():
        contenders += [
            Contender(f"{name} and sync", _calling(on_disk, words)),
            Contender(f"imgfs, {name}", _calling(into_import, words)),
        ]
    done = bench.contest("writing a layout", contenders, image.size)
    for name in _WRITERS:
        what = f"{name} of the {bench.size} layout into import/ ÷ onto the disk, with sync"
        bench.report.time(done, what, f"imgfs, {name}", Goal(2), f"{name} and sync")


def _there_already(bench: Bench, image: StoredImage) -> None:
    numbers = count()

    def on_disk() -> Sample:
        with bench.place() as place:
            script = 'rsync -r "$1" "$0/x" && sync -f "$0"'
            return command(["sh", "-c", script, place, f"{image.layout}/"])

    with bench.mounted(image.store) as mount:

        def again(*writer: str) -> Sample:
            target = mount.path / "import" / f"{next(numbers)}"
            return write_into(mount, [*writer, f"{mount.path / NAME}/", target])

        done = bench.contest(
            "writing a layout that is stored",
            [
                Contender("rsync -r and sync", on_disk),
                Contender("imgfs, rsync -rt", lambda: again("rsync", "-rt")),
                Contender("imgfs, cp -r", lambda: again("cp", "-r")),
            ],
            image.size,
        )
    what = "of what is there already, from a mount, ÷ rsync -r onto the disk, with sync"
    for name in ("rsync -rt", "cp -r"):
        goal = Goal(0.1)
        bench.report.time(done, f"{name} {what}", f"imgfs, {name}", goal, "rsync -r and sync")


def _calling(call: Callable[..., Sample], words: tuple[str, ...]) -> Callable[[], Sample]:
    return lambda: call(*words)

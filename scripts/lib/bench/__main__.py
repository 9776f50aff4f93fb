"""The command line of `scripts/bench`: areas, sizes and the form of the output."""

import argparse
import compileall
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import engine
import imgfs
from scripts.lib.bench import (
    checking,
    commit,
    containerd,
    directories,
    loading,
    names,
    printing,
    reading,
    registry,
    roots,
    saving,
    scaling,
    startup,
)
from scripts.lib.bench.bench import Bench
from scripts.lib.bench.images import SIZES, Images
from scripts.lib.bench.peers import Peers
from scripts.lib.bench.results import Report
from scripts.lib.bench.running import Failed
from scripts.lib.bench.turns import say

AREAS: Mapping[str, Callable[[Bench], None]] = {
    "reading": reading.measure,
    "names": names.measure,
    "loading": loading.measure,
    "directories": directories.measure,
    "saving": saving.measure,
    "checking": checking.measure,
    "startup": startup.measure,
    "commit": commit.measure,
    "containerd": containerd.measure,
    "registry": registry.measure,
    "roots": roots.measure,
    "scaling": scaling.measure,
}
_PRINTERS: Mapping[str, Callable[[], printing.Printer]] = {
    "text": printing.Text,
    "json": printing.Json,
    "markdown": printing.Markdown,
}


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="bench",
        description="Measure imgfs against its peers and against the limits of this machine.",
    )
    parser.add_argument(
        "areas",
        nargs="+",
        choices=[*AREAS, "all"],
        metavar="AREA",
        help=f"what to measure: {', '.join(AREAS)}, or all",
    )
    parser.add_argument(
        "--size",
        choices=SIZES,
        default="medium",
        help="size of the image: 5 MB, 150 MB (the default) or 2 GB",
    )
    parser.add_argument(
        "--images",
        type=int,
        default=100_000,
        metavar="N",
        help="number of images in the largest store (100,000)",
    )
    parser.add_argument(
        "--rounds", type=int, default=7, metavar="N", help="rounds of each measurement (7)"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path("build/bench"),
        metavar="DIR",
        help="directory that keeps the images (build/bench)",
    )
    parser.add_argument(
        "--no-passthrough",
        dest="mount_options",
        action="store_const",
        const=("--no-passthrough",),
        default=(),
        help="mount without kernel passthrough, as for users without the privilege",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", dest="form", action="store_const", const="json", default="text")
    form.add_argument("--markdown", dest="form", action="store_const", const="markdown")
    options = parser.parse_args(arguments)
    areas = AREAS if "all" in options.areas else options.areas
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    _settle_python()
    printer = _PRINTERS[options.form]()
    _show(printer.begin(printing.circumstances(options.size, options.rounds)))
    cache = options.cache.absolute()
    cache.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="run-", dir=cache)))
        peers = Peers(scratch / "peers", stack)
        images = Images(cache)
        for area in areas:
            bench = Bench(
                images,
                peers,
                Report(),
                scratch,
                options.size,
                options.images,
                options.rounds,
                options.mount_options,
            )
            AREAS[area](bench)
            bench.report.notes += peers.new_notes()
            _show(printer.area(area, bench.report))
    _show(printer.end())


def _show(text: str) -> None:
    if text:
        say("")
        print(text, flush=True)


def _settle_python() -> None:
    """Let Python start as for a user: with compiled modules, and without settings in the
    environment.
    """
    for name in [name for name in os.environ if name.startswith("PYTHON")]:
        del os.environ[name]
    for package in (engine, imgfs):
        for folder in package.__path__:
            compileall.compile_dir(folder, quiet=1)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
    except Failed as error:
        sys.exit(f"bench: {error}")

"""`imgfs load` and `imgfs save`."""

import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

import click

from engine import platforms, reference
from engine.archive.importer import Loaded
from engine.archive.limits import Limits
from engine.engine import Engine
from engine.errors import EngineError, printable
from engine.images import Image
from engine.layouts import combined, docker_save, selection
from imgfs.cli.common import Failed, format_option, print_json, with_engine
from imgfs.cli.limits import raise_open_files

_CHUNK = 1 << 20
Progress = Callable[[int], None]
Options = TypeVar("Options", bound=selection.Selection)


@click.command()
@click.option("-i", "--input", "inputs", multiple=True, metavar="FILE", help="An archive.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress, print no names.")
@click.option(
    "--max-bytes", type=click.IntRange(0), metavar="N", help="Refuse an archive of more bytes."
)
@format_option
@click.argument("files", nargs=-1, metavar="[FILE…]")
@with_engine
def load(
    engine: Engine,
    inputs: tuple[str, ...],
    quiet: bool,
    max_bytes: int | None,
    form: str,
    files: tuple[str, ...],
) -> None:
    """Load archives, from standard input if none is named (or by -).

    \b
    imgfs load -i app.tar
    docker save app:1 | imgfs load
    """
    raise_open_files()
    paths = (*inputs, *files) or ("-",)
    if "-" in paths and sys.stdin.isatty():
        raise click.UsageError("an archive is expected on standard input, found a terminal")
    limits = Limits(max_archive_bytes=max_bytes)
    loaded: list[Loaded] = []
    failed = False
    for path in paths:
        try:
            loaded.append(_load(engine, path, limits, quiet))
        except (EngineError, OSError) as error:
            failed = True
            reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            named = "standard input" if path == "-" else path
            print(f"imgfs: {printable(f'{named}: {reason}', 2000)}", file=sys.stderr)
            continue
        if form == "table" and not quiet:
            _print_loaded(loaded[-1])
    if form == "json":
        print_json([asdict(one) for one in loaded])
    if failed:
        raise Failed("")


def _load(engine: Engine, path: str, limits: Limits, quiet: bool) -> Loaded:
    with ExitStack() as stack:
        file: BinaryIO
        file = sys.stdin.buffer if path == "-" else stack.enter_context(open(path, "rb"))
        status = os.fstat(file.fileno())
        total = status.st_size if stat.S_ISREG(status.st_mode) else None
        progress = stack.enter_context(_progress("Loading", total, quiet))
        session = stack.enter_context(engine.begin_import(limits))
        while chunk := file.read(_CHUNK):
            session.feed(chunk)
            progress(session.received)
        return session.finish()


def _print_loaded(loaded: Loaded) -> None:
    for image in loaded.images:
        for name in image.names:
            print(f"Loaded image: {printable(reference.parse_normalized(name).familiar)}")
        if not image.names:
            print(f"Loaded image ID: {image.id or image.target}")


@click.command()
@click.option("-o", "--output", metavar="FILE", help="Write to a file, not to standard output.")
@click.option(
    "--platform", "wanted", multiple=True, metavar="PLATFORM", help="Only this; repeatable."
)
@click.option(
    "--all-platforms", is_flag=True, help="Everything that the store holds (the default)."
)
@click.option(
    "--layout",
    type=click.Choice(("combined", "docker")),
    default="combined",
    help="Blobs as they are stored (the default), or as docker save writes them.",
)
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@with_engine
def save(
    engine: Engine,
    output: str | None,
    wanted: tuple[str, ...],
    all_platforms: bool,
    layout: str,
    quiet: bool,
    names: tuple[str, ...],
) -> None:
    """Write images as one archive that docker, podman, containerd, skopeo and umoci read.

    A name without a tag means every tag of it; IDs, ID prefixes and NAME@DIGEST do as well.

    \b
    imgfs save -o x.tar alpine:3 busybox
    imgfs save app:1 | docker load
    imgfs save --layout docker app:1       the archive that docker save writes
    """
    if wanted and all_platforms:
        raise click.UsageError("--platform and --all-platforms exclude each other")
    if output is None and sys.stdout.isatty():
        raise Failed("an archive is not for a terminal: use -o FILE or a redirection")
    images = _unique([image for name in names for image in engine.find_to_save(name)])
    write: Callable[[Callable[[bytes], object], Progress], int]
    if layout == "docker":
        write = partial(engine.save_for_docker, images, _options(docker_save.Options, wanted))
    else:
        write = partial(engine.save, images, _options(combined.Options, wanted))
    with ExitStack() as stack:
        progress = stack.enter_context(_progress("Saving", None, quiet))
        if output is None:
            write(sys.stdout.buffer.write, progress)
            sys.stdout.buffer.flush()
        else:
            out = stack.enter_context(_whole_file(Path(output)))
            write(out.write, progress)


def _unique(images: Sequence[Image]) -> list[Image]:
    return list({image.name: image for image in images}.values())


def _options(kind: type[Options], wanted: Sequence[str]) -> Options:
    if not wanted:
        return kind(fallback=selection.any_complete)
    chosen = (platforms.parse(one) for one in wanted)
    matcher = platforms.any_of(*(q for p in chosen for q in platforms.preferences(p)))
    return kind(matcher, matcher)


@contextmanager
def _whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file that is there when all of it is written; a pipe or device is written as it is."""
    if path.exists() and not path.is_file():
        with path.open("wb") as device:
            yield device
        return
    target = path.resolve()
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", dir=target.parent)
    except OSError as error:
        error.filename = str(path)
        raise
    try:
        with open(descriptor, "wb") as file:
            umask = os.umask(0)
            os.umask(umask)
            os.fchmod(descriptor, 0o666 & ~umask)
            yield file
        Path(name).replace(target)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(name).unlink()
        raise


@contextmanager
def _progress(verb: str, total: int | None, quiet: bool) -> Iterator[Progress]:
    """A bar on a terminal, nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(verb, total=total)
        yield lambda done: bar.update(task, completed=done)

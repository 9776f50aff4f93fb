"""`imgfs load` and `imgfs save`."""

import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import click
import msgspec

from engine import compression, platforms, reference
from engine.archive.importer import Loaded
from engine.archive.limits import Limits
from engine.archive.naming import Naming, parse_rename
from engine.archive.options import ImportOptions
from engine.engine import Engine
from engine.errors import EngineError, printable
from engine.images import Image
from engine.layouts import combined, selection
from engine.oci import Platform
from imgfs.cli.common import Failed, format_option, print_json, with_engine
from imgfs.cli.limits import raise_open_files

_CHUNK = 1 << 20
Progress = Callable[[int], None]


@click.command()
@click.option("-i", "--input", "inputs", multiple=True, metavar="FILE", help="An archive.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress, print no names.")
@click.option(
    "--max-bytes", type=click.IntRange(0), metavar="N", help="Refuse an archive of more bytes."
)
@click.option("--name", default="", help="The name of the one image that has none.")
@click.option(
    "--base-name", default="", metavar="REPOSITORY", help="Of images that have only a tag."
)
@click.option(
    "--rename", "renames", multiple=True, metavar="OLD=NEW", help="A repository or a name."
)
@click.option("--prefix", default="", help="What comes before every name.")
@click.option(
    "--platform", "wanted", multiple=True, metavar="PLATFORM", help="Only this; repeatable."
)
@click.option(
    "--compress", metavar="KIND[:LEVEL]", help="Compress plain layers of docker archives."
)
@format_option
@click.argument("files", nargs=-1, metavar="[FILE…]")
@with_engine
def load(
    engine: Engine,
    inputs: tuple[str, ...],
    quiet: bool,
    max_bytes: int | None,
    name: str,
    base_name: str,
    renames: tuple[str, ...],
    prefix: str,
    wanted: tuple[str, ...],
    compress: str | None,
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
    options = ImportOptions(
        Limits(max_archive_bytes=max_bytes),
        Naming(base_name, tuple(parse_rename(text) for text in renames), prefix, name),
        tuple(platforms.parse(one) for one in wanted),
        compression.parse(compress) if compress else None,
    )
    loaded: list[Loaded] = []
    failed = False
    for path in paths:
        try:
            loaded.append(_load(engine, path, options, quiet))
        except (EngineError, OSError) as error:
            failed = True
            reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            named = "standard input" if path == "-" else path
            print(f"imgfs: {printable(f'{named}: {reason}', 2000)}", file=sys.stderr)
            continue
        if form == "table" and not quiet:
            _print_loaded(loaded[-1])
    if form == "json":
        print_json([msgspec.to_builtins(one, enc_hook=str) for one in loaded])
    if failed:
        raise Failed("")


def _load(engine: Engine, path: str, options: ImportOptions, quiet: bool) -> Loaded:
    with ExitStack() as stack:
        file: BinaryIO
        file = sys.stdin.buffer if path == "-" else stack.enter_context(open(path, "rb"))
        status = os.fstat(file.fileno())
        total = status.st_size if stat.S_ISREG(status.st_mode) else None
        progress = stack.enter_context(_progress("Loading", total, quiet))
        session = stack.enter_context(engine.begin_import(options))
        while chunk := file.read(_CHUNK):
            session.feed(chunk)
            progress(session.received)
        return session.finish()


def _print_loaded(loaded: Loaded) -> None:
    """As docker says it, and what is not there."""
    for image in loaded.images:
        gap = f" (missing blobs: {len(image.missing)})" if image.missing else ""
        for name in image.names:
            print(f"Loaded image: {printable(reference.parse_normalized(name).familiar)}{gap}")
        if not image.names:
            print(f"Loaded image ID: {image.id or image.target}{gap}")


@click.command()
@click.option("-o", "--output", metavar="FILE", help="Write to a file, not to standard output.")
@click.option(
    "--platform", "wanted", multiple=True, metavar="PLATFORM", help="Only this; repeatable."
)
@click.option(
    "--all-platforms", is_flag=True, help="Everything that the store holds (the default)."
)
@click.option(
    "--skip-missing", is_flag=True, help="Leave out platforms that an image has not, and say so."
)
@click.option("--append", metavar="FILE", help="Add what is missing to an archive.")
@click.option("--since", multiple=True, metavar="NAME", help="Leave out what this image has.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@with_engine
def save(
    engine: Engine,
    output: str | None,
    wanted: tuple[str, ...],
    all_platforms: bool,
    skip_missing: bool,
    append: str | None,
    since: tuple[str, ...],
    quiet: bool,
    names: tuple[str, ...],
) -> None:
    """Write images as one archive that docker, podman, containerd, skopeo and umoci read.

    A name without a tag means every tag of it; IDs, ID prefixes and NAME@DIGEST do as well.

    \b
    imgfs save -o x.tar alpine:3 busybox
    imgfs save app:1 | docker load
    imgfs save --append x.tar app:2        what x.tar lacks of it
    imgfs save --since app:1 app:2         what a store with app:1 lacks of it
    """
    if wanted and all_platforms:
        raise click.UsageError("--platform and --all-platforms exclude each other")
    if append and output:
        raise click.UsageError("--append and --output exclude each other")
    if output is None and append is None and sys.stdout.isatty():
        raise Failed("an archive is not for a terminal: use -o FILE or a redirection")
    images = _unique([image for name in names for image in engine.find_to_save(name)])
    chosen = tuple(platforms.parse(one) for one in wanted)
    options = _options(chosen)
    if skip_missing:
        images = _having(engine, images, chosen)
    else:
        options = msgspec.structs.replace(options, required=chosen)
    if since:
        known = engine.blobs_of([image for name in since for image in engine.find(name)])
        options = msgspec.structs.replace(options, keeps=lambda blob: blob.digest not in known)
    with ExitStack() as stack:
        progress = stack.enter_context(_progress("Saving", None, quiet))
        if append is not None:
            out = stack.enter_context(_whole_file(Path(append)))
            engine.extend(Path(append), images, options, out.write, progress)
        elif output is None:
            engine.save(images, options, sys.stdout.buffer.write, progress)
            sys.stdout.buffer.flush()
        else:
            out = stack.enter_context(_whole_file(Path(output)))
            engine.save(images, options, out.write, progress)


def _unique(images: Sequence[Image]) -> list[Image]:
    return list({image.name: image for image in images}.values())


def _having(engine: Engine, images: Sequence[Image], wanted: Sequence[Platform]) -> list[Image]:
    """The images that have any of the platforms; what is left out is told."""
    kept = []
    for image in images:
        graph = engine.graph(image)
        lacking = [p for p in wanted if graph.best(platforms.only(p)) is None]
        for platform in lacking:
            what = f"{platforms.format_all(platform)} of {image.familiar}"
            print(f"imgfs: left out: {printable(what)}", file=sys.stderr)
        if not wanted or len(lacking) < len(wanted):
            kept.append(image)
    if not kept:
        raise Failed("no image has any of the platforms")
    return kept


def _options(wanted: Sequence[Platform]) -> combined.Options:
    if not wanted:
        return combined.Options(fallback=selection.any_complete)
    matcher = platforms.any_of(*(q for p in wanted for q in platforms.preferences(p)))
    return combined.Options(platform=matcher, preferred=matcher)


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

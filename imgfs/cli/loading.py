"""`imgfs load`."""

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, BinaryIO

import click
import msgspec

from engine import compression, platforms, reference
from engine.archive.limits import Limits
from engine.archive.naming import Naming, parse_rename
from engine.archive.options import ImportOptions
from engine.engine import Engine
from engine.errors import EngineError, InvalidInput, printable
from engine.progress import Done
from imgfs.cli.common import Failed, format_option, print_json, with_engine
from imgfs.cli.limits import raise_open_files
from imgfs.cli.progress import progress_of, progress_options
from imgfs.cli.streams import widen

if TYPE_CHECKING:
    from engine.archive.importer import Loaded

_CHUNK = 1 << 20


@click.command()
@click.option("-i", "--input", "inputs", multiple=True, metavar="FILE", help="An archive.")
@click.option(
    "--max-bytes", type=click.IntRange(0), metavar="N", help="Refuse an archive of more bytes."
)
@click.option(
    "--limit", "limits", multiple=True, metavar="NAME=N", help="Another limit, as max_images=50000."
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
@progress_options
@click.argument("files", nargs=-1, metavar="[FILE…]")
@with_engine
def load(
    engine: Engine,
    inputs: tuple[str, ...],
    progress: str,
    quiet: bool,
    max_bytes: int | None,
    limits: tuple[str, ...],
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
        _limits(max_bytes, limits),
        Naming(base_name, tuple(parse_rename(text) for text in renames), prefix, name),
        tuple(platforms.parse(one) for one in wanted),
        compression.parse(compress) if compress else None,
    )
    loaded: list[Loaded] = []
    failed = False
    for path in paths:
        try:
            loaded.append(_load(engine, path, options, progress))
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


def _limits(max_bytes: int | None, words: tuple[str, ...]) -> Limits:
    pairs = (word.partition("=") for word in words)
    try:
        limits = Limits(max_archive_bytes=max_bytes)
        return limits.changed({name: value for name, _, value in pairs})
    except InvalidInput as error:
        raise click.UsageError(f"--limit: {error}") from error


def _load(engine: Engine, path: str, options: ImportOptions, progress: str) -> "Loaded":
    with ExitStack() as stack:
        file: BinaryIO
        file = widen(sys.stdin.buffer) if path == "-" else stack.enter_context(open(path, "rb"))
        status = os.fstat(file.fileno())
        total = status.st_size if stat.S_ISREG(status.st_mode) else None
        tell = stack.enter_context(progress_of("Loading", progress))
        session = stack.enter_context(engine.begin_import(options))
        for chunk in _chunks(file) if total is None else _chunks_ahead(file):
            session.feed(chunk)
            tell(Done(session.received, total, session.layers))
        return session.finish()


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def _chunks_ahead(file: BinaryIO) -> Iterator[bytes]:
    """A chunk while the next one is read; not for a pipe, whose reading may never end."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(file.read, _CHUNK)
        while chunk := coming.result():
            coming = pool.submit(file.read, _CHUNK)
            yield chunk


def _print_loaded(loaded: "Loaded") -> None:
    """As docker says it, and what is not there."""
    for image in loaded.images:
        lacking = ", ".join(image.missing_platforms) or f"{len(image.missing)} blobs"
        gap = f" (missing: {printable(lacking)})" if image.missing else ""
        for name in image.names:
            print(f"Loaded image: {printable(reference.parse_normalized(name).familiar)}{gap}")
        if not image.names:
            print(f"Loaded image ID: {image.id or image.target}{gap}")

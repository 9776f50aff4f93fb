"""`imgfs load`: load archives into a store."""

import os
import stat
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from engine.archive.import_options import ImportOptions
from engine.archive.importer import Import
from engine.archive.name_rules import Naming, parse_rename
from engine.compression import options as compression
from engine.errors import EngineError, InvalidInput, counted, escaped, printable
from engine.limits import BUFFER_SIZE, Limits
from engine.progress import Done
from engine.spec import platforms, reference
from engine.stores.protocols import Store
from engine.threads import Ahead
from engine.units import DIGITS, is_number
from imgfs import advice
from imgfs.cli.support.command import Command, Parser, UsageError
from imgfs.cli.support.common import Failed, format_option, print_error, print_json, writable
from imgfs.cli.support.limits import raise_open_files
from imgfs.cli.support.progress import how, progress_of, progress_options
from imgfs.cli.support.streams import widen

if TYPE_CHECKING:
    from engine.archive.loaded import Loaded


def _options(parser: Parser) -> None:
    parser.repeatable("-i", "--input", metavar="FILE", help="Load this archive; repeatable.")
    parser.add_argument(
        "--max-bytes", type=_count, metavar="N", help="Refuse an archive of more bytes."
    )
    parser.repeatable(
        "--limit", metavar="NAME=N", help="Set another limit, such as max_images=50000."
    )
    parser.add_argument("--name", default="", help="Name the one image that has no name.")
    parser.add_argument(
        "--base-name",
        default="",
        metavar="REPOSITORY",
        help="Repository for images that have only a tag.",
    )
    parser.repeatable("--rename", metavar="OLD=NEW", help="Rename a repository or one name.")
    parser.add_argument("--prefix", default="", help="Put this before every name.")
    parser.repeatable("--platform", metavar="PLATFORM", help="Load only this platform; repeatable.")
    parser.add_argument(
        "--compress",
        metavar="KIND[:LEVEL]",
        help="Compress uncompressed layers of docker archives.",
    )
    format_option(parser, "table", "json")
    progress_options(parser)


def _count(text: str) -> int:
    if not is_number(text):
        raise ArgumentTypeError(f"expected a number of up to {DIGITS} digits, found {text}")
    return int(text)


def _load(args: Namespace) -> None:
    """Load archives from files or directories, or from standard input if none or - is given.

    A directory is an OCI layout, an unpacked docker archive, or what skopeo's dir: wrote.

    imgfs load -i app.tar
    imgfs load layout/
    docker save app:1 | imgfs load
    """
    raise_open_files()
    paths = [*args.input, *args.words] or ["-"]
    if "-" in paths and sys.stdin.isatty():
        raise UsageError("an archive is expected on standard input, found a terminal")
    options = ImportOptions(
        _limits(args.max_bytes, args.limit),
        Naming(
            args.base_name,
            tuple(parse_rename(text) for text in args.rename),
            args.prefix,
            args.name,
        ),
        tuple(platforms.parse(one) for one in args.platform),
        compression.parse(args.compress) if args.compress else None,
    )
    loaded: list[Loaded] = []
    failed = False
    with writable(args) as store:
        for path in paths:
            source = "standard input" if path == "-" else path
            try:
                loaded.append(_loaded(store, path, options, how(args)))
            except (EngineError, OSError) as error:
                failed = True
                reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
                print_error(f"{source}: {reason}", advice.after_load(error))
                continue
            for one in loaded[-1].left_out:
                text = printable(f"{source}: left out: {one.name}: {one.reason}", 2000)
                print(f"imgfs: warning: {text}", file=sys.stderr)
            if args.format == "table" and not args.quiet:
                _print_loaded(loaded[-1])
    if args.format == "json":
        print_json([msgspec.to_builtins(one, enc_hook=str) for one in loaded])
    if failed:
        raise Failed("")


LOAD = Command(_load, _options, words="[FILE|DIR…]", most=None)


def _limits(max_bytes: int | None, words: tuple[str, ...]) -> Limits:
    pairs = (word.partition("=") for word in words)
    try:
        limits = Limits(max_archive_bytes=max_bytes)
        return limits.changed({name: value for name, _, value in pairs})
    except InvalidInput as error:
        raise UsageError(f"--limit: {error}") from error


def _loaded(store: Store, path: str, options: ImportOptions, progress: str) -> "Loaded":
    with ExitStack() as stack:
        if path != "-" and os.path.isdir(path):
            from engine.archive.load_directory import load_directory  # most are archives

            on_progress = stack.enter_context(progress_of("Loading", progress))
            return load_directory(store, Path(path), options, on_progress)
        file: BinaryIO
        file = widen(sys.stdin.buffer) if path == "-" else stack.enter_context(open(path, "rb"))
        status = os.fstat(file.fileno())
        total = status.st_size if stat.S_ISREG(status.st_mode) else None
        on_progress = stack.enter_context(progress_of("Loading", progress))
        session = stack.enter_context(Import(store, options))
        chunks: Iterator[bytes] = iter(partial(file.read, BUFFER_SIZE), b"")
        if total is not None:  # the read of a pipe may block forever
            chunks = stack.enter_context(closing(Ahead(chunks, 1)))
        for chunk in chunks:
            session.feed(chunk)
            on_progress(Done(session.received, total, session.layers))
        return session.finish()


def _print_loaded(loaded: "Loaded") -> None:
    """Print the loaded images as docker load does, and what each lacks."""
    for image in loaded.images:
        lacking = ", ".join(image.missing_platforms) or counted(len(image.missing), "blob")
        gap = f" (missing: {escaped(lacking)})" if image.missing else ""
        for name in image.names:
            print(f"Loaded image: {escaped(reference.parse_normalized(name).familiar)}{gap}")
        if not image.names:
            print(f"Loaded image ID: {image.id or image.target}{gap}")

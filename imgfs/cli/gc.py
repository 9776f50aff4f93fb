"""`imgfs gc`: remove what no image needs."""

from argparse import Namespace
from contextlib import ExitStack, suppress
from typing import Final

from engine.errors import StoreMissing
from engine.progress import Done
from engine.stores.records import Garbage
from imgfs.cli.support.command import Command, Parser
from imgfs.cli.support.common import Failed, format_option, human, opened, print_json
from imgfs.cli.support.progress import how, progress_of, progress_options

_SHORT: Final = 1.0
"""Seconds of work that shows no bar."""


def _options(parser: Parser) -> None:
    parser.flag("-n", "--dry-run", help="Only print what would be removed, and why.")
    format_option(parser, "table", "json")
    progress_options(parser)


def _gc(args: Namespace) -> None:
    """Remove what no image needs, and what interrupted loads left behind.

    Mounts and other commands can run meanwhile; what they use is kept.
    """
    removed, freed = [], 0
    with suppress(StoreMissing), ExitStack() as stack:
        store = stack.enter_context(opened(args))
        if not store.supports_collection:
            raise Failed(f"{store.location}: what nothing needs is collected by its own system")
        on_progress = stack.enter_context(progress_of("Collecting", how(args), _SHORT))
        for garbage in store.garbage() if args.dry_run else store.collect():
            freed += garbage.size
            on_progress(Done(freed))
            if args.format == "json":
                removed.append(garbage)
            elif not args.quiet:
                print(_line("would remove" if args.dry_run else "removed", garbage), flush=True)
    if args.format == "json":
        print_json(
            {
                "removed": [
                    {"kind": g.kind, "name": g.name, "size": g.size, "reason": g.reason}
                    for g in removed
                ],
                "freed": freed,
            }
        )
    elif not args.quiet:
        print(f"{'would free' if args.dry_run else 'freed'} {human(freed)}")


GC = Command(_gc, _options)


def _line(verb: str, garbage: Garbage) -> str:
    return f"{verb} {garbage.kind} {garbage.name} ({human(garbage.size)}): {garbage.reason}"

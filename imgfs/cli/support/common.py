"""Functions for all commands: open the store, and print for people and for programs."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import EngineError, escaped, printable
from engine.stores.open import create_store, open_store
from imgfs import advice
from imgfs.cli.support.command import Parser, UsageError

if TYPE_CHECKING:
    from engine.stores.protocols import Store

WIDEST = 300
"""Characters of a table's cell on a terminal."""


class Failed(Exception):
    """A command failed; the text is the whole message, "" if that is already printed."""


def store_path(given: str | None) -> Path:
    """Return the path of the store: as given, or $IMGFS_STORE, or the default for root or users.

    Raise UsageError for an empty text, and if this user has no home directory.
    """
    if given == "":
        raise UsageError("--store: expected a directory, found an empty text; give its path")
    chosen = given or os.environ.get("IMGFS_STORE")
    if chosen:
        return Path(chosen).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/imgfs")
    import platformdirs

    try:
        return platformdirs.user_data_path("imgfs")
    except RuntimeError:
        raise UsageError(
            "--store: this user has no home directory with a store in it; give the path of one, or"
            " set IMGFS_STORE"
        ) from None


def store_location(given: str | None) -> str:
    """Return the location of the store for `engine.stores.open`: a URL, or an absolute path."""
    chosen = given or os.environ.get("IMGFS_STORE") or ""
    return chosen if "://" in chosen else str(store_path(given))


def opened(args: Namespace) -> Store:
    """Open the store of a command; raise StoreMissing if there is none yet."""
    return open_store(store_location(args.store))


def writable(args: Namespace) -> Store:
    """Open the store of a command, or create it."""
    return create_store(store_location(args.store))


def format_option(parser: Parser, *forms: str) -> None:
    """Add --format; the default is the first of the forms."""
    parser.add_argument("--format", choices=forms, default=forms[0], help="Output format.")


def print_json(value: Any) -> None:
    """Print a value as JSON, with indentation."""
    import json

    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


def print_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], limit: int | None = None
) -> None:
    """Print a table with columns as wide as their cells, and control characters escaped; `limit` is
    the maximum of characters in a cell.
    """
    table = [tuple(head), *(tuple(_cell(cell, limit) for cell in row) for row in rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    for row in table:
        line = "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(line.rstrip())


def on_a_terminal(limit: int) -> int | None:
    """Return `limit` if standard output is a terminal, else None: programs need all the text."""
    return limit if sys.stdout.isatty() else None


def _cell(text: str, limit: int | None) -> str:
    return escaped(text) if limit is None else printable(text, limit)


def human(size: int) -> str:
    """Return a number of bytes as docker prints it: 4.2MB."""
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 999.5:
            return f"{amount:.3g}{unit}"
        amount /= 1000
    return f"{amount:.3g}TB" if amount < 999.5 else f"{amount:.0f}TB"


def print_error(*clauses: str) -> None:
    """Print an error on one line of standard error: its sentence, and what to do if that is known.

    Empty clauses are left out.
    """
    print(f"imgfs: {printable('; '.join(filter(None, clauses)), 2000)}", file=sys.stderr)


def each(names: Sequence[str], work: Callable[[str], object]) -> None:
    """Call `work` for every name; print each EngineError, and raise Failed at the end if any."""
    failed = False
    for name in names:
        try:
            work(name)
        except EngineError as error:
            failed = True
            print_error(str(error), advice.for_store(error))
    if failed:
        raise Failed("")

"""A report of what a merged root leaves out."""

import sys
from collections.abc import Sequence

from engine.errors import printable
from engine.filetree.entry_tree import LeftOut


def print_left_out(entries: Sequence[LeftOut]) -> None:
    """Print one line for entries that were left out, if there are any, on standard error."""
    if not entries:
        return
    first, *others = entries
    more = f", and {len(others)} more (see imgfs inspect)" if others else ""
    path = printable(first.path.decode("utf-8", "surrogateescape"))
    where = f"{path}: " if path else ""
    print(f"imgfs: left out: {where}{first.reason}{more}", file=sys.stderr)

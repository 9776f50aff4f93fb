"""`imgfs prune`: remove images without a name, and then what no image needs."""

import sys
import time
from argparse import Namespace
from contextlib import suppress

from engine.errors import StoreMissing
from engine.stores.protocols import Store
from engine.stores.referrers import is_attached
from imgfs.cli.support import image_filters
from imgfs.cli.support.command import Command, Parser
from imgfs.cli.support.common import Failed, human, opened
from imgfs.cli.support.image_rows import ImageRow, image_rows
from imgfs.cli.support.removed import print_removed


def _options(parser: Parser) -> None:
    parser.flag("-a", "--all", help="Remove images with a name, too.")
    parser.flag("-f", "--force", help="Do not ask.")
    parser.repeatable(
        "--filter",
        metavar="KEY=VALUE",
        help="Remove only matching images: label=KEY[=VALUE], label!=KEY[=VALUE], until=TIME."
        " May be repeated.",
    )


def _prune(args: Namespace) -> None:
    """Remove images without a name, and then what no image needs.

    imgfs prune
    imgfs prune -f --filter until=240h
    """
    with suppress(StoreMissing), opened(args) as store:
        store.check_changes()
        rows = _chosen(store, args)
        if rows and not args.force:
            _ask(len(rows))
        for row in rows:
            _remove(store, row)
        freed = sum(g.size for g in store.collect()) if store.supports_collection else 0
        print(f"Total reclaimed space: {human(freed)}")


PRUNE = Command(_prune, _options)


def _chosen(store: Store, args: Namespace) -> list[ImageRow]:
    now = time.time_ns()
    filters = image_filters.parse_filters(store, args.filter, image_filters.PRUNED, now)
    images = [image for image in store.images.all() if args.all or image.is_untagged]
    rows = filters.rows(store, image_rows(store, images))
    return [row for row in rows if args.all or not is_attached(store, row.image)]


def _ask(count: int) -> None:
    """Raise Failed unless the user agrees."""
    noun = "1 image" if count == 1 else f"{count} images"
    print(f"This removes {noun}. Continue? [y/N] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if answer.strip().lower() not in ("y", "yes"):
        raise Failed("nothing was removed; answer y, or use -f")


def _remove(store: Store, row: ImageRow) -> None:
    """Remove an image by its name, unless another process has removed or named it meanwhile."""
    with store.transaction():
        found = store.images.find(row.image.name)
        if found is None or found.target.digest != row.image.target.digest:
            return
        store.images.delete(row.image.name)
    print_removed(store, [row.image])

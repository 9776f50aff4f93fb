"""`imgfs images`: list the images of a store."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from engine import names
from engine.errors import StoreMissing
from engine.image import Image
from imgfs.cli.support.command import Command, Parser
from imgfs.cli.support.common import (
    WIDEST,
    Failed,
    each,
    human,
    on_a_terminal,
    opened,
    print_json,
    print_table,
)
from imgfs.cli.support.formats import is_template, print_rows, template_option
from imgfs.cli.support.image_rows import (
    HEADS,
    ImageRow,
    created_since,
    image_rows,
    newest_first,
    short,
)

if TYPE_CHECKING:
    from engine.stores.protocols import Store

_PATTERN = frozenset("*?[")


def _options(parser: Parser) -> None:
    parser.flag("-a", "--all", help="List all images, as is done without it.")
    parser.flag("-q", "--quiet", help="Print only IDs.")
    parser.flag("--digests", help="Also print digests.")
    parser.flag("--no-trunc", help="Do not shorten IDs.")
    parser.repeatable(
        "-f",
        "--filter",
        metavar="KEY=VALUE",
        help="List only matching images: reference=PATTERN, dangling=true, label=KEY[=VALUE],"
        " before=IMAGE, since=IMAGE, until=TIME. May be repeated.",
    )
    template_option(parser, "table", "json")


def _images(args: Namespace) -> None:
    """List the images, the newest first (also: imgfs ls).

    A NAME may be a pattern with *, ? and [a-z].

    imgfs images
    imgfs images 'alp*' --filter dangling=false
    imgfs images alpine --format json
    imgfs images --format 'table {{.Repository}}\\t{{.Tag}}\\t{{.Size}}'
    """
    try:
        store = opened(args)
    except StoreMissing:
        if args.words:
            raise
        _print([], args)
        return
    with store:
        found: list[Image] = [] if args.words else store.images.all()
        try:
            each(args.words, lambda word: found.extend(_matching(store, word)))
        except Failed:
            _print(_rows(store, found, args.filter), args)
            raise
        _print(_rows(store, found, args.filter), args)


IMAGES = Command(_images, _options, words="[NAME…]", most=None)


def _matching(store: Store, word: str) -> Iterable[Image]:
    """Return the images that a word means: a name, an ID or a pattern."""
    if not _PATTERN & set(word):
        return names.find(store.images, word)
    from imgfs.cli.support.image_filters import fits

    return [image for image in store.images.all() if fits(word, image)]


def _rows(store: Store, found: Sequence[Image], given: Sequence[str]) -> list[ImageRow]:
    if not given:
        return list(image_rows(store, found))
    from imgfs.cli.support import image_filters  # most listings have no filter

    filters = image_filters.parse_filters(store, given, image_filters.LISTED, time.time_ns())
    return list(filters.rows(store, image_rows(store, filters.names(found))))


def _print(rows: list[ImageRow], args: Namespace) -> None:
    if args.format == "json":
        print_json([row.document() for row in rows])
        return
    rows = newest_first(rows)
    if is_template(args.format):
        now = time.time()
        print_rows(args.format, HEADS, (row.fields(now, args.no_trunc) for row in rows))
    elif args.quiet:
        for row in rows:
            print(row.id if args.no_trunc else short(row.id))
    else:
        _print_table(rows, args.digests, args.no_trunc)


def _print_table(rows: list[ImageRow], digests: bool, no_trunc: bool) -> None:
    head = [
        "REPOSITORY",
        "TAG",
        *(["DIGEST"] * digests),
        "IMAGE ID",
        "CREATED",
        "SIZE",
        "PLATFORMS",
    ]
    now = time.time()
    print_table(
        head,
        (
            [
                row.repository or "<none>",
                row.tag or "<none>",
                *([row.image.target.digest] * digests),
                row.id if no_trunc else short(row.id),
                created_since(row.created, now) if row.created else "-",
                human(row.size),
                ",".join(row.platforms) or "-",
            ]
            for row in rows
        ),
        None if no_trunc else on_a_terminal(WIDEST),
    )

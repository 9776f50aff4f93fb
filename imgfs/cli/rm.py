"""`imgfs rm`: remove names, and images with their last one."""

from argparse import Namespace
from contextlib import suppress

from engine import names
from engine.errors import NotFound
from engine.stores.protocols import Store
from imgfs.cli.support.command import Command, Parser
from imgfs.cli.support.common import each, opened
from imgfs.cli.support.removed import print_removed


def _options(parser: Parser) -> None:
    parser.flag("-f", "--force", help="Do not report names that are not there.")


def _rm(args: Namespace) -> None:
    """Remove names. An image is removed with its last name; an ID removes all its names.

    imgfs rm alpine:3
    """
    with opened(args) as store:
        remove = _remove_if_there if args.force else _remove
        each(args.words, lambda name: remove(store, name))


RM = Command(_rm, _options, words="NAME…", least=1, most=None)


def _remove_if_there(store: Store, name: str) -> None:
    with suppress(NotFound):
        _remove(store, name)


def _remove(store: Store, name: str) -> None:
    print_removed(store, names.remove(store, name))

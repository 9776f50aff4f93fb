"""`imgfs rm`: remove names, and images with their last one."""

from argparse import Namespace

from engine import names
from engine.errors import escaped
from engine.stores.protocols import Store
from imgfs.cli.support.command import Command
from imgfs.cli.support.common import each, opened


def _rm(args: Namespace) -> None:
    """Remove names. An image is removed with its last name; an ID removes all its names.

    imgfs rm alpine:3
    """
    with opened(args) as store:
        each(args.words, lambda name: _remove(store, name))


RM = Command(_rm, words="NAME…", least=1, most=None)


def _remove(store: Store, name: str) -> None:
    removed = names.remove(store, name)
    for image in removed:
        if not image.is_untagged:
            print(f"Untagged: {escaped(image.familiar)}")
    for digest in dict.fromkeys(image.target.digest for image in removed):
        if not store.images.names_of(digest):
            print(f"Deleted: {digest}")

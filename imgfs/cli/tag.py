"""`imgfs tag` and `imgfs rm`."""

from argparse import Namespace

from engine import names
from engine.errors import escaped
from engine.stores.protocols import Store
from imgfs.cli.support.command import Command
from imgfs.cli.support.common import each, opened


def _tag(args: Namespace) -> None:
    """Give an image more names; one that is taken moves.

    imgfs tag alpine:3 alpine:latest ghcr.io/me/alpine:3
    """
    source, *names = args.words
    with opened(args) as store:
        each(names, lambda name: _give(store, source, name))


TAG = Command(_tag, words="SOURCE NAME…", least=2, most=None)


def _rm(args: Namespace) -> None:
    """Remove names, and an image with its last one; by ID all of its names.

    imgfs rm alpine:3
    """
    with opened(args) as store:
        each(args.words, lambda name: _remove(store, name))


RM = Command(_rm, words="NAME…", least=1, most=None)


def _give(store: Store, source: str, name: str) -> None:
    names.tag(store, source, name)


def _remove(store: Store, name: str) -> None:
    removed = names.remove(store, name)
    for image in removed:
        if not image.is_untagged:
            print(f"Untagged: {escaped(image.familiar)}")
    for digest in dict.fromkeys(image.target.digest for image in removed):
        if not store.images.names_of(digest):
            print(f"Deleted: {digest}")

"""`imgfs tag` and `imgfs rm`."""

from argparse import Namespace

from engine.engine import Engine
from engine.errors import escaped
from imgfs.cli.support.command import Command
from imgfs.cli.support.common import each, opened


def _tag(args: Namespace) -> None:
    """Give an image more names; one that is taken moves.

    imgfs tag alpine:3 alpine:latest ghcr.io/me/alpine:3
    """
    source, *names = args.words
    with opened(args) as engine:
        each(names, lambda name: _give(engine, source, name))


TAG = Command(_tag, words="SOURCE NAME…", least=2, most=None)


def _rm(args: Namespace) -> None:
    """Remove names, and an image with its last one; by ID all of its names.

    imgfs rm alpine:3
    """
    with opened(args) as engine:
        each(args.words, lambda name: _remove(engine, name))


RM = Command(_rm, words="NAME…", least=1, most=None)


def _give(engine: Engine, source: str, name: str) -> None:
    engine.tag(source, name)


def _remove(engine: Engine, name: str) -> None:
    removed = engine.remove(name)
    for image in removed:
        if not image.is_untagged:
            print(f"Untagged: {escaped(image.familiar)}")
    for digest in dict.fromkeys(image.target.digest for image in removed):
        if not engine.images.names_of(digest):
            print(f"Deleted: {digest}")

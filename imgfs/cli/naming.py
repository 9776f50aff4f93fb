"""`imgfs tag` and `imgfs rm`."""

import click

from engine.engine import Engine
from engine.errors import printable
from imgfs.cli.common import each, with_engine


@click.command()
@click.argument("source")
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@with_engine
def tag(engine: Engine, source: str, names: tuple[str, ...]) -> None:
    """Give an image more names; one that is taken moves.

    \b
    imgfs tag alpine:3 alpine:latest ghcr.io/me/alpine:3
    """
    each(names, lambda name: _tag(engine, source, name))


def _tag(engine: Engine, source: str, name: str) -> None:
    engine.tag(source, name)


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@with_engine
def rm(engine: Engine, names: tuple[str, ...]) -> None:
    """Remove names, and with its last name an image; by ID all of its names.

    \b
    imgfs rm alpine:3
    """
    each(names, lambda name: _remove(engine, name))


def _remove(engine: Engine, name: str) -> None:
    removed = engine.remove(name)
    for image in removed:
        if not image.is_untagged:
            print(f"Untagged: {printable(image.familiar)}")
    for digest in dict.fromkeys(image.target.digest for image in removed):
        if not engine.images.names_of(digest):
            print(f"Deleted: {digest}")

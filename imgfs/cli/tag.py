"""`imgfs tag`: give images names."""

from argparse import Namespace

from engine import names
from imgfs.cli.support.command import Command
from imgfs.cli.support.common import each, opened


def _tag(args: Namespace) -> None:
    """Give an image more names; a name that is in use moves to it.

    imgfs tag alpine:3 alpine:latest ghcr.io/me/alpine:3
    """
    source, *added = args.words
    with opened(args) as store:
        each(added, lambda name: names.tag(store, source, name))


TAG = Command(_tag, words="SOURCE NAME…", least=2, most=None)

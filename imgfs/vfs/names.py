"""How directories of images are called in a mount: as docker prints their names, or without colons.

Many programs give a colon in a path a meaning of their own (`podman -v`, rsync, Windows). Without
colons, a colon is two dashes, and a run of n dashes is one of 2n - 1, so that one dash stays as it
is: `localhost:5000/team/app:1` is `localhost--5000/team/app--1`, `a--b:1` is `a---b--1`. The result
is a valid repository name where the name before the colon was one and the tag is in lower case,
since podman and buildah make an image's name of its path. Both functions take single names and
whole paths, and are each other's inverse for every path in which no dash stands beside a colon,
which no image reference has.
"""

import re
from collections.abc import Callable

import msgspec

_RUN = re.compile("-+|:+")
_DASHES = re.compile("-+")


def without_colons(name: str) -> str:
    """Return how a name is shown where names have no colons."""
    return _RUN.sub(_dashes_for, name)


def with_colons(name: str) -> str:
    """Return the name that `without_colons` shows so."""
    return _DASHES.sub(_run_for, name)


def _dashes_for(run: re.Match[str]) -> str:
    length = len(run[0])
    return "-" * (2 * length if run[0][0] == ":" else 2 * length - 1)


def _run_for(dashes: re.Match[str]) -> str:
    half, odd = divmod(len(dashes[0]), 2)
    return "-" * (half + 1) if odd else ":" * half


class Names(msgspec.Struct, frozen=True):
    """How a mount shows and reads names: what a name is `shown` as, and which names one that is
    asked for may stand for, the first that is there.
    """

    shown: Callable[[str], str]
    meanings: Callable[[str], tuple[str, ...]]


def _itself(name: str) -> str:
    return name


def _only_itself(name: str) -> tuple[str, ...]:
    return (name,)


def _safe_meanings(name: str) -> tuple[str, ...]:
    """A name with a colon is meant as it is; so is any other that leads nowhere without colons."""
    if ":" in name:
        return (name,)
    return tuple(dict.fromkeys((with_colons(name), name)))


FAMILIAR = Names(_itself, _only_itself)
SAFE = Names(without_colons, _safe_meanings)

"""The names of image directories in a mount: as docker prints them, or without colons.

Many programs interpret a colon in a path (`podman -v`, rsync, Windows). Names without colons encode
a colon as two dashes, and a run of n dashes as 2n - 1 dashes, so that a single dash stays as it is:
`localhost:5000/team/app:1` becomes `localhost--5000/team/app--1`, `a--b:1` becomes `a---b--1`.
If the tag is in lower case, the result is a valid repository name, which podman and buildah need
because they name an image after its path. Both functions take single names and whole paths, and
are inverse for every path without a dash next to a colon, which no image reference has.
"""

import re
from collections.abc import Callable
from typing import Final

import msgspec

LONGEST: Final = 255
"""The length of the longest name that a mount lists, in bytes: file systems take no longer one."""
_RUN = re.compile("-+|:+")
_DASHES = re.compile("-+")


def without_colons(name: str) -> str:
    """Return a name encoded without colons."""
    return _RUN.sub(_dashes_for, name)


def with_colons(name: str) -> str:
    """Decode a name that `without_colons` returned."""
    return _DASHES.sub(_run_for, name)


def _dashes_for(run: re.Match[str]) -> str:
    length = len(run[0])
    return "-" * (2 * length if run[0][0] == ":" else 2 * length - 1)


def _run_for(dashes: re.Match[str]) -> str:
    half, odd = divmod(len(dashes[0]), 2)
    return "-" * (half + 1) if odd else ":" * half


class Names(msgspec.Struct, frozen=True):
    """The encoding of names in a mount.

    `shown` encodes a name. `meanings` returns the names that an encoded one can mean, of which the
    first that exists is used: none if no image can have such a name, since references are ASCII.
    """

    shown: Callable[[str], str]
    meanings: Callable[[str], tuple[str, ...]]


def _itself(name: str) -> str:
    return name


def _only_itself(name: str) -> tuple[str, ...]:
    return (name,) if name.isascii() else ()


def _safe_meanings(name: str) -> tuple[str, ...]:
    """Return only the name if it has a colon, else the decoded name and then the name."""
    if ":" in name or not name.isascii():
        return _only_itself(name)
    return tuple(dict.fromkeys((with_colons(name), name)))


def can_be_listed(name: str) -> bool:
    """Return whether a name, which is ASCII, is one that every program can use."""
    return len(name) <= LONGEST


FAMILIAR = Names(_itself, _only_itself)
SAFE = Names(without_colons, _safe_meanings)

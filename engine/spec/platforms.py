"""Platforms: which platform an image may have to run on which, and which of several is best.

The rules are those of containerd/platforms. A Matcher says which platforms will do and ranks them;
`select` and `best` apply it the way containerd picks from an index: what names no platform always
passes and comes last. Everything here is pure and safe from any thread.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final, Protocol, TypeVar

import msgspec

from engine.spec.descriptor import Platform
from engine.spec.platform_spec import format, format_all, host, normalize, parse  # noqa: A004 - containerd's name

__all__ = [
    "ALL",
    "Matcher",
    "any_of",
    "best",
    "format",
    "format_all",
    "host",
    "normalize",
    "only",
    "parse",
    "preferences",
    "select",
    "sort",
]

T = TypeVar("T")

# Two digits, since every level below becomes a platform of its own and the text may be anybody's.
_LEVEL: Final = r"v?0*([0-9]{1,2})"
_ARM64_VERSION: Final = r"v(?:(8)(?:\.([1-9]))?|(9)(?:\.([1-7]))?)"
_WINDOWS_VERSION: Final = r"0*([0-9]{1,3})\.0*([0-9]{1,3})\.0*([0-9]{1,5})(?:\..*)?"
_WINDOWS_LTSC_BUILDS: Final = (20348, 26100)


class Matcher(Protocol):
    """Says which platforms will do, and which of two is better."""

    def matches(self, platform: Platform) -> bool:
        """Whether the platform will do."""

    def rank(self, platform: Platform) -> tuple[int, ...]:
        """A sort key, the best platform first; defined for those that do not match as well."""


def preferences(platform: Platform) -> tuple[Platform, ...]:
    """What a machine of this platform can run, best first, itself included.

    arm64 runs its lower versions and 32-bit arm, arm runs its lower versions down to v5, amd64 its
    lower levels and 386. An arm64 version that is not known runs nothing.
    """
    own = normalize(platform)
    if own.architecture == "amd64":
        lower = [("amd64", f"v{level}") for level in range(_level(own.variant) - 1, 0, -1)]
        others = [*lower, ("386", "")]
    elif own.architecture == "arm":
        others = [("arm", f"v{level}") for level in range(_level(own.variant) - 1, 4, -1)]
    elif own.architecture == "arm64":
        versions = _arm64_versions(own.variant or "v8")
        if not versions:
            return ()
        own = msgspec.structs.replace(own, variant=versions[0])
        others = [("arm64", version) for version in versions[1:]]
        others += [("arm", f"v{level}") for level in range(8, 4, -1)]
    else:
        others = []
    return own, *(msgspec.structs.replace(own, architecture=a, variant=v) for a, v in others)


def only(*platforms: Platform) -> Matcher:
    """Return a Matcher of all that machines of these platforms can run, the first ones preferred,
    each in the order of `preferences`.
    """
    return any_of(*(preferred for platform in platforms for preferred in preferences(platform)))


def any_of(*platforms: Platform) -> Matcher:
    """Any of them, the first ones preferred, then those with more os features (Ordered)."""
    return _Ordered(tuple(map(_Exact.of, platforms)))


class _Exact(msgspec.Struct, frozen=True):
    """One normalised platform and what is the same as it; a feature less will do."""

    platform: Platform

    @staticmethod
    def of(platform: Platform) -> _Exact:
        return _Exact(normalize(platform))

    def matches(self, platform: Platform) -> bool:
        own, other = self.platform, normalize(platform)
        return (
            (own.os, own.architecture, own.variant) == (other.os, other.architecture, other.variant)
            and self.fits_version(platform)
            and self.has_features(_counted_features(own, platform))
        )

    def has_features(self, features: Iterable[str]) -> bool:
        return set(features) <= set(self.platform.os_features)

    def fits_version(self, platform: Platform) -> bool:
        own = _windows_version(self.platform.os_version)
        if self.platform.os != "windows" or not any(own) or not platform.os_version:
            return True
        return _windows_runs(own, _windows_version(platform.os_version))


class _Ordered(msgspec.Struct, frozen=True):
    choices: tuple[_Exact, ...]

    def matches(self, platform: Platform) -> bool:
        return any(choice.matches(platform) for choice in self.choices)

    def rank(self, platform: Platform) -> tuple[int, ...]:
        plain = msgspec.structs.replace(platform, os_features=())
        for stripped, candidate in enumerate((platform, plain)):
            for place, choice in enumerate(self.choices):
                if choice.matches(candidate):
                    return stripped, place, -len(candidate.os_features)
        return (2,)


class _All(msgspec.Struct, frozen=True):
    def matches(self, platform: Platform) -> bool:  # noqa: ARG002 - the protocol decides the arguments
        return True

    def rank(self, platform: Platform) -> tuple[int, ...]:  # noqa: ARG002 - as above
        return ()


ALL: Final[Matcher] = _All()
"""Takes every platform and likes all of them alike."""


def sort(
    items: Iterable[T], matcher: Matcher, platform_of: Callable[[T], Platform | None]
) -> list[T]:
    """The items, the best platform first, those without one last, otherwise as they stood."""

    def key(item: T) -> tuple[bool, tuple[int, ...]]:
        platform = platform_of(item)
        return (True, ()) if platform is None else (False, matcher.rank(platform))

    return sorted(items, key=key)


def select(
    items: Iterable[T], matcher: Matcher, platform_of: Callable[[T], Platform | None]
) -> list[T]:
    """The items whose platform matches and those without one, sorted."""

    def passes(item: T) -> bool:
        platform = platform_of(item)
        return platform is None or matcher.matches(platform)

    return sort(filter(passes, items), matcher, platform_of)


def best(
    items: Iterable[T], matcher: Matcher, platform_of: Callable[[T], Platform | None]
) -> T | None:
    """The first that `select` gives, or None."""
    return next(iter(select(items, matcher, platform_of)), None)


def _level(variant: str) -> int:
    """The number of a variant such as v3, or 0."""
    match = re.fullmatch(_LEVEL, variant)
    return int(match[1]) if match else 0


def _arm64_versions(variant: str) -> list[str]:
    """The versions that one runs, highest first: v9.N has what v8.(N+5) has, up to v8.9."""
    match = re.fullmatch(_ARM64_VERSION, variant)
    if match is None:
        return []
    eight = min(int(match[4] or 0) + 5, 9) if match[3] else int(match[2] or 0)
    nines = [("v9", minor) for minor in range(int(match[4] or 0), -1, -1)] if match[3] else []
    eights = [("v8", minor) for minor in range(eight, -1, -1)]
    return [f"{major}.{minor}" if minor else major for major, minor in nines + eights]


def _counted_features(own: Platform, other: Platform) -> Iterable[str]:
    features = list(other.os_features)
    if own.os == "windows" and "win32k" in features:
        # Windows images have always said it, and nobody asked for it.
        features.remove("win32k")
    return features


def _windows_version(text: str) -> tuple[int, int, int]:
    """Major, minor and build, all 0 if `text` does not begin with three fitting numbers."""
    match = re.fullmatch(_WINDOWS_VERSION, text, re.DOTALL)
    if match is None:
        return 0, 0, 0
    major, minor, build = (int(number) for number in match.groups())
    return (major, minor, build) if max(major, minor) < 2**8 and build < 2**16 else (0, 0, 0)


def _windows_runs(own: tuple[int, int, int], image: tuple[int, int, int]) -> bool:
    """Before build 20348 only the same build runs; since then all from the last older LTSC on."""
    build, oldest = own[2], _WINDOWS_LTSC_BUILDS[0]
    if own[:2] != image[:2] or build < oldest:
        return own == image
    floor = max((ltsc for ltsc in _WINDOWS_LTSC_BUILDS if ltsc < build), default=oldest)
    return floor <= image[2] <= build

"""Matchers of platforms: which images can run on a platform, and which of several is best.

The rules are those of containerd/platforms. A Matcher accepts platforms and ranks them; `select`
and `best` apply it as containerd chooses from an index: an entry without a platform always matches
and is ranked last. All functions are pure and safe from any thread.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final, Protocol, TypeVar

import msgspec

from engine.spec.descriptor import Platform
from engine.spec.platform_spec import format as format  # noqa: A004 - the name in containerd
from engine.spec.platform_spec import format_all as format_all
from engine.spec.platform_spec import host as host
from engine.spec.platform_spec import normalize as normalize
from engine.spec.platform_spec import parse as parse

T = TypeVar("T")

# Two digits at most: each lower level becomes a platform, and the text may be untrusted.
_LEVEL: Final = r"v?0*([0-9]{1,2})"
_ARM64_VERSION: Final = r"v(?:(8)(?:\.([1-9]))?|(9)(?:\.([1-7]))?)"
_WINDOWS_VERSION: Final = r"0*([0-9]{1,3})\.0*([0-9]{1,3})\.0*([0-9]{1,5})(?:\..*)?"
_WINDOWS_LTSC_BUILDS: Final = (20348, 26100)


class Matcher(Protocol):
    """A predicate and an order of platforms."""

    def matches(self, platform: Platform) -> bool:
        """Return whether the platform is acceptable."""

    def rank(self, platform: Platform) -> tuple[int, ...]:
        """Return a sort key, lowest for the best platform; also defined without a match."""


def preferences(platform: Platform) -> tuple[Platform, ...]:
    """Return the platforms that a machine of this platform can run, best first, itself included.

    arm64 runs its lower versions and 32-bit arm, arm runs its lower versions down to v5, and amd64
    runs its lower levels and 386. An unknown arm64 version runs nothing.
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
    """Return a Matcher of all that machines of these platforms can run.

    The first platforms are preferred, each in the order of `preferences`.
    """
    return any_of(*(preferred for platform in platforms for preferred in preferences(platform)))


def any_of(*platforms: Platform) -> Matcher:
    """Return a Matcher of these platforms, as containerd's Ordered.

    The first ones are preferred, then those with more os features.
    """
    return _Ordered(tuple(map(_Exact.of, platforms)))


class _Exact(msgspec.Struct, frozen=True):
    """A normalized platform; it matches equal platforms with the same or fewer os features."""

    platform: Platform

    @staticmethod
    def of(platform: Platform) -> _Exact:
        return _Exact(normalize(platform))

    def matches(self, platform: Platform) -> bool:
        own, other = self.platform, normalize(platform)
        return (
            (own.os, own.architecture, own.variant) == (other.os, other.architecture, other.variant)
            and self.fits_version(platform)
            and set(_counted_features(own, platform)) <= set(own.os_features)
        )

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
    def matches(self, platform: Platform) -> bool:  # noqa: ARG002 - the protocol's argument
        return True

    def rank(self, platform: Platform) -> tuple[int, ...]:  # noqa: ARG002 - as above
        return ()


ALL: Final[Matcher] = _All()
"""A Matcher that accepts every platform and prefers none."""


def sort(
    items: Iterable[T], matcher: Matcher, platform_of: Callable[[T], Platform | None]
) -> list[T]:
    """Return the items, the best platform first and those without one last; the sort is stable."""

    def key(item: T) -> tuple[bool, tuple[int, ...]]:
        platform = platform_of(item)
        return (True, ()) if platform is None else (False, matcher.rank(platform))

    return sorted(items, key=key)


def select(
    items: Iterable[T], matcher: Matcher, platform_of: Callable[[T], Platform | None]
) -> list[T]:
    """Return the items whose platform matches and those without one, sorted."""

    def passes(item: T) -> bool:
        platform = platform_of(item)
        return platform is None or matcher.matches(platform)

    return sort(filter(passes, items), matcher, platform_of)


def best(
    items: Iterable[T], matcher: Matcher, platform_of: Callable[[T], Platform | None]
) -> T | None:
    """Return the first item of `select`, None if there is none."""
    return next(iter(select(items, matcher, platform_of)), None)


def _level(variant: str) -> int:
    """Return the number in a variant such as v3, or 0."""
    match = re.fullmatch(_LEVEL, variant)
    return int(match[1]) if match else 0


def _arm64_versions(variant: str) -> list[str]:
    """Return the versions that an arm64 version runs, highest first.

    v9.N includes v8.(N+5), up to v8.9.
    """
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
        # Windows images declare it whether or not it is required.
        features.remove("win32k")
    return features


def _windows_version(text: str) -> tuple[int, int, int]:
    """Return major, minor and build; zeros if `text` does not start with three valid numbers."""
    match = re.fullmatch(_WINDOWS_VERSION, text, re.DOTALL)
    if match is None:
        return 0, 0, 0
    major, minor, build = (int(number) for number in match.groups())
    return (major, minor, build) if max(major, minor) < 2**8 and build < 2**16 else (0, 0, 0)


def _windows_runs(own: tuple[int, int, int], image: tuple[int, int, int]) -> bool:
    """Return whether a Windows host runs an image, by their versions.

    Before build 20348 only the same build runs; since then all builds from the previous LTSC on.
    """
    build, oldest = own[2], _WINDOWS_LTSC_BUILDS[0]
    if own[:2] != image[:2] or build < oldest:
        return own == image
    floor = max((ltsc for ltsc in _WINDOWS_LTSC_BUILDS if ltsc < build), default=oldest)
    return floor <= image[2] <= build

"""The annotations of a new image: the document that each belongs to, and its platform."""

import re
from collections.abc import Iterable

import msgspec

from engine.errors import InvalidText
from engine.spec import platforms
from engine.spec.oci import Platform

MANIFEST = "manifest"
MANIFEST_DESCRIPTOR = "manifest-descriptor"
INDEX = "index"
INDEX_DESCRIPTOR = "index-descriptor"
OF_INDEX = (INDEX, INDEX_DESCRIPTOR)
_LEVELS = (MANIFEST, MANIFEST_DESCRIPTOR, INDEX, INDEX_DESCRIPTOR)
_EXPECTED = " or ".join(_LEVELS)
_PLACE = re.compile(r"([a-z-]+)(?:\[([A-Za-z0-9_/-]+)\])?")
_OPTION = re.compile(r"annotation(?:-([a-z-]+))?(?:\[([A-Za-z0-9_/-]+)\])?\.(\S+)")
_OPTION_PREFIX = re.compile(r"annotation[-.\[]")


class InvalidAnnotation(InvalidText):
    """A text that is not a valid annotation."""

    noun = "annotation"


class Annotation(msgspec.Struct, frozen=True):
    """An annotation for one platform, for all if `platform` is None; an index has no platform."""

    level: str
    key: str
    value: str
    platform: Platform | None = None

    def is_for(self, platform: Platform) -> bool:
        """Return whether the annotation applies to a platform."""
        return self.platform is None or _text(self.platform) == _text(platform)


def chosen(
    annotations: Iterable[Annotation], level: str, platform: Platform | None = None
) -> dict[str, str]:
    """Return the annotations of one document, sorted; those for its platform take precedence."""
    here = [a for a in annotations if a.level == level]
    if platform is None:
        return dict(sorted((a.key, a.value) for a in here))
    general = {a.key: a.value for a in here if a.platform is None}
    own = {a.key: a.value for a in here if a.platform and a.is_for(platform)}
    return dict(sorted((general | own).items()))


def parse(text: str) -> list[Annotation]:
    """Parse "KEY=VALUE" (for manifests) or "LEVEL[PLATFORM],…:KEY=VALUE", as buildx does.

    Raise InvalidAnnotation or InvalidPlatform.
    """
    key, equals, value = text.partition("=")
    places, colon, rest = key.partition(":")
    if not equals or not (rest if colon else key):
        raise InvalidAnnotation(text, "expected [LEVEL[PLATFORM],…:]KEY=VALUE")
    if not colon:
        return [Annotation(MANIFEST, key, value)]
    return [_at(place, rest, value, text) for place in places.split(",")]


def is_option(key: str) -> bool:
    """Return whether the key of an exporter option begins like that of an annotation."""
    return _OPTION_PREFIX.match(key) is not None


def parse_option(key: str, value: str) -> Annotation:
    """Parse an exporter option, "annotation[-LEVEL][[PLATFORM]].KEY".

    Raise InvalidAnnotation or InvalidPlatform.
    """
    found = _OPTION.fullmatch(key)
    if found is None:
        raise InvalidAnnotation(key, "expected annotation[-LEVEL][[PLATFORM]].KEY")
    level, platform, name = found.groups()
    return _annotation(level or MANIFEST, platform, name, value, key)


def _at(place: str, key: str, value: str, text: str) -> Annotation:
    found = _PLACE.fullmatch(place)
    if found is None:
        raise InvalidAnnotation(text, f"expected {_EXPECTED} before the colon, found {place}")
    return _annotation(found[1], found[2], key, value, text)


def _annotation(level: str, platform: str | None, key: str, value: str, text: str) -> Annotation:
    if level not in _LEVELS:
        raise InvalidAnnotation(text, f"expected {_EXPECTED}, found {level}")
    return Annotation(level, key, value, platforms.parse(platform) if platform else None)


def _text(platform: Platform) -> str:
    return platforms.format(platforms.normalize(platform))

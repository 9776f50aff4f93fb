"""The rules by which the user names the images of an archive."""

from collections.abc import Sequence

import msgspec

from engine.archive.archive_image import ArchiveImage
from engine.errors import InvalidDigest, InvalidInput, InvalidReference
from engine.image import check_name
from engine.spec import reference
from engine.spec.digest import parse


class InvalidNaming(InvalidInput):
    """Names that cannot be assigned; `reason` is the message."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class Naming(msgspec.Struct, frozen=True):
    """The rules for names; the default rules keep the names that the archive gives.

    `base` is the repository of images that have only a tag, as with ctr's --base-name. `renames`
    are pairs of an old and a new name: a repository with all its tags, or one tagged name. `prefix`
    precedes every familiar name. `name` is for the one image that has no name after these rules.
    `directory` is the name of a directory that holds a layout: it is the repository of images that
    have only a tag, and the name of the only image that has neither. It is ignored if `name` is
    given, or if it is no valid name of an image.
    """

    base: str = ""
    renames: tuple[tuple[str, str], ...] = ()
    prefix: str = ""
    name: str = ""
    directory: str = ""

    def applied(self, found: Sequence[ArchiveImage]) -> list[ArchiveImage]:
        """Return the images with their names in the store.

        Raise InvalidNaming if `name` does not apply to exactly one image, and InvalidReference for
        a resulting name that is not valid.
        """
        if self == Naming():
            return list(found)
        called = [msgspec.structs.replace(f, names=self._names(f)) for f in found]
        if not self.name:
            return self._named_after_directory(called)
        unnamed = [f for f in called if not f.names]
        images = [f for f in unnamed if f.graph.images] or unnamed
        digests = {f.graph.root.digest for f in images}
        if len(digests) != 1:
            raise InvalidNaming(
                f"{self.name}: expected one image without a name, found {len(digests)}"
            )
        name = _full(self.name)
        return [msgspec.structs.replace(f, names=(name,)) if f in images else f for f in called]

    def _names(self, found: ArchiveImage) -> tuple[str, ...]:
        names = found.names
        if not names and found.tag and self.base:
            names = (_full(f"{self.base}:{found.tag}"),)
        elif not names and found.tag and not self.name and (place := _reference(self.directory)):
            names = (_full(f"{place.name}:{found.tag}"),)
        return tuple(dict.fromkeys(self._prefixed(self._renamed(name)) for name in names))

    def _named_after_directory(self, found: list[ArchiveImage]) -> list[ArchiveImage]:
        place = _reference(self.directory)
        others = {one.graph.root.digest for one in found if not one.names and not one.tag}
        if place is None or len(others) != 1:
            return found
        name = self._prefixed(self._renamed(str(reference.tag_name_only(place))))
        return [
            msgspec.structs.replace(one, names=(name,)) if one.graph.root.digest in others else one
            for one in found
        ]

    def _renamed(self, name: str) -> str:
        ref = reference.parse_normalized(name)
        for old, new in self.renames:
            wanted = reference.parse_normalized(old)
            if name == str(wanted):
                return _full(new)
            if wanted.is_name_only and wanted.name == ref.name:
                return _full(f"{new}{name[len(ref.name) :]}")
        return name

    def _prefixed(self, name: str) -> str:
        if not self.prefix:
            return name
        return _full(f"{self.prefix}{reference.parse_normalized(name).familiar}")


def _reference(directory: str) -> reference.Reference | None:
    """Return the image name that a directory's name is, without a digest; None if it is none."""
    try:
        if _is_digest(directory.rpartition("/")[2]):
            return None
        place = reference.parse_normalized(directory)
        check_name(str(reference.tag_name_only(place)), "")
    except (InvalidReference, InvalidDigest):
        return None
    return place if place.digest is None else None


def _is_digest(text: str) -> bool:
    try:
        parse(text)
    except InvalidDigest:
        return False
    return True


def _full(text: str) -> str:
    """Return the full form of a name, tagged `latest` if it has no tag; raise InvalidReference."""
    name = str(reference.tag_name_only(reference.parse_normalized(text)))
    if "@" not in name:
        check_name(name, "")
    return name


def parse_rename(text: str) -> tuple[str, str]:
    """Parse "OLD=NEW", two repositories or two tagged names; raise InvalidNaming."""
    old, equals, new = text.partition("=")
    if not equals:
        raise InvalidNaming(f"{text}: expected OLD=NEW, such as app=team/app, found no equals sign")
    try:
        kinds = {reference.parse_normalized(name).is_name_only for name in (old, new)}
    except InvalidReference as error:
        raise InvalidNaming(f"{text}: expected OLD=NEW: {error}") from error
    if len(kinds) > 1:
        raise InvalidNaming(f"{text}: expected OLD=NEW, both with a tag or both without")
    return old, new

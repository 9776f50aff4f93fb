"""Images as commands list them, from what a store has recorded: no blob is read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine.errors import InvalidPlatform, NotFound
from engine.image import Image, ManifestSummary
from engine.spec import reference, rfc3339
from engine.spec.descriptor import Platform
from imgfs.cli.support.common import human

if TYPE_CHECKING:
    from engine.stores.protocols import Store

_NUMBER: Final = re.compile(r"([0-9]+)")

HEADS: Final = {
    "Containers": "CONTAINERS",
    "CreatedAt": "CREATED AT",
    "CreatedSince": "CREATED",
    "Digest": "DIGEST",
    "ID": "IMAGE ID",
    "Platforms": "PLATFORMS",
    "Repository": "REPOSITORY",
    "SharedSize": "SHARED SIZE",
    "Size": "SIZE",
    "Tag": "TAG",
    "UniqueSize": "UNIQUE SIZE",
    "VirtualSize": "SIZE",
}
"""The fields of docker's templates, with our Platforms, and their headings in tables."""


class ImageRow(msgspec.Struct, frozen=True):
    """A name of an image; `created` is an RFC 3339 time or "", `size` is in bytes."""

    image: Image
    repository: str
    tag: str
    id: str
    config: str
    created: str
    size: int
    platforms: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Return the row with the names of `--format json`."""
        return {
            "name": None if self.image.is_untagged else self.image.familiar,
            "repository": self.repository or None,
            "tag": self.tag or None,
            "id": self.id or None,
            "digest": self.image.target.digest,
            "media_type": self.image.target.media_type,
            "created": self.created or None,
            "size": self.size,
            "platforms": list(self.platforms),
        }

    def fields(self, now: float, no_trunc: bool) -> Mapping[str, str]:
        """Return the row with the names in HEADS; `now` is in seconds since the epoch."""
        size = human(self.size)
        return {
            "Containers": "N/A",
            "CreatedAt": created_at(self.created),
            "CreatedSince": created_since(self.created, now),
            "Digest": self.image.target.digest,
            "ID": self.id if no_trunc else short(self.id),
            "Platforms": ",".join(self.platforms),
            "Repository": self.repository or "<none>",
            "SharedSize": "N/A",
            "Size": size,
            "Tag": self.tag or "<none>",
            "UniqueSize": "N/A",
            "VirtualSize": size,
        }


def image_rows(store: Store, images: Iterable[Image]) -> Iterator[ImageRow]:
    """Yield a row for each image that another process does not remove meanwhile."""
    for image in images:
        with suppress(NotFound):
            yield _row(store, image)


def newest_first(rows: Iterable[ImageRow]) -> list[ImageRow]:
    """Return rows by creation, the newest first; of one time by name, with v2 before v10, and those
    without a name at last.
    """
    named = sorted(rows, key=_by_name)
    return sorted(named, key=lambda row: row.created, reverse=True)


def short(digest: str) -> str:
    """Return the first twelve digits of a digest, as docker shortens IDs."""
    return digest.partition(":")[2][:12]


def created_at(time: str) -> str:
    """Return an RFC 3339 time as docker prints it in UTC, "N/A" for ""."""
    return f"{time[:10]} {time[11:19]} +0000 UTC" if time else "N/A"


def created_since(time: str, now: float) -> str:
    """Return how long ago a time was, "N/A" for ""; `now` is in seconds since the epoch."""
    from imgfs.cli.support.ages import age

    return age(now - rfc3339.epoch_seconds(time)) if time else "N/A"


def _by_name(row: ImageRow) -> tuple[bool, list[tuple[int, str]]]:
    """Return a key by which numbers in names are sorted by their value."""
    parts = _NUMBER.split(f"{row.repository}:{row.tag}")
    key = [(int(part[:99]), "") if i % 2 else (-1, part) for i, part in enumerate(parts)]
    return not row.repository, key


def _row(store: Store, image: Image) -> ImageRow:
    manifests = store.images.manifests(image.target.digest)
    best = _best(manifests)
    ref = None if image.is_untagged else reference.parse_normalized(image.name)
    config = best.config if best else ""
    return ImageRow(
        image,
        ref.familiar_name if ref else "",
        (ref.tag or "") if ref else "",
        config or image.target.digest,
        config,
        rfc3339.text(store.images.target(image.target.digest).created),
        best.size if best else 0,
        tuple(dict.fromkeys(m.platform for m in manifests if m.platform)),
    )


def _best(manifests: tuple[ManifestSummary, ...]) -> ManifestSummary | None:
    """Return the manifest for this host, or else the first; None if there is none."""
    first = manifests[0] if manifests else None
    if len(manifests) < 2:
        return first
    from engine.spec import platforms  # not needed for an image of one platform

    matcher = platforms.only(platforms.host())
    return platforms.best(manifests, matcher, _platform) or first


def _platform(manifest: ManifestSummary) -> Platform | None:
    """Return its platform, None if it names none; one that no host matches if it is invalid."""
    if not manifest.platform:
        return None
    from engine.spec import platforms

    try:
        return platforms.parse(manifest.platform)
    except InvalidPlatform:
        return Platform(architecture="", os=manifest.platform)

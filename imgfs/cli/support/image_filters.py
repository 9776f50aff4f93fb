"""The filters of `docker images` and `docker image prune`, upon the rows of `image_rows`.

Values of `reference`, `before`, `since` and `until` are alternatives or bounds as in docker; every
`label` must fit. Only `label` reads a blob of an image: its config.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from engine import names
from engine.errors import ContentMismatch, InvalidDocument, LimitExceeded, NotFound
from engine.image import Image
from engine.spec import reference, rfc3339
from engine.units import NS_PER_SECOND
from imgfs.cli.support.command import UsageError
from imgfs.cli.support.image_rows import ImageRow
from imgfs.cli.support.times import parse_time

if TYPE_CHECKING:
    from engine.stores.protocols import Store

LISTED = ("reference", "dangling", "label", "before", "since", "until")
PRUNED = ("label", "label!", "until")
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


class ImageFilters(msgspec.Struct, frozen=True):
    """Conditions that images have to meet.

    `before` and `since` are seconds since 1970, between which they were created; None is no bound.
    As in docker an image without a time is older than all others: it counts as created at 0.
    """

    references: tuple[str, ...] = ()
    dangling: bool | None = None
    labels: tuple[tuple[str, str | None], ...] = ()
    other_labels: tuple[tuple[str, str | None], ...] = ()
    before: int | None = None
    since: int | None = None

    def names(self, images: Iterable[Image]) -> Iterator[Image]:
        """Yield the images that meet the conditions on names."""
        for image in images:
            if self.dangling in (None, image.is_untagged) and (
                not self.references or any(fits(pattern, image) for pattern in self.references)
            ):
                yield image

    def rows(self, store: Store, rows: Iterable[ImageRow]) -> Iterator[ImageRow]:
        """Yield the rows that meet the other conditions."""
        for row in rows:
            if self._is_in_time(row) and self._has_labels(store, row):
                yield row

    def _is_in_time(self, row: ImageRow) -> bool:
        created = rfc3339.epoch_seconds(row.created)
        return (self.before is None or created < self.before) and (
            self.since is None or created > self.since
        )

    def _has_labels(self, store: Store, row: ImageRow) -> bool:
        if not self.labels and not self.other_labels:
            return True
        try:
            found = labels(store, row)
        except (NotFound, InvalidDocument, LimitExceeded, ContentMismatch):
            return False  # another process has removed it meanwhile, or nobody can read it
        return all(_is_set(found, label) for label in self.labels) and not any(
            _is_set(found, label) for label in self.other_labels
        )


def parse_filters(
    store: Store, given: Sequence[str], known: Sequence[str], now: int
) -> ImageFilters:
    """Return the conditions of `--filter KEY=VALUE` options; `now` is in nanoseconds since 1970.

    Raise UsageError for an option that is not valid, and for `before` and `since` as
    `names.find_one`.
    """
    values: dict[str, list[str]] = {key: [] for key in (*LISTED, *PRUNED)}
    for text in given:
        key, separator, value = text.partition("=")
        if key not in known or not separator:
            expected = ", ".join(f"{name}=…" for name in known)
            raise UsageError(f"--filter {text}: expected one of {expected}")
        values[key].append(value)
    for value in values["dangling"]:
        if value not in _TRUTH:
            raise UsageError(f"--filter dangling={value}: expected true or false")
    until = [
        parse_time(f"--filter until={value}", value, now) // NS_PER_SECOND
        for value in values["until"]
    ]
    before = [*until, *(_created(store, name) for name in values["before"])]
    since = [_created(store, name) for name in values["since"]]
    return ImageFilters(
        tuple(values["reference"]),
        _TRUTH[values["dangling"][-1]] if values["dangling"] else None,
        tuple(map(_label, values["label"])),
        tuple(map(_label, values["label!"])),
        min(before, default=None),
        max(since, default=None),
    )


def fits(pattern: str, image: Image) -> bool:
    """Return whether a pattern fits the familiar name of an image, with or without its tag.

    Raise InvalidInput for a malformed pattern.
    """
    return not image.is_untagged and reference.familiar_match(
        pattern, reference.parse_normalized(image.name)
    )


def labels(store: Store, row: ImageRow) -> dict[str, str]:
    """Return the labels in the config of an image; raise NotFound if it is absent, and
    InvalidDocument, LimitExceeded or ContentMismatch if it cannot be read.
    """
    from engine.content.blobs import read_blob  # most listings read no config
    from engine.spec import docker, go_json

    if not row.config:
        return {}
    members = docker.process_members(read_blob(store.content, row.config), row.config)
    if "Labels" not in members:
        return {}
    return go_json.decode(bytes(members["Labels"]), dict[str, str], row.config)


def _created(store: Store, name: str) -> int:
    image = names.find_one(store.images, name)
    return store.images.target(image.target.digest).created


def _label(text: str) -> tuple[str, str | None]:
    key, separator, value = text.partition("=")
    return key, value if separator else None


def _is_set(found: dict[str, str], label: tuple[str, str | None]) -> bool:
    key, value = label
    return key in found and value in (None, found[key])

"""`imgfs images`: list the images of a store."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from engine import names
from engine.errors import InvalidPlatform, NotFound, StoreMissing
from engine.image import Image, ManifestSummary
from engine.spec import reference, rfc3339
from engine.spec.descriptor import Platform
from imgfs.cli.support.command import Command, Parser
from imgfs.cli.support.common import (
    WIDEST,
    each,
    format_option,
    human,
    on_a_terminal,
    opened,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from engine.stores.protocols import Store


class _Listed(msgspec.Struct, frozen=True):
    """A line of `imgfs images`."""

    image: Image
    repository: str
    tag: str
    id: str
    created: str
    size: int
    platforms: tuple[str, ...]

    def document(self) -> dict[str, Any]:
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


def _options(parser: Parser) -> None:
    parser.flag("-q", "--quiet", help="Print only IDs.")
    parser.flag("--digests", help="Also print digests.")
    parser.flag("--no-trunc", help="Do not shorten IDs.")
    format_option(parser, "table", "json")


def _images(args: Namespace) -> None:
    """List the images (also: imgfs ls).

    imgfs images
    imgfs images alpine --format json
    """
    try:
        store = opened(args)
    except StoreMissing:
        if args.words:
            raise
        _print([], args)
        return
    with store:
        found: list[Image] = [] if args.words else store.images.all()
        try:
            each(args.words, lambda name: found.extend(names.find(store.images, name)))
        finally:
            _print(list(_listed(store, found)), args)


IMAGES = Command(_images, _options, words="[NAME…]", most=None)


def _print(rows: list[_Listed], args: Namespace) -> None:
    if args.format == "json":
        print_json([row.document() for row in rows])
    elif args.quiet:
        for row in rows:
            print(row.id if args.no_trunc else _short(row.id))
    else:
        _print_images(rows, args.digests, args.no_trunc)


def _print_images(rows: list[_Listed], digests: bool, no_trunc: bool) -> None:
    head = [
        "REPOSITORY",
        "TAG",
        *(["DIGEST"] * digests),
        "IMAGE ID",
        "CREATED",
        "SIZE",
        "PLATFORMS",
    ]
    print_table(
        head,
        (
            [
                row.repository or "<none>",
                row.tag or "<none>",
                *([row.image.target.digest] * digests),
                row.id if no_trunc else _short(row.id),
                row.created[:10] or "-",
                human(row.size),
                ",".join(row.platforms) or "-",
            ]
            for row in rows
        ),
        None if no_trunc else on_a_terminal(WIDEST),
    )


def _listed(store: Store, images: Iterable[Image]) -> Iterator[_Listed]:
    for image in images:
        with suppress(NotFound):  # another process has removed it meanwhile
            yield _line(store, image)


def _line(store: Store, image: Image) -> _Listed:
    manifests = store.images.manifests(image.target.digest)
    best = _best(manifests)
    ref = None if image.is_untagged else reference.parse_normalized(image.name)
    return _Listed(
        image,
        ref.familiar_name if ref else "",
        (ref.tag or "") if ref else "",
        (best.config if best else "") or image.target.digest,
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


def _short(digest: str) -> str:
    return digest.partition(":")[2][:12]

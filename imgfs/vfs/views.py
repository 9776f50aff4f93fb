"""How a mount shows images: in which layout, and which of their platforms."""

from collections.abc import Sequence
from functools import partial
from typing import Protocol

import msgspec

from engine.errors import NotExportable
from engine.image import Image, path_of
from engine.layers.diff_ids import uncompressed_size
from engine.layouts import combined, docker_save, selection
from engine.layouts.entry import Entry
from engine.layouts.oci_manifests import with_oci_manifests
from engine.spec import platforms, reference
from engine.spec.oci import Platform
from engine.stores.protocols import Store


class View(Protocol):
    """Makes the entries of an image directory, or of a repository's."""

    def entries(
        self, store: Store, images: Sequence[Image], mtime: int, prefix: str
    ) -> tuple[Entry, ...]:
        """One archive with these images, sorted by path; `mtime` is in seconds.

        With a `prefix` images are called by what their paths have behind it, as tools do that split
        a path at its first colon.
        """


class CombinedView(msgspec.Struct, frozen=True):
    """Docker's and OCI's layout in one. The platforms asked for, the most wanted first; none means
    everything, described for this host. An image that has none of them is shown whole.
    """

    wanted: tuple[Platform, ...] = ()

    def entries(
        self, store: Store, images: Sequence[Image], mtime: int, prefix: str
    ) -> tuple[Entry, ...]:
        """As `View.entries`."""
        matcher = _matcher(self.wanted)
        options = combined.Options(
            matcher or platforms.ALL,
            matcher or platforms.only(platforms.host()),
            selection.any_complete,
            mtime=mtime,
            ref_name=_NameAfter(prefix),
        )
        entries = combined.layout(images, store.content, options)
        return with_oci_manifests(entries, store.content) if prefix else entries


class DockerView(msgspec.Struct, frozen=True):
    """The layout of docker save: layers uncompressed, one platform. Images that docker would not
    save are shown as by `CombinedView`.
    """

    wanted: tuple[Platform, ...] = ()

    def entries(
        self, store: Store, images: Sequence[Image], mtime: int, prefix: str
    ) -> tuple[Entry, ...]:
        """As `View.entries`."""
        matcher = _matcher(self.wanted)
        options = docker_save.Options(
            matcher or platforms.ALL,
            matcher or platforms.only(platforms.host()),
            selection.any_complete,
        )
        size = partial(uncompressed_size, store.content)
        try:
            return docker_save.layout(images, store.content, size, options)
        except NotExportable:
            return CombinedView(self.wanted).entries(store, images, mtime, prefix)


class _NameAfter(msgspec.Struct, frozen=True):
    """An image's tag; with a prefix, the rest of its path."""

    prefix: str

    def __call__(self, image: Image) -> str:
        if self.prefix:
            return path_of(image.name).removeprefix(self.prefix)
        return "" if image.is_untagged else reference.oci_ref_name(image.name)


def _matcher(wanted: Sequence[Platform]) -> platforms.Matcher | None:
    if not wanted:
        return None
    return platforms.any_of(*(q for p in wanted for q in platforms.preferences(p)))

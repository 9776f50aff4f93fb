"""The ways in which a mount shows images: their layout and their platforms."""

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
    """Makes the entries of the directory of an image or a repository."""

    def entries(
        self, store: Store, images: Sequence[Image], mtime: int, prefix: str
    ) -> tuple[Entry, ...]:
        """Return the entries of one archive with these images, sorted by path.

        `mtime` is in seconds since the epoch. With a `prefix`, an image is named by the rest of its
        path after the prefix, as tools need that split a path at its first colon.
        """


class CombinedView(msgspec.Struct, frozen=True):
    """The layouts of docker save and OCI combined.

    `wanted` selects platforms, in order of preference. All platforms are shown if it is empty, with
    the docker layout describing that of this host. An image without a wanted platform is shown
    whole.
    """

    wanted: tuple[Platform, ...] = ()

    def entries(
        self, store: Store, images: Sequence[Image], mtime: int, prefix: str
    ) -> tuple[Entry, ...]:
        """Implement `View`."""
        options = combined.Options(
            *_matchers(self.wanted),
            selection.any_complete,
            mtime=mtime,
            ref_name=_NameAfter(prefix),
        )
        entries = combined.layout(images, store.content, options)
        return with_oci_manifests(entries, store.content) if prefix else entries


class DockerView(msgspec.Struct, frozen=True):
    """The layout of docker save: uncompressed layers of one platform.

    Images that docker save does not support are shown as by `CombinedView`.
    """

    wanted: tuple[Platform, ...] = ()

    def entries(
        self, store: Store, images: Sequence[Image], mtime: int, prefix: str
    ) -> tuple[Entry, ...]:
        """Implement `View`."""
        options = docker_save.Options(*_matchers(self.wanted), selection.any_complete)
        size = partial(uncompressed_size, store.content)
        try:
            return docker_save.layout(images, store.content, size, options)
        except NotExportable:
            return CombinedView(self.wanted).entries(store, images, mtime, prefix)


class _NameAfter(msgspec.Struct, frozen=True):
    """Returns the name of an image in an index: its tag, or with a prefix the rest of its path."""

    prefix: str

    def __call__(self, image: Image) -> str:
        if self.prefix:
            return path_of(image.name).removeprefix(self.prefix)
        return "" if image.is_untagged else reference.oci_ref_name(image.name)


def _matchers(wanted: Sequence[Platform]) -> tuple[platforms.Matcher, platforms.Matcher]:
    """Return what selects the platforms, and what chooses one for the docker layout."""
    if not wanted:
        return platforms.ALL, platforms.only(platforms.host())
    matcher = platforms.only(*wanted)
    return matcher, matcher

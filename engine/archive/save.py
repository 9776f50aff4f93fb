"""Saving of images as one layout, as an archive or a directory, which docker can load.

The blobs are leased before they are opened, and the event is recorded when the layout is complete.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import msgspec

from engine.archive import writer
from engine.archive.entry_content import Source
from engine.archive.trimmed import Trimmed
from engine.content.protocols import Provider
from engine.image import Image
from engine.layouts import combined
from engine.layouts.entry import Entry
from engine.progress import Progress, ignore
from engine.spec.digest import Digest
from engine.stores.protocols import Store
from engine.tracing import Tracer, Untraced


class Destination(Protocol):
    """The destination of a layout; the spans of `tracer` are named as moby's."""

    @property
    def tracer(self) -> Tracer: ...

    def write_layout(self, entries: Sequence[Entry], source: Source) -> int:
        """Write these entries with the blobs of `source`, verified; return the size in bytes."""


class Output(msgspec.Struct, frozen=True):
    """The destination of an archive: a function that takes its bytes.

    `pipe` is the pipe into which it writes them at once, None if it does anything else.
    """

    write: Callable[[bytes], object]
    progress: Progress = ignore
    tracer: Tracer = Untraced()
    pipe: int | None = None

    def write_layout(self, entries: Sequence[Entry], source: Source) -> int:
        """Write an archive; raise the errors of `write_archive`."""
        with self.tracer.span("writeTar"):
            return writer.write_archive(
                entries, source, self.write, self.progress, self.tracer, self.pipe
            )


def save(
    store: Store, images: Sequence[Image], options: combined.Options, output: Destination
) -> int:
    """Write one layout of these images, verifying every blob; return its size in bytes.

    Raise the errors of `combined.layout` and of the destination.
    """
    layout = partial(combined.layout, images, store.content, options)
    return write_images(store, images, layout, store.content, output)


def save_trimmed(
    store: Store, images: Sequence[Image], options: combined.Options, output: Destination
) -> list[Image]:
    """As `save`, with indexes that list only what is there; return the images that were written.

    Raise also the errors of `Trimmed`.
    """
    trimmed = Trimmed(images, store.content, options)
    layout = partial(combined.layout, trimmed.images, trimmed, options)
    write_images(store, images, layout, trimmed, output)
    return trimmed.images


def write_images(
    store: Store,
    images: Sequence[Image],
    layout: Callable[[], Sequence[Entry]],
    provider: Provider,
    output: Destination,
) -> int:
    """Write the entries that `layout` returns, with the blobs of `provider`.

    Lease the blobs of `images`, and record a save event for each image at the end. Return the size
    of what was written in bytes; raise the errors of `layout` and of the destination.
    """
    tracer = output.tracer
    with tracer.span("save"), store.leases.hold() as lease:
        with store.transaction():
            for target in dict.fromkeys(image.target.digest for image in images):
                with tracer.span("saveImage", {"image.id": target}):
                    for blob in store.images.summary(target).blobs:
                        store.leases.add(lease.id, Digest(blob))
        size = output.write_layout(layout(), Source(provider, store.tables))
    if store.supports_changes:
        with store.transaction():
            for image in images:
                name = "" if image.is_untagged else image.name
                store.events.add("save", image.target.digest, name)
    return size

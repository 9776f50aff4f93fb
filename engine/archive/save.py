"""Saving of images as one archive with an OCI layout, which docker can load.

The blobs are leased before they are opened, and the event is recorded when the archive is complete.
"""

from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from engine.archive import writer
from engine.content.protocols import Provider
from engine.image import Image
from engine.layouts import combined
from engine.layouts.entry import Entry
from engine.progress import Progress, ignore
from engine.spec.digest import Digest
from engine.stores.protocols import Store
from engine.tracing import Tracer, Untraced


class Output(msgspec.Struct, frozen=True):
    """The destination of an archive: `write`, `progress` and `tracer`, whose spans are named as
    moby's.
    """

    write: Callable[[bytes], object]
    progress: Progress = ignore
    tracer: Tracer = Untraced()


def save(store: Store, images: Sequence[Image], options: combined.Options, output: Output) -> int:
    """Write one archive of these images, verifying every blob; return its size in bytes.

    Raise the errors of `combined.layout` and `write_archive`.
    """
    layout = partial(combined.layout, images, store.content, options)
    return write_images(store, images, layout, store.content, output)


def write_images(
    store: Store,
    images: Sequence[Image],
    layout: Callable[[], Sequence[Entry]],
    provider: Provider,
    output: Output,
) -> int:
    """Write the entries that `layout` returns, with the blobs of `provider`.

    Lease the blobs of `images`, and record a save event for each image at the end. Return the size
    of the archive in bytes; raise the errors of `layout` and `write_archive`.
    """
    tracer = output.tracer
    with tracer.span("save"), store.leases.hold() as lease:
        with store.transaction():
            for target in dict.fromkeys(image.target.digest for image in images):
                with tracer.span("saveImage", {"image.id": target}):
                    for blob in store.images.summary(target).blobs:
                        store.leases.add(lease.id, Digest(blob))
        with tracer.span("writeTar"):
            size = writer.write_archive(layout(), provider, output.write, output.progress, tracer)
    if store.supports_changes:
        with store.transaction():
            for image in images:
                name = "" if image.is_untagged else image.name
                store.events.add("save", image.target.digest, name)
    return size

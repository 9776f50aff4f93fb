"""Saving: images as one archive. Their blobs are leased before they are looked for, and the event
is recorded when the archive is whole.
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
    """Where an archive goes, who hears how much of it is written, and where the spans go, which are
    called as moby's.
    """

    write: Callable[[bytes], object]
    progress: Progress = ignore
    tracer: Tracer = Untraced()


def save(store: Store, images: Sequence[Image], options: combined.Options, output: Output) -> int:
    """Write one archive of these images, every blob verified as it is copied; return its size in
    bytes. Errors as `combined.layout` and `write_archive`.
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
    """Write the entries that `layout` makes of these images, whose blobs `provider` has; return the
    archive's size in bytes. Errors as `layout` and `write_archive`.
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
    with store.transaction():
        for image in images:
            name = "" if image.is_untagged else image.name
            store.events.add("save", image.target.digest, name)
    return size

"""Saving: images as one archive. Their blobs are leased before they are looked for, and the event
is told when the archive is whole.
"""

from collections.abc import Callable, Sequence

import msgspec

from engine.archive import writer
from engine.content.protocols import Provider
from engine.image import Image
from engine.layouts.entry import Entry
from engine.progress import Progress, ignore
from engine.spec.digest import Digest
from engine.stores.local.database import Database
from engine.stores.local.events import EventLog
from engine.stores.local.images import ImageStore
from engine.stores.local.leases import Leases
from engine.tracing import Tracer


class Parts(msgspec.Struct, frozen=True):
    """What saving needs of an engine."""

    database: Database
    images: ImageStore
    leases: Leases
    events: EventLog
    tracer: Tracer


class Output(msgspec.Struct, frozen=True):
    """Where an archive goes, and who hears how much of it is written."""

    write: Callable[[bytes], object]
    progress: Progress = ignore


def save(
    parts: Parts,
    images: Sequence[Image],
    layout: Callable[[], Sequence[Entry]],
    provider: Provider,
    output: Output,
) -> int:
    """Write the entries that `layout` makes of the images; how many bytes that are.

    The spans are called as moby's. Errors as `layout`'s and `write_archive`'s.
    """
    tracer = parts.tracer
    with tracer.span("save"), parts.leases.hold() as lease:
        with parts.database.transaction():
            for target in dict.fromkeys(image.target.digest for image in images):
                with tracer.span("saveImage", {"image.id": target}):
                    for blob in parts.images.summary(target).blobs:
                        parts.leases.add(lease.id, Digest(blob))
        with tracer.span("writeTar"):
            size = writer.write_archive(layout(), provider, output.write, output.progress, tracer)
    with parts.database.transaction():
        for image in images:
            name = "" if image.is_untagged else image.name
            parts.events.add("save", image.target.digest, name)
    return size

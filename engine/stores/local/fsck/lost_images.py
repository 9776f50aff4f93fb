"""Recovery of images whose rows are lost, from the blobs.

If the database is lost, a complete manifest or index that no other one refers to was an image or an
artifact. So was one whose name could be saved, complete or not. Other names cannot be recovered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from engine.content.blobs import DOCUMENT_LIMIT, read_blob
from engine.errors import EngineError
from engine.graph import children, graph
from engine.spec import oci
from engine.spec.digest import Digest
from engine.spec.oci import Descriptor
from engine.stores.local import rebuild
from engine.stores.local.fsck.problem import Kind, Problem

if TYPE_CHECKING:
    from engine.stores.local.store import LocalStore


def lost_images(store: LocalStore, adopted: Iterable[Digest]) -> Iterator[Problem]:
    """Yield the images among blobs whose rows have just been added; while the database is being
    rebuilt among all blobs, since an interrupted repair may have added their rows.
    """
    is_rebuilt = rebuild.is_unfinished(store.directory)
    candidates = (info.digest for info in store.content.walk()) if is_rebuilt else adopted
    documents = [found for digest in candidates if (found := _document(store, digest))]
    below = {child.digest for _, children in documents for child in children}
    named = set(rebuild.saved_names(store.directory).values())
    for target, _ in documents:
        is_part = target.digest in below or _is_held(store, target.digest)
        if (target.digest in named or not is_part) and not store.images.is_named(target.digest):
            with suppress(EngineError, OSError):
                below_it = graph(store.content, target)
                is_image = below_it.is_usable if is_rebuilt else bool(below_it.complete_images)
                if is_image or target.digest in named:
                    text = "is an image without a name or record"
                    yield Problem(Kind.NAMELESS, target.digest, text, target=target)


def _is_held(store: LocalStore, digest: str) -> bool:
    """Return whether an image holds the blob, or has lacked it."""
    return any(store.images.links([digest]).values()) or bool(store.images.lacking([digest]))


def _document(
    store: LocalStore, digest: Digest
) -> tuple[Descriptor, tuple[Descriptor, ...]] | None:
    """Return a blob as a manifest or an index, with its children; None if it is neither."""
    size = store.content.sizes([digest]).get(digest)
    if size is None or size > DOCUMENT_LIMIT:
        return None
    with suppress(EngineError, OSError):
        data = read_blob(store.content, digest, size)
        if media_type := oci.own_media_type(data, digest):
            target = Descriptor(media_type=media_type, digest=digest, size=size)
            return target, children(data, target)
    return None

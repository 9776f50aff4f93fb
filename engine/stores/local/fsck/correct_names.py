"""Correction of rows of images whose name or target was damaged.

A row has the digest of its target twice. The one of a blob that is there is right. A name that is
invalid, or has no target, is dropped; the target of a dropped name is kept by its digest.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec.structs import replace

from engine.content.blobs import read_blob
from engine.errors import EngineError, InvalidReference, NotFound
from engine.graph import graph, summarize
from engine.image import Image, check_name
from engine.spec import oci
from engine.spec.descriptor import Descriptor
from engine.spec.digest import parse

if TYPE_CHECKING:
    from engine.stores.local.store import LocalStore


def correct_name(store: LocalStore, image: Image) -> None:
    """Write the row of an image anew, with its correct target; the caller holds the lock."""
    execute = store.database.connection.execute
    ((column,),) = execute("SELECT digest FROM images WHERE name = ?", (image.name,)).fetchall()
    target = _target(store, image, str(column))
    name = image.name
    if target is not None:
        _record_unknown(store, target)
        try:
            check_name(name, target.digest)
        except InvalidReference:
            name = target.digest
    if target is None or name != image.name:
        execute("DELETE FROM images WHERE name = ?", (image.name,))
    if target is not None and (name == image.name or not store.images.is_named(target.digest)):
        store.images.rewrite(replace(image, name=name, target=target))


def _target(store: LocalStore, image: Image, column: str) -> Descriptor | None:
    """Return the target of an image; None if it is not known which blob it was."""
    for digest in (image.target.digest, column):
        if store.content.sizes([digest]):
            return _described(store, replace(image.target, digest=digest))
    return image.target if image.target.digest == column else None


def _described(store: LocalStore, target: Descriptor) -> Descriptor:
    """Return a descriptor with the size and, if it has none of a document, the type of its blob."""
    target = replace(target, size=store.content.info(target.digest).size)
    if not oci.is_document_type(target.media_type):
        with suppress(EngineError, OSError):
            data = read_blob(store.content, target.digest, target.size)
            own = oci.own_media_type(data, parse(target.digest))
            return replace(target, media_type=own or target.media_type)
    return target


def _record_unknown(store: LocalStore, target: Descriptor) -> None:
    try:
        store.images.target(target.digest)
    except NotFound:
        store.images.record(target.digest, summarize(graph(store.content, target)))

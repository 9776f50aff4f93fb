"""Check of names and their targets, and of derived rows against the rows and blobs that they are
derived from.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from engine.errors import EngineError
from engine.image import Image, check_name, decode, path_of
from engine.spec import oci
from engine.spec.descriptor import Descriptor
from engine.stores.local.fsck.problem import Kind, Problem, shown_name
from engine.stores.local.schema import LINKS, REFS

if TYPE_CHECKING:
    from engine.stores.local.store import LocalStore

_TARGETS: Final = (
    ("targets", "digest"),
    ("members", "target"),
    ("manifests", "target"),
    ("missing", "target"),
)
_ORPHANS: Final = " UNION ".join(
    f"SELECT {column} FROM {table} WHERE {column} NOT IN (SELECT digest FROM images)"
    for table, column in _TARGETS
)
_LABELLED: Final = REFS.format(blobs="blobs")
_DIFFERENT: Final = f"""
    SELECT * FROM (SELECT child, parent FROM refs EXCEPT {_LABELLED})
    UNION ALL SELECT * FROM ({_LABELLED} EXCEPT SELECT child, parent FROM refs)"""
_MISCOUNTED: Final = f"""
    SELECT digest FROM (SELECT digest, count FROM links EXCEPT {LINKS})
    UNION SELECT digest FROM ({LINKS} EXCEPT SELECT digest, count FROM links)"""
_OUTDATED: Final = """
    SELECT DISTINCT digest FROM images JOIN targets USING (digest)
    WHERE (images.revision, images.created) != (targets.revision, targets.created)"""


def wrong_names(store: LocalStore) -> Iterator[Problem]:
    """Yield the problems of the names of images, and of what they say of their targets."""
    rows = store.database.read("SELECT name, digest, path, target FROM images ORDER BY name")
    for name, digest, path, target in rows:
        image = Image(name, decode(target, Descriptor, name))
        for text in (*_wrong_with(image, digest, path), *_wrong_with_target(store, image.target)):
            yield Problem(Kind.RECORD, name, text, (shown_name(image),))


def wrong_records(store: LocalStore) -> Iterator[Problem]:
    """Yield the problems of records without an image, and of references.

    One query finds all problems of a kind, so that what it compares is of the same moment, and no
    other process waits.
    """
    read = store.database.read
    for (digest,) in read(_ORPHANS):
        yield Problem(Kind.RECORD, digest, "something is recorded of it, and no image has it")
    for child, parent in read(_DIFFERENT):
        text = f"its labels and the table of references do not agree about {child}"
        yield Problem(Kind.RECORD, parent, text)
    for (digest,) in read(_MISCOUNTED):
        yield Problem(Kind.RECORD, digest, "the images that it stands in are counted wrong")
    for (digest,) in read(_OUTDATED):
        yield Problem(Kind.RECORD, digest, "its names and what is recorded of it do not agree")


def _wrong_with(image: Image, digest: str, path: str) -> Iterator[str]:
    if digest != image.target.digest:
        yield f"expected the digest {image.target.digest}, found {digest}"
    try:
        check_name(image.name, image.target.digest)
        if path not in (path_of(image.name), image.name):
            yield f"expected the path {path_of(image.name)}, found {path}"
    except EngineError as error:
        yield str(error)


def _wrong_with_target(store: LocalStore, target: Descriptor) -> Iterator[str]:
    size = store.content.sizes([target.digest]).get(target.digest)
    if size is not None and size != target.size:
        yield f"unexpected size of its target: expected {size}, found {target.size}"
    if not oci.is_document_type(target.media_type):
        yield f"its target is of the type {target.media_type}, as no image is"

"""The labels of manifests, with the names that containerd's clients give them."""

import pytest

from engine.graph import gc_labels
from engine.spec import oci
from engine.spec.digest import of_bytes
from engine.spec.oci import Descriptor, Index, Manifest
from engine.stores.containerd.references import renamed
from tests import archives

LAYER = archives.OCI_LAYER
CONFIG, FIRST, SECOND, OTHER = (
    Descriptor(media_type, of_bytes(name), 1)
    for media_type, name in (
        (oci.CONFIG, b"c"),
        (LAYER, b"1"),
        (oci.DOCKER_LAYER, b"2"),
        ("text/plain", b"o"),
    )
)
IMAGE = Descriptor(oci.MANIFEST, of_bytes(b"m"), 1)
NESTED = Descriptor(oci.INDEX, of_bytes(b"i"), 1)
PREFIX = "containerd.io/gc.ref.content."


def manifest(config: Descriptor, *layers: Descriptor) -> bytes:
    return oci.render(Manifest(schema_version=2, config=config, layers=layers))


def index(*manifests: Descriptor) -> bytes:
    return oci.render(Index(schema_version=2, manifests=manifests))


@pytest.mark.parametrize(
    ("document", "children", "names"),
    [
        (
            manifest(CONFIG, FIRST, OTHER, SECOND),
            [CONFIG, FIRST, OTHER, SECOND],
            ["config", "l.0", "0", "l.1"],
        ),
        (manifest(OTHER, OTHER), [OTHER, OTHER], ["0", "1"]),
        (index(IMAGE, NESTED, IMAGE), [IMAGE, NESTED, IMAGE], ["m.0", "0", "m.1"]),
    ],
)
def test_names(document: bytes, children: list[Descriptor], names: list[str]) -> None:
    labels = {**gc_labels(children), "k": "v"}
    digests = [child.digest for child in children]
    expected = {f"{PREFIX}{name}": one for name, one in zip(names, digests, strict=True)}
    assert renamed(labels, lambda: document) == {**expected, "k": "v"}


def test_what_cannot_be_parsed_keeps_its_labels() -> None:
    labels = gc_labels([CONFIG])
    assert renamed(labels, lambda: b"no document") == labels


def test_a_blob_without_references_is_not_read() -> None:
    labels = {"k": "v", f"{PREFIX}l.0": "x"}
    assert renamed(labels, pytest.fail) == labels

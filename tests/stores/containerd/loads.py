"""The image that the tests load and import, and what a store then has."""

import random

from engine.archive.import_options import ImportOptions
from engine.archive.importer import Import
from engine.spec import digest as digests
from engine.stores.protocols import Store
from tests.archives import ImageParts, layer, oci_archive

LARGE = layer("large", random.Random(1).randbytes(3 << 20))
APP = ImageParts(layers=(LARGE, layer("b")))
NAME = "docker.io/library/app:1"
ARCHIVE = oci_archive((APP, NAME))
LAYER = digests.of_bytes(LARGE)
OTHER = "ghcr.io/org/app:2"


def load(store: Store, archive: bytes = ARCHIVE) -> None:
    with Import(store, ImportOptions()) as session:
        session.feed(archive)
        session.finish()


def listed(store: Store) -> list[str]:
    return [image.name for image in store.images.all()]

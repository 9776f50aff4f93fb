"""The merged root of an image whose layers are leased while it is used."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from engine.filetree.entry_tree import EntryTree
from engine.filetree.merged import whole_root
from engine.layers.layer import Layers
from engine.progress import Progress
from engine.spec.digest import Digest
from engine.spec.oci import Manifest
from engine.stores.protocols import Store


@contextmanager
def leased_root(
    store: Store, manifest: Manifest, on_progress: Progress
) -> Iterator[tuple[Layers, EntryTree]]:
    """Provide the layers of a store, and the merged root of an image; raise as `whole_root`."""
    with (
        store.leases.hold() as lease,
        closing(Layers(store.content, store.tables, store.directory)) as layers,
    ):
        with store.transaction():
            for layer in manifest.layers:
                store.leases.add(lease.id, Digest(layer.digest))
        yield layers, whole_root(layers, manifest, on_progress)

"""The tables of the roots of images, merged once and kept in the store.

A table is stored under the digest of the image's manifest, where the tables of layers are, and is
collected with the manifest.
"""

from contextlib import suppress

from engine.allocation import return_freed_memory
from engine.content.tables import TableStore
from engine.errors import BrokenArchive
from engine.filetree import tree_table_codec
from engine.filetree.merged import merged_root
from engine.filetree.tree_table import TreeTable, table_of
from engine.layers.layer import Layers
from engine.progress import Progress, ignore
from engine.spec.oci import Manifest


def root_table(
    layers: Layers,
    tables: TableStore,
    digest: str,
    manifest: Manifest,
    on_progress: Progress = ignore,
) -> TreeTable:
    """Return the table of the merged root of the manifest with a digest.

    It is merged if the store has none, and stored unless a layer is missing in it. `on_progress` is
    called as by `merged_root`. Raise OSError.
    """
    with suppress(BrokenArchive, OSError):  # it is made again
        data = tables.get(digest)
        if data is not None and (found := tree_table_codec.load(data)) is not None:
            return found
    made = table_of(merged_root(layers, manifest, on_progress))
    if all(one.path for one in made.left_out):
        with suppress(OSError):  # it is valid even if it cannot be stored
            tables.put(digest, tree_table_codec.dump(made))
    return_freed_memory()  # that of the tree while it grew, several times the table's
    return made

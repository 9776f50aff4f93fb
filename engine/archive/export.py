"""Export of the merged root of an image, or of parts of it, as one tar archive.

No mount is needed. The layers are leased while they are read.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial

from engine.archive.leased_root import leased_root
from engine.archive.save import Output
from engine.filetree.entry_tree import EntryTree, LeftOut
from engine.filetree.root_paths import selection
from engine.filetree.root_tar import content_size, root_tar
from engine.layers.layer import Layers
from engine.progress import Counted
from engine.spec.oci import Manifest
from engine.stores.protocols import Store
from engine.threads import Ahead

_BLOCK = 1 << 20


def export(
    store: Store, manifest: Manifest, paths: Sequence[bytes], output: Output
) -> tuple[LeftOut, ...]:
    """Write the archive of an image's root; return the entries that break a rule and are left out.

    With `paths`, write only what is at and below them, as `root_paths.selection` finds it. Raise
    BrokenArchive if a layer cannot be read, DamagedLayer if one has changed (the archive is then
    incomplete), and as `selection`.
    """
    with leased_root(store, manifest, output.progress) as (layers, root):
        chosen = partial(selection, root, paths or (b"",))
        write_entries(layers, manifest, root, chosen, output)
        return root.left_out


def write_entries(
    layers: Layers,
    manifest: Manifest,
    root: EntryTree,
    chosen: Callable[[], Iterable[tuple[bytes, int]]],
    output: Output,
) -> None:
    """Write an archive of the entries of a root that `chosen` returns, the same at each call."""
    counted = Counted(content_size(root, chosen()), output.progress)
    pieces = root_tar(layers, manifest.layers, root, chosen(), counted.add)
    with closing(Ahead(_blocks(pieces), 1)) as blocks:
        for block in blocks:
            output.write(block)


def _blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in larger pieces."""
    waiting, size = [], 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= _BLOCK:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)

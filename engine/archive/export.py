"""Export of the merged root of an image, or of parts of it, as one tar archive.

No mount is needed. The layers are leased while they are read.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from functools import partial

from engine.archive.save import Output
from engine.filetree.entry_tree import LeftOut
from engine.filetree.merged import whole_root
from engine.filetree.root_paths import selection
from engine.filetree.root_tar import content_size, root_tar
from engine.layers.layer import Layers
from engine.progress import Done, Progress
from engine.spec.digest import Digest
from engine.spec.oci import Manifest
from engine.stores.protocols import Store
from engine.threads import begin

_BLOCK = 1 << 20


def export(
    store: Store, manifest: Manifest, paths: Sequence[bytes], output: Output
) -> tuple[LeftOut, ...]:
    """Write the archive of an image's root; return the entries that break a rule and are left out.

    With `paths`, write only what is at and below them, as `root_paths.selection` finds it. Raise
    BrokenArchive if a layer cannot be read, DamagedLayer if one has changed (the archive is then
    incomplete), and as `selection`.
    """
    with (
        store.leases.hold() as lease,
        closing(Layers(store.content, store.tables, store.directory)) as layers,
    ):
        with store.transaction():
            for layer in manifest.layers:
                store.leases.add(lease.id, Digest(layer.digest))
        root = whole_root(layers, manifest, output.progress)
        chosen = partial(selection, root, paths or (b"",))
        counted = _Counted(content_size(root, chosen()), output.progress)
        pieces = root_tar(layers, manifest.layers, root, chosen(), counted.add)
        with closing(_ahead(_blocks(pieces))) as blocks:
            for block in blocks:
                output.write(block)
        return root.left_out


class _Counted:
    """The content written so far, and its total, in bytes."""

    def __init__(self, total: int, on_progress: Progress) -> None:
        self._done = 0
        self._total = total
        self._on_progress = on_progress

    def add(self, size: int) -> None:
        self._done += size
        self._on_progress(Done(self._done, self._total))


def _blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in larger pieces."""
    waiting, size = [], 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= _BLOCK:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)


def _ahead(blocks: Iterator[bytes]) -> Generator[bytes, None, None]:
    """Yield blocks; the next one is made while the caller uses the last.

    When it is closed, no block is being made.
    """
    coming = begin(next, blocks, b"")
    try:
        while block := coming():
            coming = begin(next, blocks, b"")
            yield block
    finally:
        with suppress(Exception):  # what the caller needs to know was raised above
            coming()

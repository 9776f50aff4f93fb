"""Writing of the entries of a layout as a directory, and adding of them to one that is there.

`index.json` is written last: a reader sees the images that were there before or all of them, also
after an interruption at any moment.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from engine.archive.entry_content import opened
from engine.archive.layout_directory import LAYOUT, LayoutDirectory
from engine.content.protocols import Provider
from engine.layouts.entry import Entry
from engine.layouts.union import INDEX, union
from engine.progress import Done, Progress, ignore
from engine.tracing import Tracer, Untraced


class DirectoryOutput(msgspec.Struct, frozen=True):
    """The destination of a layout: a directory, which is made if only its last part is absent."""

    path: Path
    progress: Progress = ignore
    tracer: Tracer = Untraced()

    def write_layout(self, entries: Sequence[Entry], provider: Provider) -> int:
        """Write the entries, merged with those that are there; return the size of all in bytes.

        Wait while another process writes. Raise the errors of `LayoutDirectory` and
        `entry_content.opened`, and InvalidDocument for a document that is there; the images that
        were there are then untouched.
        """
        with LayoutDirectory(self.path) as directory:
            old = directory.documents()
            merged = union(old, entries)
            forgotten = {entry.path for entry in old} - {entry.path for entry in merged}
            directory.remove_temporaries()
            self._write_files(directory, merged, provider, forgotten)
            for entry in merged:
                if entry.is_directory:
                    directory.set_time(entry.path, entry.mtime)
            directory.set_time("", next(e.mtime for e in merged if e.path == INDEX))
            directory.sync()
        return sum(entry.size for entry in merged)

    def _write_files(
        self,
        directory: LayoutDirectory,
        entries: Sequence[Entry],
        provider: Provider,
        forgotten: Collection[str],
    ) -> None:
        files = sorted((entry for entry in entries if not entry.is_directory), key=_order)
        done = Done(0, sum(e.size for e in files), 0, sum(e.is_layer for e in files))

        def report(size: int) -> None:
            nonlocal done
            done = replace(done, size=done.size + size)
            self.progress(done)

        for entry in files:
            done = replace(done, layers=done.layers + entry.is_layer)
            if entry.path == INDEX:
                for path in forgotten:
                    directory.remove(path)
                directory.sync()
            if directory.has(entry):
                report(entry.size)
                continue
            with opened(entry, provider, self.tracer) as content:
                directory.put(entry, content, report)


def _order(entry: Entry) -> tuple[int, str]:
    """Sort `oci-layout` first, then the blobs, then other documents, and `index.json` last."""
    if "/" in entry.path:
        return 1, entry.path
    return {LAYOUT: 0, INDEX: 3}.get(entry.path, 2), entry.path

"""Writing of the entries of a layout as a directory, and adding of them to one that is there.

`index.json` is written last: a reader sees the images that were there before or all of them, also
after an interruption at any moment.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
from msgspec.structs import replace

from engine.archive.entry_content import Contents, Source
from engine.archive.layout_directory import LayoutDirectory
from engine.layouts.entry import Entry
from engine.layouts.union import INDEX, LAYOUT, union
from engine.progress import Done, Progress, ignore
from engine.tracing import Tracer, Untraced


class DirectoryOutput(msgspec.Struct, frozen=True):
    """The destination of a layout: a directory, which is made if only its last part is absent."""

    path: Path
    progress: Progress = ignore
    tracer: Tracer = Untraced()

    def write_layout(self, entries: Sequence[Entry], source: Source) -> int:
        """Write the entries, merged with those that are there; return the size of all in bytes.

        Wait while another process writes. Raise the errors of `LayoutDirectory` and
        `Contents.opened`, and InvalidDocument for a document that is there; the images that
        were there are then untouched.
        """
        with ExitStack() as stack:
            directory = stack.enter_context(LayoutDirectory(self.path))
            old = directory.documents()
            merged = union(old, entries)
            directory.remove_temporaries()
            files = {entry.path: entry for entry in merged if not entry.is_directory}
            everything = tuple(files.values())
            layout, index = files.pop(LAYOUT), files.pop(INDEX)
            missing = (entry for entry in files.values() if not directory.has(entry))
            contents = stack.enter_context(Contents(missing, source, self.tracer))
            put = _Writer(directory, contents, self.progress, everything).put
            put(layout)
            directory.sync()  # other files without this one are not taken for a layout
            for entry in files.values():
                put(entry)
            directory.sync()
            for forgotten in {entry.path for entry in old} - {entry.path for entry in merged}:
                directory.remove(forgotten)
            for entry in merged:
                if entry.is_directory:
                    directory.set_time(entry.path, entry.mtime)
            put(index)
            directory.sync()
            directory.set_time("", index.mtime)
        return sum(entry.size for entry in merged)


class _Writer:
    """Writes files one by one and reports the progress of them all."""

    def __init__(
        self,
        directory: LayoutDirectory,
        contents: Contents,
        on_progress: Progress,
        files: Sequence[Entry],
    ) -> None:
        self._directory = directory
        self._contents = contents
        self._on_progress = on_progress
        self._done = Done(0, sum(e.size for e in files), 0, sum(e.is_layer for e in files))

    def put(self, entry: Entry) -> None:
        self._done = replace(self._done, layers=self._done.layers + entry.is_layer)
        if self._directory.has(entry):
            self._report(entry.size)
            return
        with self._contents.opened(entry) as content:
            self._directory.put(entry, content, self._report)

    def _report(self, size: int) -> None:
        self._done = replace(self._done, size=self._done.size + size)
        self._on_progress(self._done)

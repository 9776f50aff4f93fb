"""Files named `NAME.failed.txt` in `import/`: why NAME was not loaded, and what to do about it.

They exist because a file manager shows only "Bad message" for a failed copy. Call this from the
event loop only.
"""

import re
from collections.abc import Iterable, Sequence

from engine.spec import digest
from imgfs.advice import after_copy
from imgfs.imports.file_names import cut_for
from imgfs.vfs.nodes import BytesFile, Node

SUFFIX = ".failed.txt"
_KEPT = 1000
_TEMPORARY = (
    re.compile(r"\.(?P<name>.+)\.[A-Za-z0-9]{6}"),  # rsync
    re.compile(r"\.tmp-(?P<name>.+?)[0-9]+"),  # docker save -o
    re.compile(r"(?P<name>.+)\.[A-Za-z0-9]{8}\.partial"),  # rclone
    re.compile(r"(?P<name>.+)\.(?:part|partial~?|crdownload)"),  # browsers, file managers
)


def destined(name: str) -> str:
    """Return the final name of a file whose temporary name has a known form, else `name` itself."""
    for form in _TEMPORARY:
        if match := form.fullmatch(name):
            return match["name"]
    return name


def is_reserved(name: str) -> bool:
    """Return whether no file can have this name, because it is that of a report."""
    return name.endswith(SUFFIX) or destined(name).endswith(SUFFIX)


class Failures:
    """The last failure of each file."""

    def __init__(self) -> None:
        self._files: dict[str, BytesFile] = {}
        """The reports by their file names."""

    def add(
        self, name: str, sentence: str, error: Exception, time_ns: int, kept: Sequence[str] = ()
    ) -> None:
        """Report that the file `name` was not loaded; `time_ns` is the time of the report, and
        `kept` are the images that were loaded from the file before.
        """
        name = destined(name)
        rest = f"What was loaded of it before is kept: {', '.join(kept)}."
        text = (
            f"{name} was not loaded: {sentence}\n\n"
            f"{after_copy(error)} {rest if kept else 'Nothing of it was kept.'}\n"
        )
        data = text.encode(errors="replace")
        key = f"failure:{name}\n{time_ns}\n{digest.of_bytes(data)}"
        self.end(name)
        self._files[_file_name(name)] = BytesFile(key, data, time_ns, timeout=0)
        while len(self._files) > _KEPT:
            del self._files[next(iter(self._files))]

    def end(self, name: str) -> None:
        """Remove the report about a file, which has now been loaded."""
        self._files.pop(_file_name(name), None)

    def lookup(self, file: str) -> Node | None:
        """Return the report with this file name, or None."""
        return self._files.get(file)

    def remove(self, file: str) -> None:
        """Remove the report with this file name."""
        self._files.pop(file, None)

    def children(self) -> Iterable[tuple[str, Node]]:
        """Return the file names and the reports, sorted by name."""
        return sorted(self._files.items())


def _file_name(name: str) -> str:
    """Return the name of the report about the file `name`."""
    return f"{cut_for(SUFFIX, destined(name))}{SUFFIX}"

"""The changes that an overlayfs upper directory holds.

A character device 0:0 is a removed entry; the attribute `overlay.opaque`, in the `trusted` or the
`user` namespace, marks an opaque directory. An upper directory that refers to lower ones by other
attributes (redirects, metadata copies) cannot be read without them and is refused.
"""

from collections.abc import Iterator

from engine.commit.change import Change
from engine.errors import InvalidText
from engine.filetree.entry import FileEntry
from engine.filetree.tree import Tree

_PREFIXES = ("trusted.overlay.", "user.overlay.")
_REFERRING = ("redirect", "metacopy")


class ForeignUpper(InvalidText):
    """An upper directory that only its own overlay mount can read."""

    noun = ""

    def __init__(self, path: str, attribute: str) -> None:
        reason = (
            f"has the attribute {attribute}, so that this upper directory cannot be read alone:"
            " commit the merged directory with --base instead"
        )
        super().__init__(path, reason)


def changes(upper: Tree) -> Iterator[Change]:
    """Yield the changes in an upper directory, in the order of the tree; raise ForeignUpper."""
    linked = upper.links()
    sources: dict[int, str] = {}
    for path, entry in upper.items():
        _check(path, entry)
        if not path:
            continue
        if _is_whiteout(entry):
            yield Change(path, None)
        elif entry.kind == "dir":
            yield Change(path, entry, opaque=_says(entry, "opaque") == b"y")
        else:
            source = sources.setdefault(entry.inode, path) if entry.inode in linked else path
            yield Change(path, entry, source if source != path else "")


def _is_whiteout(entry: FileEntry) -> bool:
    if entry.kind == "character device":
        return entry.device == (0, 0)
    return entry.kind == "file" and not entry.size and _says(entry, "whiteout") is not None


def _check(path: str, entry: FileEntry) -> None:
    for name in _REFERRING:
        if _says(entry, name) is not None:
            raise ForeignUpper(path or ".", f"overlay.{name}")


def _says(entry: FileEntry, name: str) -> bytes | None:
    found = (entry.xattrs.get(f"{prefix}{name}") for prefix in _PREFIXES)
    return next((value for value in found if value is not None), None)

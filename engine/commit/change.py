"""A change that a layer makes to one path."""

import msgspec

from engine.filetree.entry import FileEntry


class Change(msgspec.Struct, frozen=True, gc=False):
    """`entry` is the file at `path` from this layer on, or None if the layer removes it.

    If `link` is set, the path is a hard link to it, and an earlier change of this layer has that
    path. `opaque` hides the content that lower layers have in a directory.
    """

    path: str
    entry: FileEntry | None
    link: str = ""
    opaque: bool = False

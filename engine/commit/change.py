"""What a layer says of one path."""

import msgspec

from engine.filetree.entry import FileEntry


class Change(msgspec.Struct, frozen=True):
    """`entry` is what stands at `path` from this layer on, None if nothing does.

    With `link` it is a hard link of that path, which this layer has told before. `opaque` hides
    what lower layers have in a directory.
    """

    path: str
    entry: FileEntry | None
    link: str = ""
    opaque: bool = False

"""The tar archive of a layer, with changes in the form of the OCI image-spec.

It follows containerd's writer: no time but the last modification, owners as numbers without names,
directories with a trailing slash, no sparse files, removed entries as `.wh.NAME`. An opaque
directory has a `.wh..wh..opq` with the owner and permissions of the directory, as moby's writer
creates it. Unlike in containerd, `user.*` attributes are written as well as `security.capability`,
and times have nanoseconds.
"""

from collections.abc import Iterable

from engine.commit.block_buffer import BlockBuffer
from engine.commit.change import Change
from engine.commit.differ import kept_xattrs
from engine.errors import ChangedFile, InvalidText
from engine.filetree.directory import reading
from engine.filetree.entry import FileEntry, HostFile
from engine.filetree.tree_builder import OPAQUE, WHITEOUT
from engine.tar import header_encoder as encode
from engine.tar.header_encoder import Header
from engine.tar.pax import xattr_record
from engine.units import NS_PER_SECOND

_WHITEOUT = WHITEOUT.decode()
_BLOCK = 512


class ReservedName(InvalidText):
    """A name that a layer cannot hold, since it denotes the removal of another one."""

    noun = ""

    def __init__(self, path: str) -> None:
        super().__init__(path, f"no layer can hold a name that begins with {_WHITEOUT}")


def size(changes: Iterable[Change]) -> int:
    """Return the size in bytes of the archive that `write` makes, extended headers estimated."""
    return sum(map(_member_size, changes)) + len(encode.END)


def _member_size(change: Change) -> int:
    entry = change.entry
    if entry is None:
        return _BLOCK
    extended = 2 * _BLOCK if entry.mtime_ns % NS_PER_SECOND or entry.xattrs else 0
    content = 0 if change.link or entry.kind != "file" else entry.size
    return _BLOCK * (1 + change.opaque) + extended + -(-content // _BLOCK) * _BLOCK


def write(changes: Iterable[Change], out: BlockBuffer) -> None:
    """Write the tar archive of the changes; raise ReservedName, ChangedFile or OSError."""
    for change in changes:
        above, slash, name = change.path.rpartition("/")
        if name.startswith(_WHITEOUT):
            raise ReservedName(change.path)
        if change.entry is None:
            out.add(encode.encode(Header(f"{above}{slash}{_WHITEOUT}{name}")))
            continue
        out.add(encode.encode(_header(change, change.entry)))
        if change.opaque:
            out.add(encode.encode(_opaque(change.path, change.entry)))
        elif not change.link and change.entry.size:
            _add_content(change.entry, out)
            out.add(encode.padding(change.entry.size))
    out.add(encode.END)


def _header(change: Change, entry: FileEntry) -> Header:
    mtime = entry.mtime_ns
    is_link = bool(change.link)
    kept = {} if is_link or not entry.xattrs else kept_xattrs(entry)
    records = dict(xattr_record(name, value) for name, value in kept.items())
    if mtime % NS_PER_SECOND:
        records["mtime"] = encode.time(mtime)
    return Header(
        path=f"{change.path}/" if entry.kind == "dir" else change.path,
        flag=encode.HARDLINK if is_link else encode.TYPE_FLAGS[entry.kind],
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        size=0 if is_link else entry.size,
        mtime=mtime // NS_PER_SECOND,
        linkname=change.link or entry.linkname,
        device=entry.device,
        records=records,
    )


def _opaque(path: str, entry: FileEntry) -> Header:
    return Header(
        f"{path}/{OPAQUE.decode()}", mode=entry.mode & 0o777, uid=entry.uid, gid=entry.gid
    )


def _add_content(entry: FileEntry, out: BlockBuffer) -> None:
    assert isinstance(entry.content, HostFile)
    with reading(entry) as descriptor:
        if out.read(descriptor, entry.size):
            raise ChangedFile(entry.content.path)

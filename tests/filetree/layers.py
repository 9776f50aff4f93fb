"""Layers for tests, made by Python's own tarfile, and a short way to say what a tree holds."""

import io
import tarfile
from collections.abc import Iterable, Mapping, Sequence

from engine.filetree.applier import Applier
from engine.filetree.entry import FileEntry, LayerSpan
from engine.filetree.layer_files import read_file, read_layer
from engine.filetree.tree import Tree
from engine.limits import Limits

Member = tuple[tarfile.TarInfo, bytes]
Shown = dict[str, str]

LIMITS = Limits()


def member(
    name: str,
    kind: bytes = tarfile.REGTYPE,
    content: bytes = b"",
    link: str = "",
    records: Mapping[str, str] | None = None,
    **fields: int,
) -> Member:
    """`fields` are those of TarInfo, `records` go into a PAX header."""
    return _member(name, kind, content, link, records or {}, fields)


def with_xattrs(name: str, kind: bytes, xattrs: Mapping[str, str], **fields: int) -> Member:
    records = {f"SCHILY.xattr.{key}": value for key, value in xattrs.items()}
    return _member(name, kind, b"", "", records, fields)


def file(name: str, content: str = "", **fields: int) -> Member:
    return _member(name, tarfile.REGTYPE, content.encode(), "", {}, fields)


def directory(name: str, mode: int = 0o755, **fields: int) -> Member:
    return _member(name, tarfile.DIRTYPE, b"", "", {}, {"mode": mode, **fields})


def symlink(name: str, target: str, **fields: int) -> Member:
    return _member(name, tarfile.SYMTYPE, b"", target, {}, fields)


def hardlink(name: str, target: str, **fields: int) -> Member:
    return _member(name, tarfile.LNKTYPE, b"", target, {}, fields)


def _member(
    name: str,
    kind: bytes,
    content: bytes,
    link: str,
    records: Mapping[str, str],
    fields: Mapping[str, int],
) -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.pax_headers = kind, link, len(content), dict(records)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def fifo(name: str) -> Member:
    return member(name, tarfile.FIFOTYPE)


def layer(*members: Member, format_: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format_, errors="surrogateescape") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def applied(layers: Sequence[bytes]) -> Tree:
    applier = Applier()
    for number, data in enumerate(layers):
        applier.apply(read_layer([data], number, LIMITS))
    return applier.tree()


def content(entry: FileEntry, layers: Sequence[bytes]) -> bytes:
    assert isinstance(entry.content, LayerSpan)
    return b"".join(read_file([layers[entry.content.layer][entry.content.offset :]], LIMITS))


def shown(tree: Tree, layers: Sequence[bytes]) -> Shown:
    """Paths, with a slash behind directories, and "=content", "→target" or the kind."""
    found = {}
    for path, entry in tree.items():
        if entry.kind == "dir":
            found[f"{path}/"] = ""
        elif entry.kind == "file":
            found[path] = f"={content(entry, layers).decode()}"
        else:
            found[path] = f"→{entry.linkname}" if entry.kind == "symlink" else entry.kind
    del found["/"]
    return found


def merged(*layers: Iterable[Member]) -> Shown:
    """Return the tree that layers are merged to."""
    made = [layer(*members) for members in layers]
    return shown(applied(made), made)

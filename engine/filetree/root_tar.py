"""A merged root as a tar archive, which is the same bytes each time.

The entries are in the order of the tree and as the layers have them: owners as numbers without
names, the last modification to the nanosecond, extended attributes, hard links to the first path
of the file, and sparse files as sparse members. The root itself is written, as "./", if a layer
lists it. Headers are ustar, or PAX for values that ustar cannot hold.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import cache, partial

from engine.filetree.entry_tree import EntryTree, Place
from engine.layers.layer import Layer, Layers
from engine.layers.table import Entry
from engine.spec.oci import Descriptor
from engine.tar import header_encoder as encode
from engine.tar.header_encoder import Header
from engine.tar.pax import xattr_record
from engine.tar.sparse_encoder import Segment, aligned, encode_sparse
from engine.units import NS_PER_SECOND

_PIECE = 1 << 20


def root_tar(
    layers: Layers,
    descriptors: Sequence[Descriptor],
    tree: EntryTree,
    entries: Iterable[tuple[bytes, int]],
    on_content: Callable[[int], object],
) -> Iterator[bytes]:
    """Yield the archive of some entries of a root, whose layers are `descriptors`, in pieces.

    `on_content` is called with the size of each piece of a file's content. Raise NotFound if a
    layer is absent, DamagedLayer if one has changed where it is read.
    """
    with ExitStack() as opened:
        writer = _RootTar(tree, on_content, partial(_opened, layers, descriptors, opened))
        for path, node in entries:
            yield from writer.member(path, node)
    yield encode.END


def content_size(tree: EntryTree, entries: Iterable[tuple[bytes, int]]) -> int:
    """Return the bytes of content that the archive of these entries will hold."""
    total = 0
    linked: set[Place] = set()
    for _, node in entries:
        place = tree.place(node)
        if place is None or tree.attributes(node).kind != "file" or place in linked:
            continue
        if tree.links(node) > 1:
            linked.add(place)
        total += sum(length for _, length in _stored(tree.entry(node)))
    return total


class _RootTar:
    def __init__(
        self,
        tree: EntryTree,
        on_content: Callable[[int], object],
        layer: Callable[[int], Layer],
    ) -> None:
        """`layer` returns an open layer by its number."""
        self._tree = tree
        self._on_content = on_content
        self._layer = cache(layer)
        self._written: dict[Place, str] = {}
        """The first path of each hard link."""

    def member(self, path: bytes, node: int) -> Iterator[bytes]:
        """Yield the header and the content of one entry."""
        place = self._tree.place(node)
        name = path.decode("utf-8", "surrogateescape")
        if not path and place is None:
            return
        entry = self._tree.entry(node)
        kind = entry.attributes.kind
        if place is not None and kind != "dir" and self._tree.links(node) > 1:
            first = self._written.setdefault(place, name)
            if first != name:
                yield encode.encode(_link(name, first, entry))
                return
        header = _header(name, entry)
        if place is None or kind != "file" or not entry.size:
            yield encode.encode(header)
            return
        segments = _stored(entry)
        if segments == ((0, entry.size),):
            yield encode.encode(header)
        else:
            yield encode_sparse(header, segments)
        for segment in segments:
            yield from self._content(place.layer, entry, *segment)
        yield encode.padding(sum(length for _, length in segments))

    def _content(self, layer: int, entry: Entry, start: int, length: int) -> Iterator[bytes]:
        end = start + length
        for offset in range(start, end, _PIECE):
            data = self._layer(layer).pread(entry, min(_PIECE, end - offset), offset)
            self._on_content(len(data))
            yield data


def _opened(
    layers: Layers, descriptors: Sequence[Descriptor], opened: ExitStack, number: int
) -> Layer:
    """Open a layer, which is closed with `opened`."""
    return opened.enter_context(layers.open(descriptors[number].digest))


def _stored(entry: Entry) -> tuple[Segment, ...]:
    """Return what the archive holds of a file's content."""
    if not entry.segments:
        return ((0, entry.size),)
    return aligned(((one.offset, one.length) for one in entry.segments), entry.size)


def _header(path: str, entry: Entry) -> Header:
    shared = entry.attributes
    is_file = shared.kind == "file"
    return Header(
        path=f"{path or '.'}/" if shared.kind == "dir" else path,
        flag=encode.TYPE_FLAGS[shared.kind],
        mode=shared.mode,
        uid=shared.uid,
        gid=shared.gid,
        size=entry.size if is_file else 0,
        mtime=entry.mtime_ns // NS_PER_SECOND,
        linkname=(link := entry.link.decode("utf-8", "surrogateescape")),
        device=shared.device,
        records={
            **dict(xattr_record(*one) for one in shared.xattrs.items()),
            **_charset(path, link),
            **_time(entry.mtime_ns),
        },
    )


def _link(path: str, target: str, entry: Entry) -> Header:
    shared = entry.attributes
    return Header(
        path=path,
        flag=encode.HARDLINK,
        mode=shared.mode,
        uid=shared.uid,
        gid=shared.gid,
        mtime=entry.mtime_ns // NS_PER_SECOND,
        linkname=target,
        records=_charset(path, target) | _time(entry.mtime_ns),
    )


def _charset(path: str, link: str) -> dict[str, bytes]:
    """Return the record of a member whose names are not UTF-8, which libarchive asks for."""
    names = path + link
    if names.isascii() or not any("\udc80" <= char <= "\udcff" for char in names):
        return {}
    return {"hdrcharset": b"BINARY"}


def _time(mtime_ns: int) -> dict[str, bytes]:
    return {"mtime": encode.time(mtime_ns)} if mtime_ns % NS_PER_SECOND else {}

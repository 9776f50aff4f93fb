"""The files of one layer, read as its uncompressed bytes arrive."""

import hashlib
from collections.abc import Iterable, Iterator

import msgspec

from engine.filetree.entry import LayerSpan
from engine.limits import Limits
from engine.tar.member import Member
from engine.tar.reader import MemberData, MemberEnd, MemberStart, TarReader


class LayerFile(msgspec.Struct, frozen=True, gc=False):
    """A member of a layer; `content` locates the bytes of a regular file."""

    member: Member
    content: LayerSpan | None


def read_layer(
    chunks: Iterable[bytes | memoryview], layer: int, limits: Limits
) -> Iterator[LayerFile]:
    """Yield the members of layer number `layer` in order; raise BrokenArchive or LimitExceeded.

    `chunks` is not read beyond the end of the tar.
    """
    reader = TarReader(limits)
    hasher = hashlib.sha256()
    for chunk in chunks:
        for event in reader.feed(memoryview(chunk)):
            match event:
                case MemberData(data):
                    hasher.update(data)
                case MemberStart(member):
                    offset, hasher = reader.offset, hashlib.sha256()
                case MemberEnd():
                    is_file = member.kind == "file"
                    span = LayerSpan(layer, offset, hasher.digest()) if is_file else None
                    yield LayerFile(member, span)
        if reader.ended:
            break
    reader.finish()


def read_file(chunks: Iterable[bytes | memoryview], limits: Limits) -> Iterator[bytes]:
    """Yield the content of the first member; `chunks` starts at its first header.

    Raise the errors of `read_layer`.
    """
    reader = TarReader(limits)
    for chunk in chunks:
        for event in reader.feed(memoryview(chunk)):
            match event:
                case MemberData(data):
                    yield bytes(data)
                case MemberEnd():
                    return
    reader.finish()

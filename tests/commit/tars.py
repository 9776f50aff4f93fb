"""The tar of a layer as bytes."""

from collections.abc import Iterable

from engine.commit import layer
from engine.commit.blocks import Blocks
from engine.commit.changes import Change


def tar_of(changes: Iterable[Change]) -> bytes:
    found: list[bytes] = []
    blocks = Blocks(lambda block: found.append(bytes(block)), 1)
    layer.write(changes, blocks)
    blocks.finish()
    return b"".join(found)

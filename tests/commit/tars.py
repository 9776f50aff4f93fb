"""The tar of a layer as bytes."""

from collections.abc import Iterable

from engine.commit import layer_tar as layer
from engine.commit.block_buffer import BlockBuffer
from engine.commit.change import Change


def tar_of(changes: Iterable[Change]) -> bytes:
    found: list[bytes] = []
    blocks = BlockBuffer(lambda block: found.append(bytes(block)), 1)
    layer.write(changes, blocks)
    blocks.finish()
    return b"".join(found)

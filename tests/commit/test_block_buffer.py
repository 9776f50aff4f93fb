"""Bytes gathered into blocks."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.commit.block_buffer import BlockBuffer
from engine.compression.compressor import BLOCK

SIZES = [
    (),
    (0,),
    (5,),
    (BLOCK,),
    (BLOCK - 1, 1),
    (BLOCK - 1, 2),
    (7, BLOCK, 7),
    (3 * BLOCK + 1, BLOCK - 1),
]


def gathered(parts: Sequence[bytes], read: Path | None = None) -> list[bytes]:
    """The blocks of these parts, added or read of a file."""
    found: list[bytes] = []
    blocks = BlockBuffer(lambda block: found.append(bytes(block)), 0)
    if read is None:
        for part in parts:
            blocks.add(part)
    else:
        read.write_bytes(b"".join(parts))
        with read.open("rb") as file:
            assert not any(blocks.read(file.fileno(), len(part)) for part in parts)
    blocks.finish()
    return found


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("is_read", [False, True])
def test_all_of_it_comes_in_blocks_of_one_size(
    sizes: Sequence[int], is_read: bool, tmp_path: Path
) -> None:
    parts = [os.urandom(size) for size in sizes]
    found = gathered(parts, tmp_path / "file" if is_read else None)
    whole = b"".join(parts)
    assert found == [whole[at : at + BLOCK] for at in range(0, len(whole), BLOCK)]


def test_a_file_that_ends_early(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"abc")
    found: list[bytes] = []
    blocks = BlockBuffer(lambda block: found.append(bytes(block)), 0)
    with file.open("rb") as opened:
        assert blocks.read(opened.fileno(), 5) == 2
    blocks.finish()
    assert found == [b"abc"]


def test_a_block_holds_still_until_as_many_more_have_come() -> None:
    held = 3
    seen: list[memoryview] = []
    blocks = BlockBuffer(seen.append, held)
    for number in range(10):
        blocks.add(bytes([number]) * BLOCK)
        for back, block in enumerate(reversed(seen[-held - 1 :])):
            assert block[0] == block[-1] == number - back
    assert len({id(block.obj) for block in seen}) == held + 1

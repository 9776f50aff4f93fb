"""The checksum of a file, whose zeros need not be there."""

import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.compression.checksum import FileChecksum, library


def of_parts(*parts: bytes | int) -> int:
    """The checksum of bytes, and of zeros that are given as their number."""
    checksum = FileChecksum(library(0))
    for part in parts:
        if isinstance(part, int):
            checksum.update_zeros(part)
        else:
            checksum.update(part)
    return checksum.value


def of_bytes(data: bytes) -> int:
    return zlib.crc32(data) << 32 | zlib.adler32(data)


@given(st.lists(st.binary(max_size=100) | st.integers(0, 70_000), max_size=6))
@example([65521, b"\xff" * 99, 65520, b"x", 0])
def test_a_number_of_zeros_counts_as_the_zeros_do(parts: list[bytes | int]) -> None:
    expanded = b"".join(bytes(part) for part in parts)
    assert of_parts(*parts) == of_bytes(expanded)


@given(st.binary(max_size=100), st.integers(0, 1 << 60), st.integers(0, 1 << 60))
def test_zeros_count_the_same_in_parts(before: bytes, first: int, second: int) -> None:
    assert of_parts(before, first, second) == of_parts(before, first + second)


@pytest.mark.parametrize("exponent", range(10, 63))
def test_twice_the_zeros_are_the_zeros_twice(exponent: int) -> None:
    """By induction from what was compared with real zeros."""
    half = 1 << exponent - 1
    assert of_parts(b"a", half, half) == of_parts(b"a", 1 << exponent)

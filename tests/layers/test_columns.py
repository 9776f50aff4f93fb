"""Stored columns of numbers."""

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.layers.columns import joined, split

_RANGES = {"I": (0, 2**32 - 1), "q": (-(2**63), 2**63 - 1), "Q": (0, 2**64 - 1)}


@pytest.mark.parametrize("code", _RANGES)
@given(st.data(), st.integers(1, 64))
def test_a_column_is_joined_as_it_was_split(code: str, draw: st.DataObject, bits: int) -> None:
    least, most = _RANGES[code]
    numbers = st.integers(max(least, -(2**bits)), min(most, 2**bits))
    column = array(code, draw.draw(st.lists(numbers)))
    assert joined(code, split(column)) == column


def test_upper_bytes_that_are_zeros_are_left_out() -> None:
    assert split(array("q", [1, 258, 3])) == b"\x02\x01\x02\x03\x00\x01\x00"
    assert split(array("q", [0, 0])) == b"\x01\x00\x00"
    assert split(array("I")) == b"\x01"

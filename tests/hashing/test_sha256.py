"""The hash is that of hashlib, however the bytes are cut, and with whichever other stream."""

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.hashing import sha256
from engine.hashing.sha256 import Hash, new, update_both

_BYTES = random.Random(7).randbytes(1 << 20)
_SIZES = st.one_of(st.integers(0, 300), st.sampled_from([2047, 2048, 4096, 65_536, 100_001]))
_STARTS = st.integers(0, 500_000)


def _slice(start: int, size: int) -> memoryview:
    return memoryview(_BYTES)[start : start + size]


@given(st.lists(st.tuples(_STARTS, _SIZES, _SIZES, st.booleans()), max_size=8))
def test_two_streams_have_the_hashes_of_hashlib(steps: list[tuple[int, int, int, bool]]) -> None:
    """In each step both get bytes, together or one after the other."""
    found, expected = (new(), new()), (hashlib.sha256(), hashlib.sha256())
    for start, size, other_size, are_together in steps:
        data, other_data = _slice(start, size), _slice(start + 1, other_size)
        if are_together:
            update_both(found[0], data, found[1], other_data)
        else:
            found[0].update(data)
            found[1].update(other_data)
        expected[0].update(data)
        expected[1].update(other_data)
        assert [one.hexdigest() for one in found] == [one.hexdigest() for one in expected]


@pytest.mark.parametrize("size", range(130))
def test_every_length_of_the_last_block_is_padded(size: int) -> None:
    one = new()
    one.update(_slice(3, size))
    assert one.hexdigest() == hashlib.sha256(_slice(3, size)).hexdigest()


def test_a_stream_of_more_bits_than_32_bits_count_has_its_hash() -> None:
    one, other, expected = new(), new(), hashlib.sha256()
    for _ in range(513):
        update_both(one, memoryview(_BYTES), other, memoryview(_BYTES))
        expected.update(_BYTES)
    assert one.hexdigest() == other.hexdigest() == expected.hexdigest()


def test_hashes_of_other_algorithms_are_updated_as_well() -> None:
    one: Hash = hashlib.sha512()
    other = new()
    update_both(one, memoryview(b"one"), other, memoryview(b"other"))
    assert one.hexdigest() == hashlib.sha512(b"one").hexdigest()
    assert other.hexdigest() == hashlib.sha256(b"other").hexdigest()


def test_hashlib_does_it_without_the_native_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sha256, "multi_buffer", None)
    one, other = new(), new()
    update_both(one, memoryview(b"one"), other, memoryview(b"other"))
    assert type(one) is type(hashlib.sha256())
    assert one.hexdigest() == hashlib.sha256(b"one").hexdigest()
    assert other.hexdigest() == hashlib.sha256(b"other").hexdigest()


@pytest.mark.skipif(sha256.AT_ONCE == 1, reason="the processor has no SHA extensions")
def test_one_hash_cannot_be_both() -> None:
    one = new()
    with pytest.raises(ValueError, match="expected two hashes, found one"):
        update_both(one, memoryview(b"x"), one, memoryview(b"y"))
    assert one.hexdigest() == hashlib.sha256().hexdigest()


def test_a_hash_begins_without_bytes() -> None:
    with pytest.raises(TypeError):
        type(new())(b"x", y=1)  # type: ignore[call-arg]


@pytest.mark.parametrize("data", ["text", 5, None])
def test_what_is_not_bytes_is_refused(data: object) -> None:
    one = new()
    with pytest.raises(TypeError):
        one.update(data)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        update_both(one, memoryview(b""), new(), data)  # type: ignore[arg-type]
    assert one.hexdigest() == hashlib.sha256().hexdigest()

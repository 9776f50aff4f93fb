"""Tests of the native library's answer to FUSE_INIT."""

import struct
from ctypes import create_string_buffer

import pytest

from imgfs.fuse.native.library import load

_OFFER = struct.Struct("=IIIII")
_ANSWER = struct.Struct("=IIIIHHIIHHII")
_ASYNC_READ, _AUTO_INVAL_DATA = 1, 1 << 12
_READDIRPLUS, _READDIRPLUS_AUTO = 1 << 13, 1 << 14


def accepted(flags: int, offered: int, max_write: int = 4096) -> tuple[int, ...]:
    """Return the fields of an answer that the native library has changed."""
    library = load()
    if isinstance(library, str):
        pytest.skip(library)
    offer = _OFFER.pack(7, 41, 0, offered, 0)
    answer = create_string_buffer(_ANSWER.pack(7, 41, 0, flags, 1, 2, max_write, 4, 5, 6, 7, 8))
    library.session_accept(offer, answer)  # type: ignore[attr-defined] # it is not for Python
    return _ANSWER.unpack(answer.raw[: _ANSWER.size])


def test_the_kernel_asks_for_no_attributes_before_it_reads_its_cache() -> None:
    both = _ASYNC_READ | _AUTO_INVAL_DATA | _READDIRPLUS
    answer = accepted(both, both | _READDIRPLUS_AUTO)
    left = _ASYNC_READ | _READDIRPLUS | _READDIRPLUS_AUTO
    assert answer == (7, 41, 0, left, 1, 2, 4096, 4, 5, 6, 7, 8)


def test_a_write_fits_into_a_buffer() -> None:
    assert accepted(0, 0, max_write=16 << 20)[6] == 1 << 20

"""What the part in C accepts of the kernel's offer in FUSE_INIT."""

import struct
from ctypes import create_string_buffer

import pytest

from imgfs.session import load

_OFFER = struct.Struct("=IIIII")
_ANSWER = struct.Struct("=IIIIHHIIHHII")
_ASYNC_READ, _AUTO_INVAL_DATA = 1, 1 << 12
_READDIRPLUS, _READDIRPLUS_AUTO = 1 << 13, 1 << 14
_FLAGS = 3


def test_the_kernel_asks_for_no_attributes_before_it_reads_its_cache() -> None:
    part = load()
    if isinstance(part, str):
        pytest.skip(part)
    both = _ASYNC_READ | _AUTO_INVAL_DATA | _READDIRPLUS
    offer = _OFFER.pack(7, 41, 0, both | _READDIRPLUS_AUTO, 0)
    answer = create_string_buffer(_ANSWER.pack(7, 41, 0, both, 1, 2, 3, 4, 5, 6, 7, 8))
    part.session_accept(offer, answer)  # type: ignore[attr-defined] # it is not for Python
    told = _ANSWER.unpack(answer.raw[: _ANSWER.size])
    assert told[_FLAGS] == _ASYNC_READ | _READDIRPLUS | _READDIRPLUS_AUTO
    assert told[4:] == (1, 2, 3, 4, 5, 6, 7, 8)

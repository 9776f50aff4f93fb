"""Tests of READDIR requests and their entries in the native library."""

import ctypes
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgfs.fuse.native.library import PLAIN, NativeLibrary, load, number_of

READDIR, READDIRPLUS, LOOKUP = 28, 44, 1
_IN = struct.Struct("=IIQQIIII")
_READ = struct.Struct("=QQIIQII")
_ENTRY = struct.Struct("=QQII")
_ATTRIBUTES = 128
_PARAM = 1024
"""An upper limit for the size of `struct fuse_entry_param`, in which st_ino is at offset 24."""


@pytest.fixture(scope="module")
def native() -> NativeLibrary:
    library = load()
    if isinstance(library, str):
        pytest.skip(library)
    return library


def asked(native: NativeLibrary, opcode: int) -> tuple[int, int]:
    """Return the opcode and handle into which the library changes a request to list handle 7."""
    request = _IN.pack(80, opcode, 9, 1, 0, 0, 1, 0) + _READ.pack(7, 5, 4096, 0, 0, 0, 0)
    buffer = ctypes.create_string_buffer(request, len(request))
    native.listing_request(buffer, ctypes.c_size_t(len(request)))  # type: ignore[attr-defined]  # a function of the native library
    return _IN.unpack_from(buffer)[1], _READ.unpack_from(buffer, _IN.size)[0]


def answered(native: NativeLibrary, handle: int, names: list[bytes], size: int) -> bytes:
    """Return an answer that pyfuse3 has filled with the names that fit, which the handler of a
    listing with this handle has given it.
    """
    native.imgfs_listing_begin(handle)
    add = native.fuse_add_direntry_plus  # type: ignore[attr-defined]  # a function of the native library
    add.restype = ctypes.c_size_t
    answer = ctypes.create_string_buffer(size)
    filled = 0
    for number, name in enumerate(names):
        entry = ctypes.create_string_buffer(_PARAM)
        struct.pack_into("=Q", entry, 24, number)
        room = ctypes.c_size_t(size - filled)
        place = ctypes.byref(answer, filled)
        added = add(None, place, room, name, entry, ctypes.c_long(number + 1))
        if added > size - filled:
            break
        filled += added
    return answer.raw[:filled]


def entry(number: int, name: bytes) -> bytes:
    data = _ENTRY.pack(number, number + 1, len(name), 0) + name
    return data.ljust(-(-len(data) // 8) * 8, b"\0")


NAME = st.binary(min_size=1, max_size=255).filter(lambda name: b"\0" not in name)


@given(names=st.lists(NAME, max_size=40), size=st.integers(300, 8000))
def test_a_listing_is_changed_to_names_only(
    native: NativeLibrary, names: list[bytes], size: int
) -> None:
    opcode, handle = asked(native, READDIR)
    assert (opcode, number_of(handle), handle & PLAIN) == (READDIRPLUS, 7, PLAIN)
    plain = [entry(*item) for item in enumerate(names)]
    fitting = [n for n in range(len(plain) + 1) if sum(map(len, plain[:n])) <= size]
    asked(native, READDIRPLUS)  # a request that comes before the answer
    assert answered(native, handle, names, size) == b"".join(plain[: max(fitting)])


@pytest.mark.parametrize("opcode", [READDIRPLUS, LOOKUP])
def test_other_requests_are_left_alone(native: NativeLibrary, opcode: int) -> None:
    asked(native, READDIR)
    assert asked(native, opcode) == (opcode, 7)
    asked(native, READDIR)  # a request that comes before the answer
    answer = answered(native, 7, [b"x"], 4096)
    assert len(answer) == _ATTRIBUTES + len(entry(0, b"x"))
    assert answer[_ATTRIBUTES:] == entry(0, b"x")

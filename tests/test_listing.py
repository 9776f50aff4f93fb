"""What the part in C makes of a request for names, and of the answer with attributes."""

import ctypes
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgfs.session import PLAIN, Session, load, number_of

READDIR, READDIRPLUS = 28, 44
_IN = struct.Struct("=IIQQIIII")
_READ = struct.Struct("=QQIIQII")
_OUT = struct.Struct("=IiQ")
_ENTRY = struct.Struct("=QQII")
_ATTRIBUTES = 128


class _Piece(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


@pytest.fixture(scope="module")
def session() -> Session:
    part = load()
    if isinstance(part, str):
        pytest.skip(part)
    return part


def asked(session: Session, opcode: int, size: int, unique: int = 9) -> tuple[int, int, int]:
    """Opcode, handle and size of a request to list handle 7, once it has passed."""
    request = _IN.pack(80, opcode, unique, 1, 0, 0, 1, 0) + _READ.pack(7, 5, size, 0, 0, 0, 0)
    buffer = ctypes.create_string_buffer(request, len(request))
    session.listing_request(buffer, ctypes.c_size_t(len(request)))  # type: ignore[attr-defined]
    read = _READ.unpack_from(buffer, _IN.size)
    return _IN.unpack_from(buffer)[1], read[0], read[2]


def told(session: Session, data: bytes, unique: int = 9, error: int = 0) -> bytes:
    """What of an answer reaches the kernel."""
    head = ctypes.create_string_buffer(_OUT.pack(_OUT.size + len(data), error, unique), _OUT.size)
    body = ctypes.create_string_buffer(data, len(data))
    parts = (_Piece * 2)(
        _Piece(ctypes.cast(head, ctypes.c_void_p), _OUT.size),
        _Piece(ctypes.cast(body, ctypes.c_void_p), len(data)),
    )
    session.listing_answer(parts, 2)  # type: ignore[attr-defined]
    size = parts[1].size
    assert _OUT.unpack(head) == (_OUT.size + size, error, unique)
    return body.raw[:size]


def entry(number: int, name: bytes) -> bytes:
    data = _ENTRY.pack(number, number + 1, len(name), 4) + name
    return data.ljust(-(-len(data) // 8) * 8, b"\0")


def with_attributes(number: int, name: bytes) -> bytes:
    return b"a" * _ATTRIBUTES + entry(number, name)


NAMES = st.lists(st.binary(min_size=1, max_size=255), max_size=40)


@given(names=NAMES, size=st.integers(300, 8000))
def test_the_names_are_left(session: Session, names: list[bytes], size: int) -> None:
    opcode, handle, more = asked(session, READDIR, size)
    assert (opcode, number_of(handle), handle & PLAIN) == (READDIRPLUS, 7, PLAIN)
    assert more > size
    left = told(session, b"".join(with_attributes(*item) for item in enumerate(names)))
    plain = [entry(*item) for item in enumerate(names)]
    fitting = [n for n in range(len(plain) + 1) if sum(map(len, plain[:n])) <= size]
    assert left == b"".join(plain[: max(fitting)])


def test_other_requests_are_left_alone(session: Session) -> None:
    assert asked(session, READDIRPLUS, 4096) == (READDIRPLUS, 7, 4096)
    data = with_attributes(1, b"x")
    assert told(session, data) == data


def test_it_is_that_answer_alone(session: Session) -> None:
    asked(session, READDIR, 4096, unique=10)
    data = with_attributes(1, b"x")
    assert told(session, data, unique=11) == data
    assert told(session, data, unique=10) == entry(1, b"x")
    assert told(session, data, unique=10) == data


def test_an_error_stays_one(session: Session) -> None:
    asked(session, READDIR, 4096)
    assert told(session, b"", error=-5) == b""

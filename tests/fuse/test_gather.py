"""Tests of gathered writes, with a socket in the place of the kernel."""

import ctypes
import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgfs.fuse.gather import NativeGathers
from imgfs.fuse.native.library import NativeLibrary, load
from imgfs.imports.gather import Gather

ROOM = 2 << 20
BUFFER = 1 << 20
_HEADER = struct.Struct("=IIQQIIII")
_WRITE = struct.Struct("=QQIIQII")
_WRITTEN = struct.Struct("=IiQII")
_OPCODE = 16


@pytest.fixture(scope="module")
def native() -> NativeLibrary:
    library = load()
    if isinstance(library, str):
        pytest.skip(library)
    return library


def write_request(handle: int, offset: int, data: bytes, opcode: int = _OPCODE) -> bytes:
    write = _WRITE.pack(handle, offset, len(data), 0, 0, 0, 0)
    header = _HEADER.pack(_HEADER.size + len(write) + len(data), opcode, 77, 2, 0, 0, 1, 0)
    return header + write + data


class Kernel:
    """The kernel's end of the session."""

    def __init__(self, native: NativeLibrary) -> None:
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._theirs.settimeout(0)
        self._buffer = ctypes.create_string_buffer(BUFFER)
        self._receive = native.session_receive  # type: ignore[attr-defined]  # a function of the native library
        self._receive.restype = ctypes.c_ssize_t

    def ask(self, request: bytes) -> bool:
        """Return whether a request was answered at once; any other must be passed on unchanged."""
        self._theirs.send(request)
        ctypes.set_errno(0)
        got = self._receive(self._ours.fileno(), self._buffer, ctypes.c_size_t(BUFFER))
        if got < 0:
            size = len(request) - _HEADER.size - _WRITE.size
            answer = self._theirs.recv(1000)
            assert _WRITTEN.unpack(answer) == (_WRITTEN.size, 0, 77, size, 0)
            return True
        assert self._buffer.raw[:got] == request
        with pytest.raises(BlockingIOError):
            self._theirs.recv(1)
        return False

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()


@pytest.fixture
def kernel(native: NativeLibrary) -> Iterator[Kernel]:
    made = Kernel(native)
    yield made
    made.close()


@pytest.fixture
def gather(native: NativeLibrary) -> Iterator[Gather]:
    made = NativeGathers(native).make()
    yield made
    made.close()


def test_consecutive_writes_are_gathered(kernel: Kernel, gather: Gather) -> None:
    handle = gather.handle(5)
    assert not kernel.ask(write_request(handle, 0, b"before it began"))
    gather.begin(15)
    assert kernel.ask(write_request(handle, 15, b"one"))
    assert kernel.ask(write_request(handle, 18, b""))
    assert kernel.ask(write_request(handle, 18, b"two"))
    assert not kernel.ask(write_request(handle, 15, b"one"))
    assert not kernel.ask(write_request(handle, 22, b"a gap before it"))
    assert not kernel.ask(write_request(5, 21, b"not tagged"))
    assert not kernel.ask(write_request(handle, 21, b"no write", opcode=15))
    assert not kernel.ask(write_request(handle, 21, b"")[:50])
    assert gather.take() == b"onetwo"
    assert not kernel.ask(write_request(handle, 21, b"three"))
    assert gather.take() == b""


def test_a_write_that_does_not_fit_is_passed_on(kernel: Kernel, gather: Gather) -> None:
    handle, piece, offset = gather.handle(1), b"0123456789" * 10_000, 0
    gather.begin(0)
    while kernel.ask(write_request(handle, offset, piece)):
        offset += len(piece)
    assert ROOM - len(piece) < offset <= ROOM
    assert gather.take() == piece * (offset // len(piece))


def test_only_64_uploads_gather_at_a_time(native: NativeLibrary) -> None:
    gathers = NativeGathers(native)
    made = [gathers.make() for _ in range(100)]
    handles = {one.handle(0) for one in made}
    assert len(handles) == 65, "0 is that of all who have none"
    for one in made:
        one.begin(7)
        one.close()
    assert gathers.make().handle(0) in handles - {0}


def test_without_the_native_library_nothing_is_gathered() -> None:
    gather = NativeGathers("none").make()
    gather.begin(5)
    assert (gather.handle(77), gather.take()) == (77, b"")
    gather.close()


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["write", "write", "write", "skip", "other", "begin", "take"]),
        st.integers(0, 2),
        st.binary(max_size=300),
    ),
    max_size=40,
)


@given(steps=_STEPS)
def test_gathers_behave_like_a_model(
    native: NativeLibrary, steps: list[tuple[str, int, bytes]]
) -> None:
    """Each of three concurrent uploads gets the bytes that follow its own, in order."""
    gathers = NativeGathers(native)
    places = [gathers.make() for _ in range(3)]
    model: list[tuple[int, bytes] | None] = [None] * 3
    kernel = Kernel(native)
    try:
        for step, number, data in steps:
            place, known = places[number], model[number]
            if step == "begin":
                place.take()
                place.begin(len(data))
                model[number] = len(data), b""
            elif step == "take":
                assert place.take() == (known[1] if known else b"")
                model[number] = None
            elif step == "other":
                assert not kernel.ask(write_request(number, 0, data, opcode=15))
            else:
                end = known[0] + len(known[1]) if known else 0
                offset = end + (step == "skip")
                taken = kernel.ask(write_request(place.handle(9), offset, data))
                assert taken == (known is not None and step == "write")
                if known and taken:
                    model[number] = known[0], known[1] + data
    finally:
        kernel.close()
        for place in places:
            place.close()

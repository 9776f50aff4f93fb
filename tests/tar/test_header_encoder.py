"""What a header says beyond the plain ones of an archive of blobs."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.limits import Limits
from engine.tar import header_decoder as headers
from engine.tar import header_encoder as encode
from engine.tar import pax
from engine.tar.header_encoder import Header
from engine.tar.member import Member
from engine.tar.reader import MemberStart, TarReader
from tests.tar import raw_tar

TIMES = {
    0: b"0",
    5_000_000_000: b"5",
    10_000_000_000: b"10",
    5_500_000_000: b"5.5",
    5_000_000_001: b"5.000000001",
    1_600_000_000_123_456_780: b"1600000000.12345678",
    -1: b"-0.000000001",
    -500_000_000: b"-0.5",
    -1_000_000_000: b"-1",
    -1_250_000_000: b"-1.25",
    (8**11 * 10 + 1) * 10**8: b"8589934592.1",
}


def read(data: bytes) -> Member:
    events = list(TarReader(Limits()).feed(memoryview(data + encode.END)))
    (member,) = [event.member for event in events if isinstance(event, MemberStart)]
    return member


@pytest.mark.parametrize("nanoseconds", TIMES)
def test_a_time_is_written_as_go_writes_it(nanoseconds: int) -> None:
    assert encode.time(nanoseconds) == TIMES[nanoseconds]


def test_a_time_with_a_fraction_is_a_record_before_the_header() -> None:
    data = encode.encode(Header("dir/name", mtime=5, records={"mtime": b"5.5"}))
    extended, payload, plain = (data[start : start + 512] for start in (0, 512, 1024))
    assert headers.parse(extended).name == "dir/PaxHeaders.0/name"
    assert payload == raw_tar.padded(b"13 mtime=5.5\n")
    assert headers.parse(plain).mtime_ns == 5_000_000_000
    assert pax.parse(payload[:13]) == {"mtime": "5.5"}


EXTENDED = {
    "name": "PaxHeaders.0/name",
    "dir/": "dir/PaxHeaders.0",
    "a/b/c": "a/b/PaxHeaders.0/c",
    "caf\u00e9/x": "caf/PaxHeaders.0/x",
    f"{'d' * 99}/x": "d" * 99,
}


@pytest.mark.parametrize("path", EXTENDED)
def test_what_an_extended_header_is_called(path: str) -> None:
    data = encode.encode(Header(path, records={"mtime": b"5.5"}))
    assert headers.parse(data[:512]).name == EXTENDED[path]
    assert read(data).name == path


@pytest.mark.parametrize("seconds", [0, 5, 8**11 - 1])
def test_whole_seconds_need_no_record(seconds: int) -> None:
    assert len(encode.encode(Header("name", mtime=seconds))) == 512


@given(st.integers(-(2**62), 2**62))
def test_a_time_comes_back(nanoseconds: int) -> None:
    seconds = nanoseconds // 10**9
    data = encode.encode(Header("name", mtime=seconds, records={"mtime": encode.time(nanoseconds)}))
    assert read(data).mtime_ns == nanoseconds


@pytest.mark.parametrize("seconds", [-5, 8**11])
def test_whole_seconds_that_the_field_cannot_hold(seconds: int) -> None:
    data = encode.encode(Header("name", mtime=seconds))
    assert read(data).mtime_ns == seconds * 10**9
    assert tarfile.open(fileobj=io.BytesIO(data + encode.END)).next().mtime == seconds  # type: ignore[union-attr]  # there is a member

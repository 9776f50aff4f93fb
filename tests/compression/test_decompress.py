import bz2
import gzip
import hashlib
import lzma
import random
import re
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from functools import partial

import lz4.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.compression import decompress
from engine.compression.decoders import Decoder
from engine.compression.decompress import ArchiveDecompressor, Decompressor, StreamPosition
from engine.errors import BrokenArchive
from tests import archives

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 1 << 20


def zstd_compress(data: bytes) -> bytes:
    return zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1})


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstd_compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "lzma": partial(lzma.compress, format=lzma.FORMAT_ALONE),
    "lz4": partial(lz4.frame.compress, content_checksum=True),
}
NAMES = list(COMPRESS)
SKIPPABLE = struct.pack("<II", 0x184D2A5E, 5) + b"extra"
TEXT = b"".join(b"%d bottles of beer\n" % number for number in range(3000))


def pieces(data: bytes, size: int) -> Iterator[memoryview]:
    view = memoryview(data)
    return (view[start : start + size] for start in range(0, len(view), size))


def expand(decompressor: Decompressor, data: bytes, size: int = MIB) -> bytes:
    chunks = [bytes(chunk) for part in pieces(data, size) for chunk in decompressor.feed(part)]
    decompressor.finish()
    assert all(0 < len(chunk) <= MIB for chunk in chunks)
    return b"".join(chunks)


def gzip_with_every_field(data: bytes) -> bytes:
    head = (
        b"\x1f\x8b\x08\x1f" + bytes(6) + struct.pack("<H", 4) + b"xtra" + b"name\0" + b"comment\0"
    )
    head += struct.pack("<H", zlib.crc32(head) & 0xFFFF)
    raw = zlib.compressobj(wbits=-15)
    body = raw.compress(data) + raw.flush()
    return head + body + struct.pack("<II", zlib.crc32(data), len(data))


# -- what a stream is -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\x1f\x8b\x08\0\0\0\0\0\0\3", "gzip"),
        (b"\x1f\x8b\x07", "none"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (SKIPPABLE[:10], "zstd"),
        (b"\xfd7zXZ\0\0\4", "xz"),
        (b"BZh91AY&SY", "bzip2"),
        (b"BZh1\x17\x72\x45\x38\x50\x90", "bzip2"),
        (b"BZh9-names", "none"),
        (b"]\0\0\x80\0" + b"\xff" * 8 + b"\0", "lzma"),
        (b"]\0\0\x10\0" + b"\x05\0\0\0\0\0\0\0\0", "lzma"),
        (b"]" + bytes(13), "none"),
        (b"blobs/sha2", "none"),
        (b"", "none"),
        (bytes(10), "none"),
    ],
)
def test_sniff(head: bytes, name: str) -> None:
    assert decompress.sniff(head) == name
    assert decompress.new(name).name == name


@pytest.mark.parametrize("name", NAMES)
def test_sniffed_bytes_are_enough(name: str) -> None:
    for data in (b"", TEXT):
        assert decompress.sniff(COMPRESS[name](data)[: decompress.SNIFFED]) == name


# -- whole streams --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1, 7, 1000, MIB])
def test_one_stream(name: str, size: int) -> None:
    assert expand(decompress.new(name), COMPRESS[name](TEXT), size) == TEXT


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1, 7, MIB])
@pytest.mark.parametrize("gap", [b"", bytes(3), bytes(3000)], ids=len)
def test_one_stream_after_another(name: str, size: int, gap: bytes) -> None:
    compress = COMPRESS[name]
    data = compress(b"one, ") + gap + compress(b"") + gap + compress(b"two") + gap
    assert expand(decompress.new(name), data, size) == b"one, two"


@pytest.mark.parametrize("size", [1, MIB])
def test_skippable_frames_of_zstd(size: int) -> None:
    empty = struct.pack("<II", 0x184D2A50, 0)
    data = SKIPPABLE + zstd.compress(b"one, ") + SKIPPABLE + zstd.compress(b"two") + empty
    assert expand(decompress.new("zstd"), data, size) == b"one, two"
    assert expand(ArchiveDecompressor(), data, size) == b"one, two"


@pytest.mark.parametrize("size", [1, MIB])
def test_a_gzip_header_with_every_field(size: int) -> None:
    data = gzip_with_every_field(TEXT) * 2
    assert expand(decompress.new("gzip"), data, size) == TEXT * 2


@pytest.mark.parametrize("cut", range(1, 50))
def test_a_gzip_header_in_two_pieces(cut: int) -> None:
    data = gzip_with_every_field(TEXT)
    decompressor = decompress.new("gzip")
    parts = [*decompressor.feed(data[:cut]), *decompressor.feed(data[cut:])]
    decompressor.finish()
    assert b"".join(bytes(part) for part in parts) == TEXT


def test_an_endless_gzip_header_is_refused() -> None:
    head = b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * (2 * MIB)
    with pytest.raises(BrokenArchive, match="damaged gzip stream: its header has no end"):
        expand(decompress.new("gzip"), head)


@pytest.mark.parametrize("size", [1, MIB])
@pytest.mark.parametrize("zeros", [0, 3])
def test_what_is_behind_a_stream_is_named(size: int, zeros: int) -> None:
    tar = archives.layer()
    for behind, says in (
        (zstd_compress(TEXT), "a stream of another kind (zstd) behind a gzip stream: expected"),
        (tar, "a tar archive that is not compressed behind a gzip stream: expected"),
        (b"anything else", "garbage behind a gzip stream: 'anything else'"),
    ):
        with pytest.raises(BrokenArchive, match=re.escape(says)):
            expand(decompress.new("gzip"), gzip.compress(TEXT) + bytes(zeros) + behind, size)


def test_plain_bytes_pass_without_a_copy() -> None:
    data = memoryview(b"a plain archive")
    for decompressor in (decompress.new("none"), ArchiveDecompressor()):
        assert all(chunk is data for chunk in decompressor.feed(data))
        decompressor.finish()
    assert list(decompress.new("none").feed(b"")) == []


# -- what is around an archive --------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1, 3, decompress.SNIFFED, MIB])
def test_outer_finds_the_compression(name: str, size: int) -> None:
    outer = ArchiveDecompressor()
    assert outer.name == ""
    assert expand(outer, COMPRESS[name](TEXT), size) == TEXT
    assert outer.name == name


@pytest.mark.parametrize("size", [1, 3, decompress.SNIFFED, MIB])
def test_outer_passes_what_is_not_compressed(size: int) -> None:
    outer = ArchiveDecompressor()
    assert expand(outer, TEXT, size) == TEXT
    assert outer.name == "none"


def test_outer_takes_no_bytes_at_all() -> None:
    assert expand(ArchiveDecompressor(), b"") == b""


def test_outer_cannot_tell_from_a_few_bytes() -> None:
    with pytest.raises(BrokenArchive, match="is truncated: it ends after 9 bytes"):
        expand(ArchiveDecompressor(), b"BZh91AY&S")


# -- broken streams -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_truncation_is_found(name: str) -> None:
    data = COMPRESS[name](b"some content") * 2
    boundaries = {len(data) // 2, len(data)}
    for size in range(1, len(data) + 1):
        decompressor = decompress.new(name)
        if size in boundaries:
            expand(decompressor, data[:size])
        else:
            with pytest.raises(BrokenArchive, match=f"is a truncated {name} stream") as caught:
                expand(decompressor, data[:size])
            assert caught.value.member == ""


@pytest.mark.parametrize("name", NAMES)
def test_finish_does_not_spoil_what_follows(name: str) -> None:
    data = COMPRESS[name](b"some content")
    outer = ArchiveDecompressor()
    found = b""
    for position in range(len(data)):
        if position:
            with pytest.raises(BrokenArchive, match="truncated"):
                outer.finish()
        found += b"".join(bytes(chunk) for chunk in outer.feed(data[position : position + 1]))
    outer.finish()
    assert found == b"some content"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "garbage", [b"g", b"garbage that is long enough", b"\0\0garbage behind zeros"]
)
@pytest.mark.parametrize("size", [1, MIB])
def test_garbage_behind_a_stream(name: str, garbage: bytes, size: int) -> None:
    reason = f"garbage behind a {name} stream|truncated {name} stream"
    with pytest.raises(BrokenArchive, match=reason):
        expand(decompress.new(name), COMPRESS[name](TEXT) + garbage, size)


@pytest.mark.parametrize("name", NAMES)
def test_any_wrong_byte_of_the_content_is_found(name: str) -> None:
    content = random.Random(1).randbytes(500)
    good = COMPRESS[name](content)
    for position in range(len(good)):
        data = bytearray(good)
        data[position] ^= 0x55
        try:
            found = expand(decompress.new(name), bytes(data))
        except BrokenArchive:
            continue
        assert found == content


def test_a_window_that_needs_too_much_memory_is_refused() -> None:
    frame = b"\x28\xb5\x2f\xfd\0" + bytes([(31 - 10) << 3]) + b"\1\0\0"
    with pytest.raises(BrokenArchive, match="zstd stream with a window of 2048 MiB, more than the"):
        expand(decompress.new("zstd"), frame)
    huge = lzma.compress(
        b"x", filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 160 * MIB}]
    )
    with pytest.raises(BrokenArchive, match="damaged xz stream: Memory usage limit"):
        expand(decompress.new("xz"), huge)


@pytest.mark.parametrize("size", [1, MIB])
def test_gzip_flags_that_nobody_knows_are_refused(size: int) -> None:
    data = bytearray(COMPRESS["gzip"](TEXT))
    data[3] |= 0x20
    with pytest.raises(BrokenArchive, match="damaged gzip stream"):
        expand(decompress.new("gzip"), bytes(data), size)


@pytest.mark.parametrize("size", [1, 7, MIB])
def test_a_zstd_frame_that_ends_too_early_is_refused(size: int) -> None:
    """libzstd lets it pass where the last, empty block comes alone."""
    frame = b"\x28\xb5\x2f\xfd" + b"\x20\x40" + b"\1\0\0"
    with pytest.raises(BrokenArchive, match="damaged zstd stream"):
        expand(decompress.new("zstd"), frame, size)


# -- memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_bomb_comes_out_in_small_chunks(name: str) -> None:
    size = 16 * MIB
    bomb = COMPRESS[name](bytes(size))
    assert len(bomb) < size // 200
    total = 0
    for chunk in decompress.new(name).feed(bomb):
        assert len(chunk) <= MIB
        total += len(chunk)
    assert total == size


def test_many_small_streams_take_no_square_time() -> None:
    stream = gzip.compress(b"x")
    count = MIB // len(stream)
    state = hashlib.sha256()
    for chunk in decompress.new("gzip").feed(stream * count):
        state.update(chunk)
    assert state.hexdigest() == hashlib.sha256(b"x" * count).hexdigest()


@given(
    name=st.sampled_from(NAMES),
    parts=st.lists(st.binary(max_size=3000), min_size=1, max_size=4),
    cuts=st.lists(st.integers(1, 500), min_size=1, max_size=10),
)
def test_any_content_comes_back_however_it_is_cut(
    name: str, parts: list[bytes], cuts: list[int]
) -> None:
    data = memoryview(b"".join(COMPRESS[name](part) for part in parts))
    outer = ArchiveDecompressor()
    found = b""
    count = 0
    while data:
        size = cuts[count % len(cuts)]
        found += b"".join(bytes(chunk) for chunk in outer.feed(data[:size]))
        data = data[size:]
        count += 1
    outer.finish()
    assert found == b"".join(parts)


# -- going on from a place ------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_streams_are_told_by_their_positions(name: str) -> None:
    stream = COMPRESS[name](TEXT)
    found = []

    def decoder(position: StreamPosition) -> Decoder:
        found.append(position)
        return decompress.decoder_of(name)

    assert expand(decompress.located(name, decoder), (stream + bytes(4)) * 3, 777) == TEXT * 3
    each = len(stream) + 4
    assert found == [StreamPosition(n * each, n * len(TEXT)) for n in range(3)]
    found.clear()
    start = StreamPosition(each, len(TEXT))
    assert expand(decompress.located(name, decoder, start), stream + bytes(4) + stream) == TEXT * 2
    assert found == [start, StreamPosition(2 * each, 2 * len(TEXT))]


def test_the_first_stream_may_have_begun() -> None:
    stream = COMPRESS["zstd"](TEXT)
    current = decompress.decoder_of("zstd")
    begun = bytes(current.decompress(stream[:20], 10))
    rest = decompress.located("zstd", lambda _: decompress.decoder_of("zstd"), current=current)
    assert begun + expand(rest, stream[20:] + stream) == TEXT * 2

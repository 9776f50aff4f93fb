"""Compressed layers: right, and the same bytes on any machine."""

import gzip
import os
import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.compression import options as compression
from engine.compression.options import Compression, InvalidCompression
from engine.spec import oci

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BIG = random.Random(1).randbytes(700_000) + b"text " * 600_000


def compressed(data: bytes, how: Compression, step: int = 10_000) -> bytes:
    out: list[bytes] = []
    compressor = how.start(lambda piece: out.append(bytes(piece)))
    for offset in range(0, len(data), step):
        compressor.write(data[offset : offset + step])
    compressor.finish()
    return b"".join(out)


@given(st.binary(max_size=5000), st.sampled_from((None, 1, 6, 9)))
def test_gzip(data: bytes, level: int | None) -> None:
    assert gzip.decompress(compressed(data, Compression("gzip", level), 999)) == data


@given(st.binary(max_size=5000), st.sampled_from((None, 1, 19)))
def test_zstd(data: bytes, level: int | None) -> None:
    assert zstd.decompress(compressed(data, Compression("zstd", level), 999)) == data


@pytest.mark.parametrize(("kind", "tool"), [("gzip", "gzip"), ("zstd", "zstd")])
def test_the_tools_take_it(kind: str, tool: str) -> None:
    stored = compressed(BIG, Compression(kind))
    found = subprocess.run([tool, "-dc"], input=stored, capture_output=True, check=True).stdout
    assert found == BIG
    assert len(stored) < len(BIG) // 3


@pytest.mark.parametrize("kind", ["gzip", "zstd", "uncompressed"])
def test_how_it_is_written_and_how_many_cores_there_are_is_no_matter(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = compressed(BIG, Compression(kind))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 4})
    assert compressed(BIG, Compression(kind), 1 << 20) == first
    assert compressed(BIG, Compression(kind), len(BIG)) == first


def test_media_types() -> None:
    assert Compression("zstd").media_type == oci.LAYER_ZSTD
    assert Compression("gzip").media_type == oci.LAYER_GZIP
    assert Compression("uncompressed").media_type == oci.LAYER


def test_words() -> None:
    assert compression.parse("gzip") == Compression()
    assert compression.parse("zstd:9") == Compression("zstd", 9)
    assert str(compression.parse("zstd:9")) == "zstd:9"


@pytest.mark.parametrize(
    "text", ["", "xz", "gzip:", "gzip:0", "gzip:10", "zstd:20", "zstd:-1", "uncompressed:1"]
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(InvalidCompression):
        compression.parse(text)

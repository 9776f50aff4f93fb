"""The starts of blocks of a gzip stream, found by any of the libraries."""

import gzip
import random
from collections.abc import Iterator

import pytest

from engine.compression import inflate
from engine.compression.entering import BlockDecoder
from engine.compression.inflate import BlockStart, Buffers, Inflater

TEXT = " ".join(
    random.Random(7).choices(["stone", "river", "hill", "tree", "x"], k=400_000)
).encode()
STREAM = gzip.compress(TEXT, 6, mtime=0)


@pytest.fixture(params=["zlib-ng", "zlib"])
def _library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Use the library inside the module zlib_ng, or the system's as where that exports nothing."""
    inflate.library.cache_clear()
    if request.param == "zlib":
        monkeypatch.setattr(inflate, "_NG_PREFIX", "missing_")
    yield
    inflate.library.cache_clear()


def inflated(decoder: Inflater, data: bytes, step: int) -> bytes:
    out = bytearray()
    for start in range(0, len(data), step):
        out += decoder.decompress(data[start : start + step], 70_000)
        while not decoder.needs_input and not decoder.eof:
            out += decoder.decompress(b"", 70_000)
    return bytes(out)


@pytest.mark.usefixtures("_library")
@pytest.mark.parametrize("step", [1000, len(STREAM)])
def test_blocks_are_found_and_entered(step: int) -> None:
    found: list[BlockStart] = []

    def on_block(start: BlockStart) -> int:
        found.append(start)
        return start.plain + 200_000

    whole = Inflater(Buffers(1, 50_000), on_block=on_block, first_block=200_000)
    assert inflated(whole, STREAM + b"behind", step) == TEXT
    assert whole.eof
    assert len(found) > 5
    assert any(start.used for start in found)
    for start in found:
        assert TEXT[: start.plain].endswith(start.window)
        entered = BlockDecoder(start)
        assert entered.decompress(STREAM[start.stored :], len(TEXT)) == TEXT[start.plain :]
        assert entered.eof


@pytest.mark.usefixtures("_library")
def test_a_damaged_stream_is_refused() -> None:
    with pytest.raises(ValueError, match=r"invalid|incorrect"):
        inflated(Inflater(Buffers(1, 50_000)), STREAM[:5000] + bytes(100) + STREAM[5100:], 1000)


def test_what_is_behind_a_stream_is_left() -> None:
    decoder = Inflater(Buffers(1, len(TEXT)))
    assert decoder.decompress(STREAM + b"behind", len(TEXT) + 1) == TEXT
    decoder.decompress(b"", 1)
    assert decoder.eof
    assert decoder.unused_data == b"behind"

"""imgfs whose loads make no tables of layers, to measure what the tables cost.

`python -m scripts.lib.bench.without_tables load FILE` hashes and verifies everything. It parses no
entry of a layer, and finds no point.
"""

from collections.abc import Iterator
from unittest import mock

from engine.compression import decompress
from engine.layers import points, table_builder
from imgfs.__main__ import main


class _Pointless:
    """A decompressor with the interface of `PointFinder` that finds nothing."""

    def __init__(self, compression: str) -> None:
        self._inner = decompress.new(compression)

    def feed(self, data: bytes | memoryview) -> Iterator[bytes | memoryview]:
        yield from map(bytes, self._inner.feed(data))

    def finish(self) -> None:
        self._inner.finish()

    def take(self) -> list[points.Candidate]:
        return []


def _ignore(*_: object) -> None:
    """Take bytes of a layer without a look at them."""


if __name__ == "__main__":
    with (
        mock.patch.object(points, "PointFinder", _Pointless),
        mock.patch.object(table_builder.TableBuilder, "feed", _ignore),
    ):
        main()

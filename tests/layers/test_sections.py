"""The whole of a layer, decompressed in sections."""

import threading
from array import array

import pytest
from msgspec.structs import replace

from engine.errors import BrokenArchive
from engine.layers import sections, table_codec
from engine.layers.sections import whole_layer
from engine.layers.table import LayerTable
from engine.spec import digest as digests
from tests.layers.layers import MIB, PLAIN, STREAMS, TABLES, Blob, damaged
from tests.stores.memory import MemoryTables

DIVIDED = [name for name, table in TABLES.items() if len(table.points) > 1]


def kept(name: str, table: LayerTable) -> tuple[MemoryTables, str]:
    """A store with this table of a layer, and the digest of the layer."""
    tables, digest = MemoryTables(), digests.of_bytes(STREAMS[name])
    tables.put(digest, table_codec.dump(table))
    return tables, digest


@pytest.mark.parametrize("held", [MIB, 5 * MIB, 24 * MIB])
@pytest.mark.parametrize("name", STREAMS)
def test_the_bytes_are_in_order(name: str, held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sections, "_HELD", held)
    blob = Blob(STREAMS[name])
    assert b"".join(whole_layer(*kept(name, TABLES[name]), blob)) == PLAIN
    if name in DIVIDED:
        assert len({point.stored for point in TABLES[name].points} & set(blob.asked)) > 1


def test_a_layer_without_a_table() -> None:
    blob = Blob(STREAMS["gzip"])
    assert b"".join(whole_layer(MemoryTables(), digests.of_bytes(b""), blob)) == PLAIN
    assert blob.asked == sorted(blob.asked)


@pytest.mark.parametrize("name", DIVIDED)
def test_a_table_that_is_wrong_does_no_harm(name: str) -> None:
    table = TABLES[name]
    other = array("I", table.checksums)
    other[len(other) // 2] ^= 1
    wrong = replace(table, checksums=other)
    assert b"".join(whole_layer(*kept(name, wrong), Blob(STREAMS[name]))) == PLAIN


@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_damaged_layer_is_refused(part: float) -> None:
    data = STREAMS["gzip"]
    blob = Blob(damaged(data, int(len(data) * part)))
    with pytest.raises(BrokenArchive):
        b"".join(whole_layer(*kept("gzip", TABLES["gzip"]), blob))


class Watched(Blob):
    """A blob that counts its readers, and fails if it is asked to."""

    def __init__(self, data: bytes, fails_behind: int) -> None:
        super().__init__(data)
        self._fails_behind = fails_behind
        self._lock = threading.Lock()
        self.readers = 0

    def pread(self, length: int, offset: int) -> bytes:
        with self._lock:
            self.readers += 1
        try:
            if offset > self._fails_behind:
                raise OSError("the disk fails")
            return super().pread(length, offset)
        finally:
            with self._lock:
                self.readers -= 1


def test_nothing_is_read_once_it_is_closed() -> None:
    blob = Watched(STREAMS["gzip"], len(PLAIN))
    pieces = whole_layer(*kept("gzip", TABLES["gzip"]), blob)
    assert next(pieces) == PLAIN[:MIB]
    pieces.close()
    assert blob.readers == 0


def test_an_error_of_the_disk_is_raised() -> None:
    blob = Watched(STREAMS["gzip"], len(STREAMS["gzip"]) // 2)
    with pytest.raises(OSError, match="the disk fails"):
        b"".join(whole_layer(*kept("gzip", TABLES["gzip"]), blob))
    assert blob.readers == 0

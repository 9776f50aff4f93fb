"""The suite of a store of layer tables. Inherit `TableSuite` with a fixture `tables` that returns
an empty `TableStore`.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.content.tables import TableStore
from engine.errors import InvalidDigest
from engine.spec import digest as digests

ONE, TWO = digests.of_bytes(b"one layer"), digests.of_bytes(b"two layers")


class TableSuite:
    """The tests."""

    def test_a_table_is_put_and_got(self, tables: TableStore) -> None:
        assert tables.get(ONE) is None
        tables.put(ONE, b"a table")
        assert tables.get(ONE) == b"a table"
        assert tables.get(TWO) is None

    def test_a_new_table_takes_the_place_of_the_old_one(self, tables: TableStore) -> None:
        for data in (b"a longer table", b"short", b""):
            tables.put(ONE, data)
            assert tables.get(ONE) == data

    def test_a_table_is_deleted_alone(self, tables: TableStore) -> None:
        tables.put(ONE, b"a table")
        tables.put(TWO, b"another table")
        tables.delete(ONE)
        assert tables.get(ONE) is None
        assert tables.get(TWO) == b"another table"

    def test_deleting_nothing_does_nothing(self, tables: TableStore) -> None:
        tables.delete(ONE)
        tables.put(ONE, b"a table")
        tables.delete(ONE)
        tables.delete(ONE)
        assert tables.get(ONE) is None

    def test_every_algorithm_has_a_table_of_its_own(self, tables: TableStore) -> None:
        other = digests.of_bytes(b"one layer", "sha512")
        tables.put(ONE, b"a table")
        assert tables.get(other) is None
        tables.put(other, b"another table")
        assert (tables.get(ONE), tables.get(other)) == (b"a table", b"another table")

    def test_a_table_may_be_large_and_holds_any_byte(self, tables: TableStore) -> None:
        data = bytes(range(256)) * (32 << 10)
        tables.put(ONE, data)
        assert tables.get(ONE) == data

    @pytest.mark.parametrize(
        "name", ["", "layers", "sha256:", "sha256:../../x", f"md5:{'0' * 32}", f"sha256:{'0' * 63}"]
    )
    def test_a_table_belongs_to_a_digest(self, tables: TableStore, name: str) -> None:
        for call in (tables.get, tables.delete, lambda name: tables.put(name, b"a table")):
            with pytest.raises(InvalidDigest):
                call(name)

    def test_readers_find_one_table_whole_while_others_write(self, tables: TableStore) -> None:
        written = [bytes([number]) * (1000 * number + 1) for number in range(1, 9)]
        tables.put(ONE, written[0])

        def put(data: bytes) -> bytes | None:
            tables.put(ONE, data)
            return tables.get(ONE)

        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(put, written)) <= set(written)
        assert tables.get(ONE) in written

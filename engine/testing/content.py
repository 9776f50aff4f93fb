"""The suite of a content store. Inherit `ContentSuite` with a fixture `store` that returns an empty
`ContentStore`.

It checks what containerd's `core/content/testsuite` checks, where this store has the same meaning.
It differs on purpose in two points: a commit of a blob that is already stored succeeds (`added` is
False), and a failed commit discards its ingest.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import pytest

from engine.content.blobs import read_blob
from engine.content.protocols import Committed
from engine.errors import (
    DigestMismatch,
    EngineError,
    InvalidDigest,
    LimitExceeded,
    NotFound,
    SizeMismatch,
    Unavailable,
)
from engine.spec import digest as digests
from engine.stores.protocols import ContentStore
from engine.testing.blobs import ABSENT, LABELS, content, write_blob
from engine.testing.writers import WriterSuite


class ContentSuite(WriterSuite):
    """The tests of a content store and its writers."""

    # Reading

    def test_pread(self, store: ContentStore) -> None:
        digest = write_blob(store, "a", b"foobar").info.digest
        with store.open(digest) as reader:
            assert reader.size == 6
            assert reader.pread(3, 0) == b"foo"
            assert reader.pread(7, 0) == b"foobar"
            assert reader.pread(7, 3) == b"bar"
            assert reader.pread(1, 6) == b""
            assert reader.pread(1, 1 << 40) == b""
            assert reader.pread(0, 0) == b""
            descriptor = reader.fileno()
            assert descriptor is None or descriptor > 2
        reader.close()

    def test_an_open_blob_survives_its_deletion(self, store: ContentStore) -> None:
        digest = write_blob(store, "a", b"foobar").info.digest
        with store.open(digest) as reader:
            store.delete(digest)
            write_blob(store, "b", b"foobar")
            assert reader.pread(6, 0) == b"foobar"

    @pytest.mark.parametrize("text", ["", "x", "sha256:", "sha256:../..", "md5:" + "0" * 32])
    def test_what_is_no_digest(self, store: ContentStore, text: str) -> None:
        for use in (store.open, store.info, store.delete, lambda d: store.update(d, {})):
            with pytest.raises(InvalidDigest):
                use(text)

    def test_absent_blobs(self, store: ContentStore) -> None:
        for use in (store.open, store.info, store.delete, lambda d: store.update(d, {"k": "v"})):
            with pytest.raises(NotFound):
                use(ABSENT)

    # Managing

    def test_labels(self, store: ContentStore) -> None:
        first = write_blob(store, "a", b"x", labels={"k1": "v1", "k2": "v2"}).info
        second = store.update(first.digest, {"k1": "new", "k2": "", "k3": "v3", "k4": ""})
        assert second == store.info(first.digest)
        assert second.labels == {"k1": "new", "k3": "v3"}
        assert (second.size, second.created_at) == (first.size, first.created_at)
        assert second.updated_at >= first.updated_at
        assert store.update(first.digest, {}) == second

    def test_walk(self, store: ContentStore) -> None:
        blobs = [write_blob(store, str(i), content(i), labels={"i": str(i)}).info for i in range(7)]
        assert list(store.walk()) == sorted(blobs, key=lambda info: info.digest)
        assert [info.size for info in store.walk(lambda info: info.labels["i"] == "3")] == [3]

    def test_walk_may_delete_as_it_goes(self, store: ContentStore) -> None:
        for i in range(7):
            write_blob(store, str(i), content(i))
        for info in store.walk():
            store.delete(info.digest)
        assert list(store.walk()) == []

    def test_delete_and_store_again(self, store: ContentStore) -> None:
        digest = write_blob(store, "a", b"x", labels=LABELS).info.digest
        store.delete(digest)
        with pytest.raises(NotFound):
            store.open(digest)
        with pytest.raises(NotFound):
            store.delete(digest)
        again = write_blob(store, "a", b"x")
        assert again.added
        assert again.info.labels == {}

    # Helpers

    def test_read_blob_checks(self, store: ContentStore) -> None:
        digest = write_blob(store, "a", b"foobar").info.digest
        assert read_blob(store, digest, 6, limit=6) == b"foobar"
        with pytest.raises(SizeMismatch, match="manifest x: unexpected size: expected 5, found 6"):
            read_blob(store, digest, 5, subject="manifest x")
        with pytest.raises(LimitExceeded, match=f"{digest}: .* limit 5, found 6"):
            read_blob(store, digest, limit=5)
        with pytest.raises(NotFound):
            read_blob(store, ABSENT)

    def test_write_blob_starts_over(self, store: ContentStore) -> None:
        with store.writer("a") as writer:
            writer.write(b"garbage")
        assert write_blob(store, "a", b"foobar").info.digest == digests.of_bytes(b"foobar")

    def test_write_blob_checks(self, store: ContentStore) -> None:
        with pytest.raises(DigestMismatch):
            write_blob(store, "a", b"foobar", ABSENT)
        assert store.statuses() == []

    # Threads

    def test_one_digest_by_many_threads(self, store: ContentStore) -> None:
        data = content(100_000)

        def work(number: int) -> Committed:
            return write_blob(store, f"ref {number}", data, digests.of_bytes(data))

        committed = _in_threads([partial(work, number) for number in range(8)])
        assert sum(one.added for one in committed if isinstance(one, Committed)) == 1
        assert len(committed) == 8
        assert len(list(store.walk())) == 1

    def test_one_ref_by_many_threads(self, store: ContentStore) -> None:
        def work(number: int) -> Committed:
            return write_blob(store, "ref", content(1000, number))

        outcomes = _in_threads([partial(work, number) for number in range(8)])
        stored = [one.info.digest for one in outcomes if isinstance(one, Committed)]
        assert stored
        assert all(isinstance(one, (Committed, Unavailable)) for one in outcomes)
        assert sorted(stored) == [info.digest for info in store.walk()]
        assert store.statuses() == []

    def test_a_blob_that_is_stored_and_deleted_all_the_time(self, store: ContentStore) -> None:
        """Check that an open reader reads all of the blob, and that the last write counts."""
        data = content(5000)
        digest = digests.of_bytes(data)

        def put(number: int) -> None:
            for _ in range(10):
                write_blob(store, f"ref {number}", data)

        def delete() -> None:
            for _ in range(20):
                try:
                    store.delete(digest)
                except NotFound:
                    continue

        def read() -> None:
            for _ in range(40):
                try:
                    assert read_blob(store, digest, 5000) == data
                except NotFound:
                    continue

        outcomes = _in_threads([partial(put, 1), partial(put, 2), delete, delete, read])
        assert outcomes == [None] * 5
        write_blob(store, "last", data)
        assert read_blob(store, digest) == data


def _in_threads(calls: list[Callable[[], object]]) -> list[object]:
    """Run all calls at once; return the result of each, or the EngineError that it raised."""
    barrier = threading.Barrier(len(calls))
    outcomes: list[object] = []

    def run(call: Callable[[], object]) -> None:
        barrier.wait()
        try:
            outcomes.append(call())
        except EngineError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes

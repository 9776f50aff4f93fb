"""The suite of the writers of a content store: a part of `ContentSuite`."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from engine.content.blobs import read_blob
from engine.content.writer import Writer
from engine.errors import (
    DigestMismatch,
    InvalidDigest,
    NotFound,
    SizeMismatch,
    Unavailable,
    Unsupported,
)
from engine.spec import digest as digests
from engine.spec.digest import Digest
from engine.stores.protocols import ContentStore
from engine.testing.blobs import ABSENT, LABELS, content, write_blob


class WriterSuite:
    """The tests of writing, and of ingests that are interrupted and resumed."""

    # Writing

    @pytest.mark.parametrize("with_size", [False, True])
    @pytest.mark.parametrize("with_digest", [False, True])
    def test_write_and_commit(
        self, store: ContentStore, with_size: bool, with_digest: bool
    ) -> None:
        data = content(256)
        expected = digests.of_bytes(data)
        before = time.time()
        with store.writer(
            "a", len(data) if with_size else 0, expected if with_digest else None
        ) as writer:
            for start in range(0, 256, 32):
                assert writer.write(data[start : start + 32]) == 32
            committed = writer.commit(labels=LABELS)
            assert writer.digest() == expected
        assert committed.added
        assert committed.info == store.info(expected)
        assert committed.info.digest == expected
        assert committed.info.size == 256
        assert committed.info.labels == LABELS
        assert before <= committed.info.created_at <= time.time()
        assert committed.info.updated_at == committed.info.created_at
        assert read_blob(store, expected) == data
        assert store.statuses() == []

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_write_takes_any_bytes(
        self, store: ContentStore, kind: Callable[[bytes], bytes]
    ) -> None:
        data = content(100)
        assert write_blob(store, "a", kind(data)).info.digest == digests.of_bytes(data)

    def test_write_of_wider_items_counts_bytes(self, store: ContentStore) -> None:
        data = content(64)
        with store.writer("a") as writer:
            assert writer.write(memoryview(data).cast("I")) == 64
            assert writer.commit(64).info.digest == digests.of_bytes(data)

    def test_empty_blob(self, store: ContentStore) -> None:
        committed = write_blob(store, "a", b"", digests.of_bytes(b""))
        assert committed.info.size == 0
        assert read_blob(store, committed.info.digest, 0) == b""

    @pytest.mark.parametrize("algorithm", digests.ALGORITHMS)
    def test_algorithms(self, store: ContentStore, algorithm: str) -> None:
        data = content(300)
        if algorithm not in store.algorithms:
            with pytest.raises(Unsupported, match=algorithm):
                write_blob(store, "a", data, digests.of_bytes(data, algorithm))
            assert store.statuses() == []
            pytest.skip(f"the store keeps no blobs by {algorithm}")
        expected = digests.of_bytes(data, algorithm)
        assert write_blob(store, "expected", data, expected).info.digest == expected
        store.delete(expected)
        with store.writer("asked for", algorithm=algorithm) as writer:
            writer.write(data)
            assert writer.commit().info.digest == expected
        store.delete(expected)
        with store.writer("said at last") as writer:
            writer.write(data)
            assert writer.commit(expected=expected).info.digest == expected
        assert read_blob(store, expected) == data

    def test_unknown_algorithm(self, store: ContentStore) -> None:
        with pytest.raises(InvalidDigest):
            store.writer("a", algorithm="md5")
        with pytest.raises(InvalidDigest):
            store.writer("a", expected="md5:00")

    def test_pwrite_in_any_order(self, store: ContentStore) -> None:
        with store.writer("a") as writer:
            assert writer.write(b"0123456789") == 10
            assert writer.pwrite(b"xy", 4) == 2
            assert writer.pwrite(b"end", 12) == 3
            assert writer.write(b"!") == 1
            expected = b"0123xy6789\0\0end!"
            assert writer.pread(100, 0) == expected
            assert writer.digest() == digests.of_bytes(expected)
            assert writer.status().offset == len(expected)
            writer.truncate(6)
            assert writer.commit().info.digest == digests.of_bytes(b"0123xy")
        assert read_blob(store, digests.of_bytes(b"0123xy")) == b"0123xy"

    def test_pread_sees_what_was_written(self, store: ContentStore) -> None:
        with store.writer("a") as writer:
            writer.write(b"0123")
            writer.write(b"456789")
            assert writer.pread(4, 2) == b"2345"
            assert writer.pread(100, 8) == b"89"
            writer.write(b"ab")
            assert writer.commit().info.digest == digests.of_bytes(b"0123456789ab")

    def test_a_blob_is_invisible_until_committed(self, store: ContentStore) -> None:
        data = content(50)
        with store.writer("a") as writer:
            writer.write(data)
            with pytest.raises(NotFound):
                store.info(writer.digest())
            with pytest.raises(NotFound):
                store.open(writer.digest())
            assert list(store.walk()) == []

    # Commit

    def test_commit_of_what_is_stored(self, store: ContentStore) -> None:
        data = content(256)
        first = write_blob(store, "a", data, labels={"a": "1", "b": "1"})
        again = write_blob(store, "b", data, labels={"b": "2", "c": "2"})
        assert not again.added
        assert again.info.labels == {"a": "1", "b": "2", "c": "2"}
        assert again.info.created_at == first.info.created_at
        assert again.info == store.info(first.info.digest)
        assert len(list(store.walk())) == 1
        assert store.statuses() == []

    def test_commit_with_wrong_size(self, store: ContentStore) -> None:
        writer = store.writer("a")
        writer.write(content(10))
        with pytest.raises(SizeMismatch) as caught:
            writer.commit(11)
        assert (caught.value.expected, caught.value.found) == (11, 10)
        self.check_nothing_left(store, writer)

    def test_commit_with_wrong_digest(self, store: ContentStore) -> None:
        writer = store.writer("a")
        writer.write(content(10))
        with pytest.raises(DigestMismatch) as caught:
            writer.commit(10, ABSENT)
        assert (caught.value.expected, caught.value.found) == (ABSENT, writer.digest())
        self.check_nothing_left(store, writer)

    @pytest.mark.parametrize(("size", "expected"), [(11, None), (0, ABSENT), (9, None)])
    def test_commit_of_something_else_than_announced(
        self, store: ContentStore, size: int, expected: Digest | None
    ) -> None:
        writer = store.writer("a", size, expected)
        writer.write(content(10))
        with pytest.raises((SizeMismatch, DigestMismatch)):
            writer.commit()
        self.check_nothing_left(store, writer)

    def test_commit_of_another_digest_than_announced(self, store: ContentStore) -> None:
        writer = store.writer("a", expected=ABSENT)
        writer.write(content(10))
        with pytest.raises(DigestMismatch):
            writer.commit(expected=digests.of_bytes(content(10)))
        self.check_nothing_left(store, writer)

    def test_commit_with_no_digest_at_all(self, store: ContentStore) -> None:
        writer = store.writer("a")
        writer.write(b"x")
        with pytest.raises(InvalidDigest):
            writer.commit(expected="sha256:../../../etc/passwd")
        self.check_nothing_left(store, writer)

    def check_nothing_left(self, store: ContentStore, writer: Writer) -> None:
        assert list(store.walk()) == []
        assert store.statuses() == []
        with pytest.raises(NotFound):
            store.open(writer.digest())

    def test_the_ref_is_free_after_a_failed_commit(self, store: ContentStore) -> None:
        data = content(20)
        for _ in range(2):
            writer = store.writer("a")
            writer.write(data)
            with pytest.raises(SizeMismatch):
                writer.commit(19)
        with store.writer("a") as writer:
            assert writer.status().offset == 0
            writer.write(data)
            assert writer.commit(20).added

    def test_a_writer_ends_with_its_commit(self, store: ContentStore) -> None:
        writer = store.writer("a")
        writer.write(b"once")
        writer.commit()
        for use in (writer.commit, writer.status, lambda: writer.write(b"more")):
            with pytest.raises(ValueError, match="has ended"):
                use()
        writer.abort()
        writer.close()
        assert read_blob(store, digests.of_bytes(b"once")) == b"once"

    def test_a_writer_ends_with_its_close(self, store: ContentStore) -> None:
        writer = store.writer("a")
        writer.write(b"some")
        writer.close()
        for use in (writer.commit, writer.status, lambda: writer.truncate(0)):
            with pytest.raises(ValueError, match="has ended"):
                use()
        writer.abort()
        assert store.status("a").offset == 4

    # Ingests

    def test_status_follows_the_writes(self, store: ContentStore) -> None:
        data = content(256)
        expected = digests.of_bytes(data)
        before = time.time()
        with store.writer("a", 256, expected) as writer:
            started = time.time()
            for start, end in [(0, 0), (0, 64), (64, 192), (192, 256)]:
                writer.write(data[start:end])
                status = writer.status()
                assert store.status("a") == status
                assert store.statuses() == [status]
                assert (status.ref, status.offset, status.total) == ("a", end, 256)
                assert status.expected == expected
                assert before <= status.started_at <= started
                assert abs(status.updated_at - time.time()) < 60
                assert writer.digest() == digests.of_bytes(data[:end])
            writer.commit()
        with pytest.raises(NotFound):
            store.status("a")

    def test_statuses_are_in_order_of_refs(self, store: ContentStore) -> None:
        refs = ["b", "a/../../x", "", "ü\n", "a" * 5000, "\udc80"]
        for ref in refs:
            store.writer(ref).close()
        assert [status.ref for status in store.statuses()] == sorted(refs)

    def test_one_writer_a_ref(self, store: ContentStore) -> None:
        with store.writer("a") as writer:
            writer.write(b"x")
            with pytest.raises(Unavailable):
                store.writer("a")
            with pytest.raises(Unavailable):
                store.abort("a")
            with store.writer("b"):
                pass
            assert writer.status().offset == 1
        with store.writer("a") as writer:
            assert writer.status().offset == 1

    @pytest.mark.parametrize("size", [500, 5_000, 3_000_000])
    @pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
    def test_resume(self, store: ContentStore, size: int, share: float) -> None:
        data = content(size)
        there = int(size * share)
        expected = digests.of_bytes(data)
        with store.writer("a", size, expected) as writer:
            writer.write(data[:there])
            before = writer.status()
        assert store.status("a") == before
        with store.writer("a", size, expected) as writer:
            assert writer.status() == before
            assert writer.digest() == digests.of_bytes(data[:there])
            writer.write(data[there:])
            assert writer.commit(size, expected).added
        assert read_blob(store, expected) == data

    def test_resume_remembers_what_is_expected(self, store: ContentStore) -> None:
        store.writer("a", 3, ABSENT).close()
        writer = store.writer("a")
        assert (writer.status().total, writer.status().expected) == (3, ABSENT)
        writer.write(b"abc")
        with pytest.raises(DigestMismatch):
            writer.commit()

    def test_resume_learns_what_is_expected(self, store: ContentStore) -> None:
        expected = digests.of_bytes(b"abc", "sha512")
        with store.writer("a") as writer:
            writer.write(b"ab")
        with store.writer("a", 3, expected) as writer:
            assert writer.digest() == digests.of_bytes(b"ab", "sha512")
        assert (store.status("a").total, store.status("a").expected) == (3, expected)

    def test_resume_for_something_else(self, store: ContentStore) -> None:
        with store.writer("a", 10, ABSENT) as writer:
            writer.write(b"x")
        with pytest.raises(SizeMismatch):
            store.writer("a", 11, ABSENT)
        with pytest.raises(DigestMismatch):
            store.writer("a", 10, digests.of_bytes(b""))
        assert store.status("a").offset == 1
        store.abort("a")
        with store.writer("a", 11) as writer:
            assert writer.status().offset == 0

    @pytest.mark.parametrize("size", [0, 1, 399, 400])
    def test_truncate(self, store: ContentStore, size: int) -> None:
        data, tail = content(400), content(77, seed=1)
        with store.writer("a") as writer:
            writer.write(data)
            writer.truncate(size)
            assert writer.status().offset == size
            assert writer.digest() == digests.of_bytes(data[:size])
            writer.write(tail)
            writer.commit(size + 77, digests.of_bytes(data[:size] + tail))
        assert read_blob(store, digests.of_bytes(data[:size] + tail)) == data[:size] + tail

    @pytest.mark.parametrize("size", [-1, 401])
    def test_truncate_to_what_is_not_there(self, store: ContentStore, size: int) -> None:
        with store.writer("a") as writer:
            writer.write(content(400))
            with pytest.raises(ValueError, match="400 bytes"):
                writer.truncate(size)
            assert writer.commit().info.digest == digests.of_bytes(content(400))

    def test_abort_of_a_paused_ingest(self, store: ContentStore) -> None:
        with store.writer("a") as writer:
            writer.write(b"x")
        store.abort("a")
        assert store.statuses() == []
        with pytest.raises(NotFound):
            store.abort("a")
        with pytest.raises(NotFound):
            store.status("a")

    def test_abort_by_the_writer(self, store: ContentStore) -> None:
        writer = store.writer("a")
        writer.write(b"x")
        writer.abort()
        writer.abort()
        assert store.statuses() == []
        store.writer("a").abort()

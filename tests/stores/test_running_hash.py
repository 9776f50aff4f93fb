"""A running hash is that of the bytes at the time when they were added."""

import hashlib
import os
from threading import Event

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.content.running_hash import RunningHash
from engine.threads import WORTH_IT, begin

_SIZES = st.sampled_from([0, 1, 4096, WORTH_IT - 1, WORTH_IT, 3 * WORTH_IT, 12 * WORTH_IT])


@settings(max_examples=30)
@given(st.lists(st.tuples(_SIZES, st.booleans(), st.booleans()), max_size=12))
def test_the_digest_is_that_of_all_bytes(pieces: list[tuple[int, bool, bool]]) -> None:
    """Each piece has a size, may be in a buffer that is used again, and may be followed by a look
    at the digest.
    """
    running, expected = RunningHash("sha256"), hashlib.sha256()
    for number, (size, is_reused, is_looked_at) in enumerate(pieces):
        data = bytes([number]) * size
        expected.update(data)
        buffer = bytearray(data) if is_reused else data
        running.update(memoryview(buffer))
        if isinstance(buffer, bytearray):
            buffer[:] = bytes(size)
        if is_looked_at:
            assert running.digest().encoded == expected.hexdigest()
    assert running.digest().encoded == expected.hexdigest()


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_the_digest_is_of_the_algorithm(algorithm: str) -> None:
    running = RunningHash(algorithm)
    running.update(memoryview(b"layer"))
    assert running.digest() == f"{algorithm}:{hashlib.new(algorithm, b'layer').hexdigest()}"


def test_it_goes_on_while_the_shared_threads_wait() -> None:
    """One of them may read what is being downloaded, and hashed."""
    hashed = Event()
    waiting = [begin(hashed.wait, 60) for _ in range(os.cpu_count() or 1)]
    running = RunningHash("sha256")
    try:
        for _ in range(8):
            running.update(memoryview(bytes(1 << 20)))
        assert running.digest().encoded == hashlib.sha256(bytes(8 << 20)).hexdigest()
    finally:
        hashed.set()
    assert all(result() for result in waiting)

"""Tests of the queue for a consumer in a worker thread."""

import threading
from collections.abc import Awaitable, Callable
from functools import partial

import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from imgfs.imports.write_queue import WriteQueue


def run(consume: Callable[[bytes], None], use: Callable[[WriteQueue], Awaitable[None]]) -> None:
    async def main() -> None:
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                await use(WriteQueue(consume, trio.to_thread.run_sync, nursery))

    trio.run(main)


@given(sizes=st.lists(st.integers(1, 300_000), max_size=30))
def test_bytes_are_consumed_in_order(sizes: list[int]) -> None:
    pieces = [bytes([number]) * size for number, size in enumerate(sizes)]
    seen: list[bytes] = []

    async def use(feed: WriteQueue) -> None:
        for piece in pieces:
            feed.put(piece)
        await feed.all_but(0)
        assert b"".join(seen) == b"".join(pieces)

    run(seen.append, use)


def test_small_pieces_are_joined() -> None:
    seen: list[int] = []

    async def use(feed: WriteQueue) -> None:
        for _ in range(250):
            feed.put(b"x" * 10_000)
        feed.put(b"x" * 1_000_000)
        await feed.all_but(0)

    run(lambda data: seen.append(len(data)), use)
    assert seen == [1_050_000, 1_050_000, 400_000, 1_000_000]


def test_all_but_waits_until_few_bytes_are_left() -> None:
    go_on = threading.Event()
    seen: list[bytes] = []

    def consume(data: bytes) -> None:
        assert go_on.wait(30)
        seen.append(data)

    async def use(feed: WriteQueue) -> None:
        for _ in range(5):
            feed.put(b"x" * 100_000)
        await feed.all_but(500_000)
        assert not seen
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(feed.all_but, 300_000))
            await trio.testing.wait_all_tasks_blocked()
            go_on.set()
        assert len(seen) >= 2
        await feed.all_but(0)
        assert len(seen) == 5

    run(consume, use)

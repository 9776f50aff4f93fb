"""Tests of the worker threads of a mount."""

import threading

import pytest
import trio

from imgfs.threads import DiskThreads


def test_a_call_continues_when_its_await_is_cancelled() -> None:
    go_on, done = threading.Event(), threading.Event()

    def call() -> None:
        assert go_on.wait(30)
        done.set()

    async def main() -> None:
        workers = DiskThreads()
        with trio.move_on_after(0.01) as given_up:
            await workers.read(call)
        assert given_up.cancelled_caught
        assert workers.busy == 1
        with trio.move_on_after(0.01) as still:
            await workers.rest()
        assert still.cancelled_caught
        go_on.set()
        with trio.fail_after(30):
            await workers.rest()
        assert (workers.busy, done.is_set()) == (0, True)

    trio.run(main)


def test_reads_do_not_wait_for_writes() -> None:
    go_on = threading.Event()

    async def main() -> None:
        workers = DiskThreads()
        async with trio.open_nursery() as nursery:
            for _ in range(64):
                nursery.start_soon(workers.write, go_on.wait, 30)
            with trio.fail_after(30):
                assert await workers.read(len, "abc") == 3
            go_on.set()

    trio.run(main)


def test_an_exception_of_a_call_is_raised() -> None:
    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await DiskThreads().read(divmod, 1, 0)

    trio.run(main)

"""Tests of the worker threads of a mount."""

import threading

import pytest
import trio

from imgfs.threads import DiskThreads


def test_who_awaits_may_give_up_and_the_call_goes_on() -> None:
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


def test_those_who_read_do_not_wait_for_those_who_write() -> None:
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


def test_what_a_call_raises_is_raised() -> None:
    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await DiskThreads().read(divmod, 1, 0)

    trio.run(main)

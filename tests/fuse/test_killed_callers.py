"""Tests of the cancellation of requests whose caller is killed."""

import os
import subprocess
import sys

import pytest
import trio

from imgfs.fuse.killed_callers import KilledCallers, is_killed

WAITING = "import sys; print(flush=True); sys.stdin.read()"


def test_a_running_process_is_not_reported_as_killed() -> None:
    assert not is_killed(os.getpid())
    assert not is_killed(0)


def test_the_request_of_a_killed_process_is_cancelled() -> None:
    async def wait_for(pid: int) -> None:
        callers = KilledCallers()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(callers.watch)
            with pytest.raises(InterruptedError), trio.fail_after(30):
                await answered(callers, pid)
            nursery.cancel_scope.cancel()

    async def answered(callers: KilledCallers, pid: int) -> None:
        with callers.unless_killed(pid):
            await trio.sleep_forever()

    with subprocess.Popen(
        [sys.executable, "-c", WAITING], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()  # it stays a zombie until its parent waits for it
        trio.run(wait_for, process.pid)


def test_an_answered_request_is_not_watched() -> None:
    async def answer() -> str:
        callers = KilledCallers()
        with callers.unless_killed(os.getpid()):
            await trio.lowlevel.checkpoint()
        return "answered"

    assert trio.run(answer) == "answered"

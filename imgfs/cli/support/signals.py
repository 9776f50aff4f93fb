"""Signals that end a command: its clean-up is begun once, and is not interrupted.

Python runs the handlers in the main thread, between any two instructions there.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn
from weakref import ref

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ENOUGH = 3
"""The ^C, or any other of the signals, that no longer waits for the clean-up, as in docker."""
_PAUSE = 0.02
"""Seconds until it is tried or looked at again."""
_LAST = 0.5
"""Seconds in which what an interrupted command has printed can be written."""
_FRAGILE = ("msgspec", "typing", "importlib")
"""Packages whose callers in C crash, or clear the error, when an exception comes out of them."""


class Interrupted(KeyboardInterrupt):
    """The signal of this number ends the command."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class EndingSignals:
    """Handlers that raise Interrupted once. The signals that follow are ignored while the stack is
    unwound, except that the third of a kind ends the process.

    While the exception cannot be raised it waits, and one that was lost is raised again. Nothing is
    raised once the outcome of the command is known and `is_over` is set.
    """

    def __init__(self) -> None:
        self.is_over = False
        self._number = 0
        self._counts: dict[int, int] = {}
        self._raised: Callable[[], Interrupted | None] = _nothing

    def install(self) -> None:
        """Handle the signals, except those that the caller of the process ignores."""
        signal.signal(signal.SIGALRM, self._end)
        for number in ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._receive)

    def ignore(self) -> None:
        """Ignore the signals from now on."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._number = self._number or number
        self._counts[number] = self._counts.get(number, 0) + 1
        if self._counts[number] == _ENOUGH:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._end(number, frame)

    def _end(self, _number: int, frame: FrameType | None) -> None:
        if self.is_over:
            return
        signal.setitimer(signal.ITIMER_REAL, _PAUSE)
        if self._raised() is None and not _is_fragile(frame):
            error = Interrupted(self._number)
            self._raised = ref(error)
            try:
                raise error
            finally:
                del error  # or its traceback would keep it


@contextmanager
def unmasked() -> Iterator[None]:
    """Run the block; raise the KeyboardInterrupt that an error in its clean-up has replaced.

    Such as that of a `Condition` which the interrupt has left without its lock.
    """
    try:
        yield
    except Exception as error:
        before = error.__context__
        while before is not None and not isinstance(before, KeyboardInterrupt):
            before = before.__context__
        if before is not None:
            raise before from None
        raise


@contextmanager
def limited() -> Iterator[None]:
    """End the block soon, where it waits for a reader that may have stopped."""
    with suppress(TimeoutError):
        signal.signal(signal.SIGALRM, _time_out)
        signal.setitimer(signal.ITIMER_REAL, _LAST)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def _is_fragile(frame: FrameType | None) -> bool:
    """Return whether an exception must not be raised in this frame.

    In one of contextlib it would come between the start of a block and its entry on the stack, and
    in one of concurrent.futures, or where a Condition is entered or left, between a lock's
    acquisition and what releases it.
    """
    if frame is not None:
        package, function = _package(frame), frame.f_code.co_name
        is_of_lock = package == "threading" and function in ("__enter__", "__exit__")
        if is_of_lock or package in ("contextlib", "concurrent"):
            return True
    while frame is not None:
        if _package(frame) in _FRAGILE or frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _time_out(_number: int, _frame: FrameType | None) -> NoReturn:
    raise TimeoutError


def _nothing() -> None:
    """Return None: nothing was raised."""

"""Wait for a state instead of a time."""

import threading
import time
from collections.abc import Callable

_POLL = threading.Event()
_STEADY = 50
"""Looks after which a figure that has not changed is settled."""


def wait_until(holds: Callable[[], bool], what: str, timeout: float = 30.0) -> None:
    """Return as soon as `holds()` is true; fail after `timeout` seconds, naming `what`."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, f"waited {timeout} s in vain until {what}"
        _POLL.wait(0.01)


def settled(figure: Callable[[], int]) -> int:
    """Return a figure once it has not changed for half a second."""
    seen: list[int] = []

    def is_steady() -> bool:
        seen.append(figure())
        return len(set(seen[-_STEADY:])) == 1 and len(seen) >= _STEADY

    wait_until(is_steady, "the figure has settled")
    return seen[-1]

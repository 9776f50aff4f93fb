"""Waiting for a state, never for a time."""

import threading
import time
from collections.abc import Callable

_POLL = threading.Event()


def wait_until(holds: Callable[[], bool], what: str, timeout: float = 30.0) -> None:
    """Return as soon as `holds()`; fail with `what` was waited for after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, f"waited {timeout} s in vain until {what}"
        _POLL.wait(0.01)

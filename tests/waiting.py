"""Wait for a state instead of a time."""

import threading
import time
from collections.abc import Callable

_POLL = threading.Event()


def wait_until(holds: Callable[[], bool], what: str, timeout: float = 30.0) -> None:
    """Return as soon as `holds()` is true; fail after `timeout` seconds, naming `what`."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, f"waited {timeout} s in vain until {what}"
        _POLL.wait(0.01)

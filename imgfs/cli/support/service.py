"""The service manager: report to systemd when a service is ready, and log as its journal expects.

The protocol is that of sd_notify(3); a process that systemd has not started is not affected.
"""

import logging
import os
import socket
import sys
from contextlib import suppress

_LEVELS = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))
"""The levels of sd-daemon(3), by the least level of Python's logging."""


def notify(state: str) -> None:
    """Send a state such as "READY=1" to the service manager, if there is one."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
    with suppress(OSError), socket.socket(socket.AF_UNIX, kind) as manager:
        manager.connect("\0" + address[1:] if address[0] == "@" else address)
        manager.sendall(state.encode(errors="replace"))  # systemd takes UTF-8 only


def log_to_stderr() -> None:
    """Log to standard error; with a level that the journal understands if it is read by that."""
    if is_journal():
        logging.basicConfig(level=logging.INFO, handlers=[_journal_handler()])
    else:
        logging.basicConfig(level=logging.INFO, format="imgfs: %(message)s")


def is_journal() -> bool:
    """Return whether standard error goes to systemd's journal, as sd_journal_stream(3) decides."""
    try:
        file = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{file.st_dev}:{file.st_ino}"


class JournalFormatter(logging.Formatter):
    """Format a record with a prefix on each line that tells the journal its level."""

    def format(self, record: logging.LogRecord) -> str:
        level = next(level for least, level in _LEVELS if record.levelno >= least)
        return "\n".join(f"<{level}>{line}" for line in super().format(record).splitlines())


def _journal_handler() -> logging.Handler:
    handler = logging.StreamHandler()
    handler.setFormatter(JournalFormatter())
    return handler

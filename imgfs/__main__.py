"""The process `imgfs`, also run as `python -m imgfs`."""

import gc
import signal
import sys

_TURN = 1e-4
"""Seconds for which a thread may keep the interpreter from others; Python's default is 5 ms.

Threads that decompress, hash or read need it for some microseconds in each millisecond.
"""


def main() -> None:
    """Run the command line of this process, and exit with its status."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # there is nothing to undo during the imports
    gc.disable()  # imports make no garbage, and each collection during them delays the start
    sys.setswitchinterval(_TURN)
    from imgfs import cli

    cli.main()


if __name__ == "__main__":
    main()

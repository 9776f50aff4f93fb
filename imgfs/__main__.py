"""The process `imgfs`, also run as `python -m imgfs`."""

import gc
import sys

_TURN = 1e-4
"""Seconds for which a thread may keep the interpreter from others; Python's default is 5 ms.

Threads that decompress, hash or read need it for some microseconds in each millisecond.
"""


def main() -> None:
    """Run the command line of this process, and exit with its status."""
    gc.disable()  # imports make no garbage, and each collection during them delays the start
    sys.setswitchinterval(_TURN)
    from imgfs import cli

    cli.main()


if __name__ == "__main__":
    main()

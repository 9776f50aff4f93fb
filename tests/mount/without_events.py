"""Run `imgfs ARGUMENT…`, given as `PYTHON -m imgfs ARGUMENT…`, with a log of failures that has a
bug.
"""

import sys
from unittest import mock

from engine.stores.protocols import EventLog
from imgfs.__main__ import main

if __name__ == "__main__":
    del sys.argv[:3]
    with mock.patch.object(EventLog, "add_failure", side_effect=RuntimeError("a bug")):
        main()

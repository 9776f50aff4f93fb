"""Run `imgfs ARGUMENT…`, given as `FILE PYTHON -m imgfs ARGUMENT…`, with a clock for
hidden entries that shows the modification time of FILE.
"""

import os
import sys
from unittest import mock

from imgfs.__main__ import main
from imgfs.vfs import name_changes
from imgfs.vfs.removals import Removals

if __name__ == "__main__":
    clock = sys.argv[1]
    del sys.argv[1:5]
    removals = Removals(lambda: os.stat(clock).st_mtime)
    with mock.patch.object(name_changes, "Removals", return_value=removals):
        main()

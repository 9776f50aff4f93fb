"""Runs `FILE PYTHON -m imgfs ARGUMENT…`, which it is given, as an imgfs for which the time is when
FILE was modified, as far as it hides what was removed.
"""

import os
import sys
from unittest import mock

from imgfs.__main__ import main
from imgfs.vfs import tree as image_tree
from imgfs.vfs.removals import Removals

if __name__ == "__main__":
    clock = sys.argv[1]
    del sys.argv[1:5]
    told = Removals(lambda: os.stat(clock).st_mtime)
    with mock.patch.object(image_tree, "Removals", return_value=told):
        main()

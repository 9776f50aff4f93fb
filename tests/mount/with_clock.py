"""Run `imgfs ARGUMENT…`, given as `FILE PYTHON -m imgfs ARGUMENT…`, with a clock that shows the
modification time of FILE, for hidden entries and for directories in `import/`.
"""

import os
import sys
from unittest import mock

from imgfs.__main__ import main
from imgfs.imports import directory, directory_upload
from imgfs.vfs import name_changes
from imgfs.vfs.removals import Removals


def run_with_clock(file: str) -> None:
    def now() -> float:
        return os.stat(file).st_mtime

    with (
        mock.patch.object(name_changes, "Removals", return_value=Removals(now)),
        mock.patch.object(directory_upload, "time", mock.Mock(monotonic=now)),
        mock.patch.object(directory, "_EXPIRY_PERIOD", 0.05),
    ):
        main()


if __name__ == "__main__":
    clock = sys.argv[1]
    del sys.argv[1:5]
    run_with_clock(clock)

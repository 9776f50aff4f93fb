"""Run `imgfs ARGUMENT…`, given as `PYTHON -m imgfs ARGUMENT…`, without the native library."""

import sys
from unittest import mock

import imgfs.fuse.native.library
from imgfs.__main__ import main

if __name__ == "__main__":
    del sys.argv[:3]
    with mock.patch.object(imgfs.fuse.native.library, "EXTENSION_SUFFIXES", [".none"]):
        main()

"""Runs `PYTHON -m imgfs ARGUMENT…`, which it is given, as an imgfs without its native library."""

import sys
from unittest import mock

import imgfs.fuse.native.library
from imgfs.__main__ import main

if __name__ == "__main__":
    del sys.argv[:3]
    with mock.patch.object(imgfs.fuse.native.library, "EXTENSION_SUFFIXES", [".none"]):
        main()

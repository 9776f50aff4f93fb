"""Run `imgfs ARGUMENT…`, given as `ARCHIVE PYTHON -m imgfs ARGUMENT…`, over a store in memory that
has the images of ARCHIVE and is read-only.
"""

import sys
from pathlib import Path
from unittest import mock

import engine.stores.open
from imgfs.__main__ import main
from tests.stores.limited import ReadOnlyStore
from tests.stores.memory import MemoryStore
from tests.stores.test_memory import load

if __name__ == "__main__":
    archive = Path(sys.argv[1])
    del sys.argv[1:5]
    store = MemoryStore(archive.parent)
    load(store, archive.read_bytes())
    with mock.patch.object(engine.stores.open, "create_store", return_value=ReadOnlyStore(store)):
        main()

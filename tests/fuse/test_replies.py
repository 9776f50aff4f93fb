"""Replies with the entries of a directory: how long the kernel may keep their names."""

import stat
import time
from types import SimpleNamespace
from typing import Any

import pyfuse3
import pytest

from imgfs.fuse.inodes import Inodes
from imgfs.fuse.name_cache import KEPT
from imgfs.fuse.open_directories import Listing, OpenDirectory
from imgfs.fuse.replies import Replies
from imgfs.vfs.nodes import Attributes, FixedDirectory


def test_no_name_is_kept_behind_one_whose_lookup_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel waits there for such a lookup, and takes the names behind it in later."""
    timeouts: dict[bytes, float] = {}

    def reply(_token: object, name: bytes, attributes: Any, _following: int) -> bool:
        timeouts[name] = attributes.entry_timeout
        return True

    monkeypatch.setattr(pyfuse3, "readdir_reply", reply)
    root = FixedDirectory("root", {})
    names: Any = SimpleNamespace(
        keep=lambda _version: time.monotonic() + 1000, answered=lambda _listing: None
    )
    children = [(name, FixedDirectory(name, {})) for name in "abcd"]
    waits = Attributes(stat.S_IFDIR | 0o555, are_final=False)
    opened = OpenDirectory(1, 1, root, 1, Listing(1, children, {"c": waits}))
    no_layers: Any = None
    token: Any = None
    Replies(Inodes(root, no_layers), names, (0, 0)).list_entries(opened, 2, token, 1)
    lasting = root.entry_timeout(root)
    assert timeouts == {b"a": KEPT, b"b": KEPT, b"c": lasting, b"d": lasting}
    assert lasting != KEPT

"""Tests of hidden entries in image directories."""

from engine.image import TreeEntry
from imgfs.vfs.nodes import FOREVER, BytesFile
from imgfs.vfs.removals import PATIENCE, ImageEntries, RemovableDirectory, Removals

APP = TreeEntry("app:1", "docker.io/library/app:1", "{}", 1, 0)
MOVED = TreeEntry("app:1", "docker.io/library/app:1", "{}", 2, 0)


class Clock:
    """A clock that tests set, in seconds."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_hidden_entries_return_a_minute_after_the_last_removal() -> None:
    clock = Clock()
    removals = Removals(clock)
    removals.add(APP, "index.json")
    clock.now += PATIENCE - 1
    removals.add(APP, "blobs/sha256/x")
    clock.now += PATIENCE - 1
    assert removals.hidden(APP) == {"index.json", "blobs/sha256/x"}
    clock.now += 1
    assert removals.hidden(APP) == set()
    removals.add(APP, "oci-layout")
    assert removals.hidden(APP) == {"oci-layout"}, "what is back does not go again"


def test_hidden_entries_belong_to_one_image() -> None:
    removals = Removals(Clock())
    removals.add(APP, "index.json")
    assert removals.hidden(MOVED) == set(), "another image at the same path is whole"


def test_hidden_entries_end_with_the_image() -> None:
    clock = Clock()
    removals = Removals(clock)
    assert not removals.end(APP)
    removals.add(APP, "index.json")
    assert removals.end(APP)
    assert removals.hidden(APP) == set()
    removals.add(APP, "index.json")
    clock.now += PATIENCE
    assert not removals.end(APP)


def test_a_directory_shows_the_entries_that_are_not_hidden() -> None:
    clock = Clock()
    removals = Removals(clock)
    nodes = {name: BytesFile(name, b"") for name in ("a", "b")}
    directory = RemovableDirectory(
        "key", ImageEntries(removals, removals.add, APP, "blobs/sha256/"), nodes, 0
    )
    assert directory.entry_timeout(nodes["a"]) == FOREVER
    removals.add(APP, "blobs/sha256/a")
    removals.add(APP, "b")
    assert directory.lookup("a") is None
    assert list(directory.children()) == [("b", nodes["b"])]
    assert directory.entry_timeout(nodes["b"]) == 0, (
        "a listing that began before may tell what is gone"
    )
    clock.now += PATIENCE
    assert dict(directory.children()) == nodes
    assert directory.lookup("a") is nodes["a"]

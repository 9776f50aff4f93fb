"""Tests of the names that the kernel is asked to forget."""

from typing import cast

from engine.image import TreeEntry
from imgfs.fuse.gone_names import gone_names
from imgfs.vfs.names import SAFE
from imgfs.vfs.tree import ImageDirectory, ImageTree, NameDirectory
from tests.fuse.entries import inodes as inodes_of

TREE = cast(ImageTree, None)


def image(path: str, revision: int = 1) -> ImageDirectory:
    return ImageDirectory(TREE, TreeEntry(path, path, "{}", revision, 0))


def test_names_that_are_gone_are_forgotten_unless_looked_up_since() -> None:
    inodes = inodes_of(NameDirectory(TREE, ""))
    parent = inodes.look_up(NameDirectory(TREE, "team/"))
    inodes.look_up(moved := image("moved:1", 2))
    stand = {"gone:1": None, "team/gone:1": None, "moved:1": moved, "team/moved:1": image("x")}
    assert gone_names(stand, inodes) == [
        (1, b"gone:1"),
        (parent, b"gone:1"),
        (parent, b"moved:1"),
    ]


def test_names_below_an_unknown_parent_are_ignored() -> None:
    assert gone_names({"team/gone:1": None}, inodes_of(NameDirectory(TREE, ""))) == []


def test_names_are_forgotten_in_the_form_that_the_mount_shows() -> None:
    inodes = inodes_of(NameDirectory(TREE, ""))
    assert gone_names({"gone:1": None}, inodes, SAFE) == [(1, b"gone--1")]

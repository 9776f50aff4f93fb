"""Hostile layers, applied: nothing is above the root, whatever leads there."""

import tarfile

import pytest

from engine.errors import BrokenArchive
from tests.filetree import layers
from tests.filetree.layers import directory, file, hardlink, merged, symlink

DEVICE = layers.member("dev/sda", tarfile.BLKTYPE, devmajor=8, devminor=0)

HARMLESS = {
    "path leaves": ([file("../../etc/passwd", "x")], {"etc/": "", "etc/passwd": "=x"}),
    "absolute name": ([file("/etc/passwd", "x")], {"etc/": "", "etc/passwd": "=x"}),
    "symlink to the host, and a file below": (
        [symlink("d", "/../../etc"), file("d/passwd", "x")],
        {"d": "→/../../etc", "etc/": "", "etc/passwd": "=x"},
    ),
    "symlink of dots, and a file below": (
        [symlink("d", "../../.."), file("d/x", "x")],
        {"d": "→../../..", "x": "=x"},
    ),
    "device": ([DEVICE], {"dev/": "", "dev/sda": "block device"}),
    "fifo": ([layers.fifo("p")], {"p": "fifo"}),
    "cycle of symlinks that nobody follows": (
        [symlink("a", "b"), symlink("b", "a")],
        {"a": "→b", "b": "→a"},
    ),
    "two files of one name": ([file("a", "1"), file("a", "2")], {"a": "=2"}),
    "a file becomes a directory": ([file("a", "1"), file("a/b", "2")], {"a/": "", "a/b": "=2"}),
    "whiteout that leaves": ([directory("d"), file("d/../../.wh.d")], {"d/": ""}),
}

REFUSED = {
    "hard link of the host's file": ([hardlink("h", "/etc/passwd")], "is not there"),
    "hard link that leaves": ([hardlink("h", "../../etc/passwd")], "is not there"),
    "hard link of itself": ([hardlink("h", "h")], "is not there"),
    "hard link of a directory": ([directory("d"), hardlink("h", "d")], "of a directory"),
    "cycle of symlinks": ([symlink("a", "b"), symlink("b", "a"), file("a/x")], "255 symlinks"),
    "symlink to itself": ([symlink("a", "a/a"), file("a/x")], "255 symlinks"),
    "whiteout of the directory above": ([file("d/.wh...")], "whiteout of no name"),
    "whiteout of nothing": ([file(".wh.")], "whiteout of no name"),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_a_layer_that_is_harmless(name: str) -> None:
    members, expected = HARMLESS[name]
    assert merged(members) == expected


@pytest.mark.parametrize("name", REFUSED)
def test_a_layer_that_is_refused(name: str) -> None:
    members, says = REFUSED[name]
    with pytest.raises(BrokenArchive, match=says):
        merged(members)

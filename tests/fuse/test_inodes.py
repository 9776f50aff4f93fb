"""Tests of inode numbers and lookup counts."""

import hashlib
from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgfs.fuse import inodes
from imgfs.vfs import keys
from imgfs.vfs.keys import NodeKey, TreeKey
from imgfs.vfs.nodes import BytesFile, Node
from tests.fuse.entries import inodes as inodes_of

ROOT = BytesFile("root", b"")


def file(key: str) -> BytesFile:
    return BytesFile(key, b"")


def test_the_root_has_number_1_and_is_never_forgotten() -> None:
    known = inodes_of(ROOT)
    known.forget(inodes.ROOT, 99)
    assert known.get(inodes.ROOT) is ROOT
    assert known.known(ROOT.key) == inodes.ROOT


def test_a_number_is_the_same_in_every_mount() -> None:
    one, other = inodes_of(ROOT), inodes_of(ROOT)
    other.look_up(file("before"))
    assert one.look_up(file("blob:x")) == other.look_up(file("blob:x"))


def test_colliding_numbers_are_made_different(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashlib, "blake2b", lambda *_, **__: hashlib.md5(b"all the same"))
    known = inodes_of(ROOT)
    numbers = [known.look_up(file(key)) for key in "abca"]
    assert numbers[0] == numbers[3]
    assert len(set(numbers)) == 3
    known.forget(numbers[1], 1)
    assert known.get(numbers[2]).key == "c"


def test_trees_with_one_hash_get_numbers_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_hash", lambda _: 7)
    known = inodes_of(ROOT)
    numbers = [known.look_up(cast(Node, SimpleNamespace(key=TreeKey(name)))) for name in "aba"]
    assert numbers[0] == numbers[2] != numbers[1]
    assert known.number(NodeKey(TreeKey("b"), 5)) == numbers[1] | 5


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans(), st.integers(1, 3)), max_size=40))
def test_a_node_is_held_until_every_lookup_is_given_back(
    steps: Sequence[tuple[str, bool, int]],
) -> None:
    known, counts = inodes_of(ROOT), dict.fromkeys("abcd", 0)
    for key, looks_up, count in steps:
        number = inodes_of(ROOT).look_up(file(key))
        if looks_up:
            counts[key] += 1
            assert known.look_up(file(key)) == number
        elif counts[key]:
            given_back = min(count, counts[key])
            counts[key] -= given_back
            known.forget(number, given_back)
    held = {key for key, count in counts.items() if count}
    assert {node.key for _, node in known.nodes()} == held | {"root"}
    assert all((known.known(key) is not None) == (key in held) for key in counts)


def test_forgetting_an_unknown_inode_is_ignored() -> None:
    known = inodes_of(ROOT)
    known.forget(12345, 1)
    assert len(known) == 1

"""Tests of namespaces that have no image."""

from imgfs.vfs.namespaces import PATIENCE, Namespaces
from tests.vfs.test_removals import Clock


def test_a_made_namespace_exists_until_it_is_removed() -> None:
    clock = Clock()
    namespaces = Namespaces(clock)
    namespaces.make("a/")
    namespaces.make("a/b/")
    clock.now += 10 * PATIENCE
    assert (namespaces.below(""), namespaces.below("a/"), namespaces.below("a/b/")) == (
        {"a"},
        {"b"},
        set(),
    )
    namespaces.remove("a/b/")
    assert (namespaces.exists("a/b/"), namespaces.exists("a/")) == (False, True)
    namespaces.remove("a/")
    assert not namespaces.exists("a/")


def test_a_filled_namespace_exists_only_by_its_images() -> None:
    namespaces = Namespaces(Clock())
    for path in ("a/", "a/b/", "a/c/", "ab/"):
        namespaces.make(path)
    namespaces.filled("a/b/app:1")
    assert [namespaces.exists(path) for path in ("a/b/", "a/c/", "ab/")] == [False, True, True]
    assert namespaces.below("") == {"a", "ab"}, "as long as another is in it"


def test_an_emptied_namespace_is_unlisted_and_removable_for_a_minute() -> None:
    clock = Clock()
    namespaces = Namespaces(clock)
    namespaces.emptied("a/b/app:1")
    assert namespaces.exists("a/b/")
    assert namespaces.exists("a/")
    assert namespaces.below("") == set()
    namespaces.remove("a/b/")
    assert not namespaces.exists("a/b/")
    clock.now += PATIENCE
    assert not namespaces.exists("a/")
    namespaces.emptied("app:1")
    assert not namespaces.exists("/")

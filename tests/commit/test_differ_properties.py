"""For any two trees, applying the layer between them to the first gives the second."""

from collections.abc import Iterable, Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.commit import differ, overlay
from engine.commit.change import Change
from engine.filetree.entry import FileEntry
from engine.filetree.tree import EMPTY, Tree
from tests.commit.models import NAMES, SECOND, Bodies, Model, Step, steps
from tests.commit.tars import tar_of
from tests.filetree.layers import applied
from tests.trees import picture, surviving

MANY = settings(max_examples=300)


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> Bodies:
    return Bodies.at(tmp_path_factory.mktemp("bodies"))


def done(model: Model, todo: Iterable[Step]) -> Model:
    for step in todo:
        step(model)
    return model


def written(changes: Iterable[Change]) -> bytes:
    return tar_of(changes)


def whole(tree: Tree) -> Tree:
    """The tree with times as most tools write them."""
    entries = {
        path: msgspec.structs.replace(entry, mtime_ns=entry.mtime_ns // SECOND * SECOND)
        for path, entry in tree.items()
    }
    return Tree(entries)


def is_same_time(before: int, after: int) -> bool:
    if before == after:
        return True
    return before // SECOND == after // SECOND and (before % SECOND == 0 or after % SECOND == 0)


def check(parent: Tree, current: Tree, found: Tree) -> None:
    """Whether `found` is `current`, as far as one can know it who has seen `parent`.

    Of times that count as the same the older one may stand, and so may the bytes of a file whose
    time has not changed in a fraction of a second.
    """
    assert [path for path, _ in found.items()] == [path for path, _ in current.items()]
    assert sorted(found.links().values()) == sorted(current.links().values())
    for path, expected in current.items():
        before, entry = parent.get(path), found[path]
        if not path:
            continue
        if before is not None and before.mtime_ns == entry.mtime_ns:
            assert is_same_time(entry.mtime_ns, expected.mtime_ns), path
            expected = msgspec.structs.replace(expected, mtime_ns=entry.mtime_ns)
            if entry.mtime_ns % SECOND and surviving(before) == surviving(entry):
                expected = msgspec.structs.replace(expected, content=before.content)
        assert surviving(entry) == surviving(expected), path


@MANY
@given(steps(), steps())
def test_a_layer_upon_its_parent_is_the_tree(
    bodies: Bodies, first: Sequence[Step], then: Sequence[Step]
) -> None:
    model = done(Model.seeded(bodies.of_current), first)
    parent = bodies.parent(model.tree())
    current = done(model.copy(), then).tree()
    for below in (parent, whole(parent)):
        base = written(differ.diff(EMPTY, below))
        merged = applied([base])
        assert picture(merged) == picture(below)
        for seen in (below, merged):
            found = applied([base, written(differ.diff(seen, current))])
            check(below, current, found)


@MANY
@given(steps())
def test_nothing_has_changed(bodies: Bodies, todo: Sequence[Step]) -> None:
    tree = done(Model.seeded(bodies.of_current), todo).tree()
    base = written(differ.diff(EMPTY, tree))
    rounded = applied([written(differ.diff(EMPTY, whole(tree)))])
    for parent in (tree, bodies.parent(tree), applied([base]), whole(tree), rounded):
        assert list(differ.diff(parent, tree)) == []
        assert list(differ.diff(tree, parent)) == []


@MANY
@given(steps(), steps())
def test_only_what_differs_is_told(
    bodies: Bodies, first: Sequence[Step], then: Sequence[Step]
) -> None:
    model = done(Model.seeded(bodies.of_current), first)
    parent = model.tree()
    current = done(model.copy(), then).tree()
    links = {
        path for tree in (parent, current) for group in tree.links().values() for path in group
    }
    changes = list(differ.diff(parent, current))
    paths = [change.path for change in changes]
    assert len(set(paths)) == len(paths)
    for change in changes:
        below = f"{change.path}/"
        is_above = any(path.startswith(below) for path in paths)
        before = parent.get(change.path)
        assert before != change.entry or is_above or change.path in links
        assert change.entry == current.get(change.path)


# -- upper directories ----------------------------------------------------------------------------

MARKS = st.sampled_from(("whiteout", "attribute", "opaque", "opaque", "not opaque"))


def marked(model: Model, path: str, mark: str) -> None:
    """Put what an overlay mount leaves of a removed path, or of a directory that is made anew."""
    entry = model.entries.get(path)
    match mark:
        case "whiteout":
            model.put(path, {"": FileEntry("character device", inode=next(model.inodes))})
        case "attribute":
            made = FileEntry("file", inode=next(model.inodes))
            xattrs = {"trusted.overlay.whiteout": b""}
            model.put(path, {"": msgspec.structs.replace(made, xattrs=xattrs)})
        case _:
            if entry is None or entry.kind != "dir":
                model.make(path, "dir", {"mode": 0o750}, "")
            entry = model.entries[path]
            value = b"y" if mark == "opaque" else b"x"
            model.entries[path] = msgspec.structs.replace(
                entry, xattrs={**entry.xattrs, "user.overlay.opaque": value}
            )


def is_whiteout(entry: FileEntry) -> bool:
    if entry.kind == "character device":
        return entry.device == (0, 0)
    return "trusted.overlay.whiteout" in entry.xattrs


def mounted(lower: Tree, upper: Tree) -> Tree:
    """Return the tree that an overlay mount shows."""
    entries = {path: entry for path, entry in upper.items() if not is_whiteout(entry)}
    for path, entry in lower.items():
        if path not in upper and is_seen(path, upper):
            entries[path] = msgspec.structs.replace(entry, inode=-entry.inode)
    return Tree(entries)


def is_seen(path: str, upper: Tree) -> bool:
    """Return whether no upper entry hides a lower path."""
    parts = path.split("/")
    above = [upper.get("/".join(parts[:depth])) for depth in range(1, len(parts))]
    return all(
        entry.kind == "dir" and entry.xattrs.get("user.overlay.opaque") != b"y"
        for entry in above
        if entry is not None
    )


@MANY
@given(
    steps(),
    steps(("make", "change", "link")),
    st.lists(st.tuples(st.integers(0, 20), st.sampled_from(("", *NAMES)), MARKS), max_size=4),
)
def test_an_upper_directory_upon_its_lower_one(
    bodies: Bodies,
    first: Sequence[Step],
    then: Sequence[Step],
    marks: Sequence[tuple[int, str, str]],
) -> None:
    lower = done(Model.seeded(bodies.of_parent), first).tree()
    above = done(Model(bodies.of_current), then)
    for number, name, mark in marks:
        paths = sorted({*above.entries, *(path for path, _ in lower.items())})
        path = f"{paths[number % len(paths)]}/{name}".strip("/")
        if path:
            marked(above, path, mark)
    upper = above.tree()
    layers = [written(differ.diff(EMPTY, lower)), written(overlay.changes(upper))]
    assert picture(applied(layers)) == picture(mounted(lower, upper))

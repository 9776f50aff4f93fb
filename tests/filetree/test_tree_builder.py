"""The merged root made of tables is what the applier makes of the layers."""

import tarfile
import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.errors import BrokenArchive
from engine.filetree.entry import LayerSpan
from engine.filetree.entry_tree import ROOT, LeftOut
from engine.filetree.tree import Tree
from engine.filetree.tree_builder import TreeBuilder
from tests.filetree import oracle
from tests.filetree.layers import Member, directory, file, hardlink, layer, member, symlink
from tests.filetree.tables import built, placed, shown, stacked, table_of

_NAMES = st.sampled_from(["a", "b", "c"])
_PATHS = st.lists(_NAMES, min_size=1, max_size=3).map("/".join)


@st.composite
def entries(draw: st.DrawFn) -> Member:
    path = draw(_PATHS)
    above, _, name = path.rpartition("/")
    prefix = f"{above}/" if above else ""
    match draw(
        st.sampled_from(["file", "dir", "dir", "symlink", "hardlink", "whiteout", "opaque"])
    ):
        case "file":
            return file(path, draw(st.text("xy", max_size=2)))
        case "dir":
            return directory(path, draw(st.sampled_from([0o700, 0o755])))
        case "symlink":
            return symlink(path, draw(st.sampled_from(["a", "/b", "..", "../c", "a/b", "."])))
        case "hardlink":
            return hardlink(path, draw(_PATHS))
        case "whiteout":
            return file(f"{prefix}.wh.{name}")
        case _:
            return file(f"{prefix}.wh..wh..opq")


def some_layers() -> st.SearchStrategy[list[list[Member]]]:
    return st.lists(st.lists(entries(), max_size=8), min_size=1, max_size=4)


def applied(layers: Sequence[bytes]) -> Tree:
    applier = oracle.Applier()
    for number, data in enumerate(layers):
        applier.apply(oracle.read_layer(data, number))
    return applier.tree()


def fits(layers: Sequence[Sequence[Member]]) -> list[list[Member]]:
    """Return the layers without the members that the applier refuses."""
    kept: list[list[Member]] = []
    for members in layers:
        kept.append([])
        for one in members:
            kept[-1].append(one)
            try:
                applied([layer(*part) for part in kept])
            except BrokenArchive:
                kept[-1].pop()
    return kept


def summary(tree: Tree) -> dict[bytes, tuple[object, ...]]:
    groups = tree.links()
    return {
        path.encode(): (
            entry.kind,
            entry.mode,
            entry.size,
            entry.linkname,
            entry.content.layer if isinstance(entry.content, LayerSpan) else None,
            groups.get(entry.inode, [path])[0] if entry.kind != "dir" else path,
        )
        for path, entry in tree.items()
    }


@given(some_layers())
@example([[directory("a"), file("a/b")], [symlink("b", "a"), file("b/.wh.b"), file("b/c")]])
@example([[file("a/b")], [file("a"), directory("a")]])
def test_the_merged_root_is_what_the_applier_makes(layers: list[list[Member]]) -> None:
    kept = fits(layers)
    tree, _ = built(*kept)
    expected = summary(applied([layer(*members) for members in kept]))
    first: dict[object, str] = {}
    found = {}
    for path, node in sorted(tree.walk(), key=lambda pair: pair[0].replace(b"/", b"\0")):
        entry, place = tree.entry(node), tree.place(node)
        kind = entry.attributes.kind
        text = path.decode()
        found[path] = (
            kind,
            entry.attributes.mode,
            entry.size,
            entry.link.decode(),
            place.layer if place and kind == "file" else None,
            text if kind == "dir" else first.setdefault(place, text),
        )
        assert tree.find(path) == node
    assert found == expected
    assert tree.left_out == ()


@given(some_layers())
@example([[directory("a"), file("a/b")], [file(".wh.a"), directory("a")]])
@example([[file("a/b"), file("a/c")], [file("a/b"), file("a/.wh..wh..opq")]])
@example([[file("a/b")], [file("a"), directory("a")]])
@example([[file("a")], [hardlink("b", "a")]])
def test_the_changes_of_the_layers_stacked_are_the_root(layers: list[list[Member]]) -> None:
    tree, changes = built(*layers)
    assert stacked(changes) == placed(tree)


def test_changes_in_the_form_of_overlayfs() -> None:
    _, changes = built(
        [directory("d"), file("d/a"), file("d/b"), file("e/f"), file("g/h")],
        [file("d/.wh.a"), file("e/.wh..wh..opq"), file(".wh.g"), directory("g"), file("g/i")],
        [hardlink("new/link", "d/b")],
        [file("d/.wh.unknown")],
    )
    assert shown(changes[1]) == [
        "/", "d/", "d/a=whiteout", "e/!", "g/!", "g/i=1.4",
    ]  # fmt: skip
    assert shown(changes[2]) == ["/", "d/", "d/b=0.2", "new/", "new/link=0.2"]
    assert shown(changes[3]) == ["/"]
    assert changes[2].links(changes[2].find(b"d/b") or 0) == 2


def test_entries_that_break_a_rule_are_left_out() -> None:
    tree, _ = built(
        [file("a"), directory("d"), file("b")],
        [
            hardlink("one", "none"),
            hardlink("two", "d"),
            file(".wh."),
            symlink("loop", "loop"),
            file("loop/x"),
            member("odd", b"Z"),
            file("last"),
        ],
    )
    assert shown(tree) == ["/", "a=0.0", "b=0.2", "d/", "last=1.6", "loop=1.3"]
    assert [(one.path, one.reason) for one in tree.left_out] == [
        (b"one", "is a hard link of what is not there: none"),
        (b"two", "is a hard link of a directory: d"),
        (b".wh.", "is a whiteout of no name"),
        (b"loop/x", "leads through more than 255 symlinks"),
        (b"odd", "is of a type that layers do not have"),
    ]


def test_a_name_that_is_too_long_for_a_file_system_is_left_out() -> None:
    long = "n" * 256
    tree, _ = built([file("n" * 255), file(long), directory(f"d/{long}"), file(f"{long}/x")])
    assert shown(tree) == ["/", "d/", f"{'n' * 255}=0.0"]
    assert {one.reason for one in tree.left_out} == {
        "has a name of 256 bytes: file systems take 255"
    }
    assert len(tree.left_out) == 3


def test_what_symlinks_add_to_a_path_counts_though_it_is_not_walked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("engine.filetree.tree_builder._MAX_STEPS", 100_000)
    tree, _ = built([symlink("loop", "loop/" + "a/" * 1000), file("loop/x"), file("y")])
    assert shown(tree) == ["/", "loop=0.0"]
    assert [(one.path, one.reason) for one in tree.left_out] == [
        (b"loop/x", "leads through more than 255 symlinks"),
        (b"", "is too large: the layers have more than 100000 entries and names on their paths"),
    ]


def test_entries_that_are_there_already_count_as_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.filetree.tree_builder._MAX_STEPS", 1000)
    table = table_of(layer(*(file(f"f{n}") for n in range(300))))
    builder = TreeBuilder()
    for _ in range(3):
        builder.apply(table)
    assert not builder.left_out
    assert not builder.excess
    builder.apply(table)
    (left,) = builder.left_out
    assert (left.layer, left.path, left.reason) == (3, b"", builder.excess)
    assert "the layers have more than 1000 entries" in builder.excess


FILES = [file(f"d/{n}") for n in range(600)]
REMOVALS: dict[str, list[Member]] = {
    "repeated": FILES,
    "whiteout": [file(".wh.d")],
    "whiteouts": [file(f"d/.wh.{n}") for n in range(600)],
    "opaque": [file("d/.wh..wh..opq")],
    "opaque root": [file(".wh..wh..opq")],
    "file": [file("d")],
    "whiteout and directory": [directory("d"), file(".wh.d")],
}


@pytest.mark.parametrize("kind", REMOVALS)
def test_what_is_removed_does_not_count_any_more(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.filetree.tree_builder.MAX_NODES", 650)
    tree, _ = built(*(4 * [FILES, REMOVALS[kind], [directory("d")]]), FILES)
    assert not tree.left_out
    assert len(tree) == 602


def test_a_path_that_is_too_long_for_linux_is_left_out() -> None:
    longest = "a/" * 2047 + "f"
    way = "b/" * 2000
    tree, _ = built(
        [
            file(longest),
            file(longest + "f"),
            directory(longest[:-1] + "d/d"),
            file("a/" * 32_000 + ".wh.x"),
            symlink("s", way),
            file("s/" + "b/" * 40 + "f"),
            file("s/" + "b/" * 50 + "f"),
            directory("s/" + "b/" * 50 + "d"),
        ]
    )
    assert {len(path) for path, _ in tree.walk() if path.endswith(b"f")} == {4081, 4095}
    assert [one.reason for one in tree.left_out] == [
        f"has a path of {size} bytes: file systems take 4095"
        for size in (4096, 4097, 64_005, 4101, 4101)
    ]
    assert max(len(path) for path, _ in tree.walk()) == 4095


def test_a_walk_keeps_the_path_of_one_directory() -> None:
    """Not one for each entry in it."""
    deep = "d" * 255 + "/"
    tree, _ = built([file(f"{deep * 15}{n}") for n in range(5000)])
    tracemalloc.start()
    try:
        assert sum(1 for _ in tree.walk()) == 5016
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_a_symlink_that_is_too_long_for_linux_is_shown_and_leads_nowhere() -> None:
    longest, too_long = "./" * 2047 + "d", "./" * 2047 + "/d"
    tree, _ = built(
        [
            directory("d"),
            symlink("a", longest),
            symlink("b", too_long),
            file("a/in"),
            file("b/x"),
            file("b/.wh.in"),
            hardlink("link", "b/in"),
        ]
    )
    assert shown(tree) == ["/", "a=0.1", "b=0.2", "d/", "d/in=0.3"]
    assert tree.entry(tree.find(b"b") or 0).link == too_long.encode()
    assert {one.reason for one in tree.left_out} == {
        "leads through a symlink to a path of 4096 bytes: file systems take 4095"
    }
    assert len(tree.left_out) == 3


def test_a_device_that_cannot_be_is_left_out() -> None:
    device = member("dev", tarfile.CHRTYPE, devmajor=1 << 33, devminor=0)
    builder = TreeBuilder()
    builder.apply(table_of(layer(device, format_=tarfile.GNU_FORMAT)))
    (found,) = builder.left_out
    assert found.reason == "has device numbers that no device has: (8589934592, 0)"


def test_what_is_left_out_is_counted_after_the_first_thousand() -> None:
    tree, _ = built([hardlink(f"{n}", "none") for n in range(1002)])
    assert len(tree.left_out) == 1001
    assert tree.left_out[-1] == LeftOut(0, b"", "2 more entries are left out")


def test_a_layer_that_cannot_be_read_is_left_out() -> None:
    builder = TreeBuilder()
    builder.apply(table_of(layer(file("a"))))
    builder.leave_out("is encrypted")
    builder.apply(table_of(layer(file("b"))[:700]))
    tree = builder.tree()
    assert shown(tree) == ["/", "a=0.0", "b=2.0"]
    assert [one.layer for one in tree.left_out] == [1, 2]
    assert tree.left_out[0].reason == "is encrypted"
    assert "truncated" in tree.left_out[1].reason


def test_a_tree_is_looked_up_by_name() -> None:
    tree, _ = built([file(f"d/{n}") for n in range(300)])
    found = tree.find(b"d")
    assert found is not None
    assert [tree.name(node) for node in tree.children(found)] == sorted(
        f"{n}".encode() for n in range(300)
    )
    assert tree.find(b"d/300") is None
    assert tree.find(b"d/1/2") is None
    assert tree.find(b"none/none") is None
    assert tree.find(b"") == ROOT
    assert len(tree) == 302


def test_links_of_a_file_are_counted() -> None:
    tree, _ = built([file("a"), hardlink("b", "a"), file("c")], [hardlink("d", "b"), file(".wh.a")])
    assert [tree.links(tree.find(name) or 0) for name in (b"b", b"c", b"d")] == [2, 1, 2]

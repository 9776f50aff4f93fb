"""Paths in a merged root."""

import pytest

from engine.errors import InvalidInput, NotFound
from engine.filetree.root_paths import left_out_below, resolved, selection
from tests.filetree.layers import directory, file, hardlink, symlink
from tests.filetree.tables import built

ROOT, _ = built(
    [
        directory("usr/lib"),
        file("usr/lib/a"),
        file("usr/lib-b"),
        file("usr/lib!"),
        symlink("lib", "usr/lib"),
        symlink("abs", "/lib"),
        symlink("out", "../../../usr"),
        symlink("usr/up", "../lib"),
        symlink("loop", "loop"),
        symlink("dangling", "no/where"),
        symlink("to-file", "usr/lib/a"),
    ]
)


@pytest.mark.parametrize(
    ("path", "found"),
    {
        "": "",
        "/": "",
        ".": "",
        "..": "",
        "usr//lib/./a": "usr/lib/a",
        "/usr/lib/a": "usr/lib/a",
        "../usr/lib": "usr/lib",
        "lib": "lib",
        "lib/": "usr/lib",
        "lib/.": "usr/lib",
        "lib/..": "usr",
        "lib/a": "usr/lib/a",
        "abs/a": "usr/lib/a",
        "out/lib/a": "usr/lib/a",
        "usr/up/a": "usr/lib/a",
        "dangling": "dangling",
        "loop": "loop",
    }.items(),
)
def test_paths_are_resolved_inside_the_root(path: str, found: str) -> None:
    place, node = resolved(ROOT, path.encode())
    assert place == found.encode()
    assert node == ROOT.find(found.encode())


@pytest.mark.parametrize(
    "path", ["no", "usr/lib/no", "usr/lib/a/", "usr/lib/a/.", "usr/lib/a/..", "dangling/x"]
)
def test_a_path_that_is_missing(path: str) -> None:
    with pytest.raises(NotFound, match=f"^path {path}: not found$"):
        resolved(ROOT, path.encode())


def test_a_file_is_no_directory() -> None:
    with pytest.raises(NotFound):
        resolved(ROOT, b"to-file/")


def test_symlinks_without_an_end() -> None:
    with pytest.raises(InvalidInput, match="loop/x: leads through more than 255 symlinks"):
        resolved(ROOT, b"loop/x")


def test_what_is_left_out_below_a_directory_may_be_spelled_through_symlinks() -> None:
    tree, _ = built(
        [
            directory("usr/lib"),
            directory("etc"),
            symlink("lib", "usr/lib"),
            symlink("new", "usr/./none/../none"),
            symlink("loop", "loop"),
        ],
        [
            hardlink("lib/bad", "nothing"),
            hardlink("lib/below/bad", "nothing"),
            file(f"new/deep/{'n' * 256}"),
            hardlink("etc/bad", "nothing"),
            file("loop/x"),
            hardlink("lib-b", "nothing"),
        ],
    )
    long = b"new/deep/" + b"n" * 256
    expected = {
        b"": [b"lib/bad", b"lib/below/bad", long, b"etc/bad", b"loop/x", b"lib-b"],
        b"usr": [b"lib/bad", b"lib/below/bad", long],
        b"usr/lib": [b"lib/bad", b"lib/below/bad"],
        b"usr/lib/below": [b"lib/below/bad"],
        b"usr/none": [long],
        b"etc": [b"etc/bad"],
        b"loop": [b"loop/x"],
    }
    for path, found in expected.items():
        assert [one.path for one in left_out_below(tree, path)] == found


def chosen(*paths: bytes) -> list[bytes]:
    return [path for path, _ in selection(ROOT, paths)]


def test_a_selection_holds_each_entry_once_in_order() -> None:
    assert chosen(b"usr/lib/a", b"/usr/lib", b"lib/a", b"usr/lib-b", b"abs", b"usr/lib!") == [
        b"abs",
        b"usr/lib",
        b"usr/lib/a",
        b"usr/lib!",
        b"usr/lib-b",
    ]
    assert chosen(b"/", b"usr") == [path for path, _ in ROOT.walk()]

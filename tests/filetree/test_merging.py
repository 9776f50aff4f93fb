import tarfile
import zlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import BrokenArchive, EngineError
from engine.filetree.entry import NO_XATTRS, FileEntry, LayerSpan
from tests.filetree.layers import (
    Member,
    Shown,
    applied,
    directory,
    fifo,
    file,
    hardlink,
    layer,
    member,
    merged,
    shown,
    symlink,
    with_xattrs,
)
from tests.tar import raw_tar

Layers = list[list[Member]]

HOME = [directory("home"), file("home/old", "1"), directory("home/sub"), file("home/sub/x", "2")]

HIDDEN: dict[str, tuple[Layers, Shown]] = {
    "a file": ([HOME, [file("home/.wh.old")]], {"home/": "", "home/sub/": "", "home/sub/x": "=2"}),
    "a directory": ([HOME, [file("home/.wh.sub")]], {"home/": "", "home/old": "=1"}),
    "a hidden file": ([[file(".rc")], [file(".wh..rc")]], {}),
    "a symlink, not what it leads to": (
        [[*HOME, symlink("s", "home")], [file(".wh.s")]],
        merged(HOME),
    ),
    "nothing": ([HOME, [file("none/.wh.x"), file("home/.wh.none")]], merged(HOME)),
    "nothing below a file": ([[file("f", "1")], [file("f/.wh.x")]], {"f": "=1"}),
    "something through a symlink": (
        [[*HOME, symlink("s", "/home/sub")], [file("s/.wh.x")]],
        {"home/": "", "home/old": "=1", "home/sub/": "", "s": "→/home/sub"},
    ),
    "something by an entry of any type": ([[file("f")], [directory(".wh.f")]], {}),
    "a name of dots": ([[file("...")], [file(".wh....")]], {}),
    "all, by an opaque marker": ([HOME, [file("home/.wh..wh..opq")]], {"home/": ""}),
    "all of the root": ([HOME, [file(".wh..wh..opq"), file("f", "3")]], {"f": "=3"}),
    "all through a symlink": (
        [[*HOME, symlink("s", "home")], [file("s/.wh..wh..opq")]],
        {"home/": "", "s": "→home"},
    ),
    "nothing by a marker of nothing": ([HOME, [file("none/.wh..wh..opq")]], merged(HOME)),
    "no file of the same layer": ([[file("f", "1")], [file("f", "2"), file(".wh.f")]], {"f": "=2"}),
    "what was there before the same layer's": (
        [HOME, [file(".wh.home"), directory("home"), file("home/new", "3")]],
        {"home/": "", "home/new": "=3"},
    ),
    "what was there around the same layer's": (
        [HOME, [file("home/sub/new", "3"), file(".wh.home")]],
        {"home/": "", "home/sub/": "", "home/sub/new": "=3"},
    ),
    "nothing of the same layer by a marker at its end": (
        [HOME, [file("home/sub/new", "3"), file("home/old", "4"), file("home/.wh..wh..opq")]],
        {"home/": "", "home/old": "=4", "home/sub/": "", "home/sub/new": "=3"},
    ),
    "as often as it is told": (
        [
            HOME,
            [
                file("home/.wh..wh..opq"),
                file("home/new", "3"),
                file("home/.wh..wh..opq"),
                file(".wh.home"),
            ],
        ],
        {"home/": "", "home/new": "=3"},
    ),
    "only what is below": (
        [[file("a/b/c", "1"), file("a/bc", "2")], [file("a/.wh.b")]],
        {"a/": "", "a/bc": "=2"},
    ),
    "a prefix within a path is a name": (
        [[file("x/f", "1")], [file(".wh.x/f", "2")]],
        {".wh.x/": "", ".wh.x/f": "=2", "x/": "", "x/f": "=1"},
    ),
    "aufs has its own, which hide nothing": ([[file("f")], [file(".wh..wh.aufs")]], {"f": "="}),
    "one of two hard links": (
        [[file("f", "1"), hardlink("g", "f")], [file(".wh.f")]],
        {"g": "=1"},
    ),
}

REPLACED: dict[str, tuple[Layers, Shown]] = {
    "a file by a file": ([[file("f", "1")], [file("f", "2")]], {"f": "=2"}),
    "a file twice in one layer": ([[file("f", "1"), file("f", "2")]], {"f": "=2"}),
    "a directory by a file": ([HOME, [file("home", "3")]], {"home": "=3"}),
    "a file by a directory": (
        [[file("f", "1")], [directory("f"), file("f/g")]],
        merged([file("f/g")]),
    ),
    "a directory by a symlink": (
        [HOME, [symlink("home", "else"), file("home/new", "3")]],
        {"else/": "", "else/new": "=3", "home": "→else"},
    ),
    "a symlink by a directory": (
        [[*HOME, symlink("s", "home")], [directory("s"), file("s/new", "3")]],
        merged([*HOME, directory("s"), file("s/new", "3")]),
    ),
    "a symlink by a file": (
        [[*HOME, symlink("s", "home/old")], [file("s", "3")]],
        merged([*HOME, file("s", "3")]),
    ),
    "a file by a fifo": ([[file("f", "1")], [fifo("f")]], {"f": "fifo"}),
    "a file on the way by a directory": (
        [[file("f", "1")], [file("f/g/h", "2")]],
        {"f/": "", "f/g/": "", "f/g/h": "=2"},
    ),
    "one of two hard links": (
        [[file("f", "1"), hardlink("g", "f")], [file("f", "2")]],
        {"f": "=2", "g": "=1"},
    ),
    "nothing of a directory by a directory": ([HOME, [directory("home", 0o700)]], merged(HOME)),
}

NAMED: dict[str, tuple[Layers, Shown]] = {
    "from the root": ([[directory("/d"), file("/d/f", "1")]], {"d/": "", "d/f": "=1"}),
    "with dots": ([[file("./d//./f/", "1")]], {"d/": "", "d/f": "=1"}),
    "with dots that cancel a name": ([[file("x/../f", "1")]], {"f": "=1"}),
    "from above the root": ([[file("../../f", "1"), file("/../g", "2")]], {"f": "=1", "g": "=2"}),
    "as the root, or nothing": (
        [[symlink("", "/etc"), file("..", "x"), file(".", "x"), file("f", "1")]],
        {"f": "=1"},
    ),
    "oddly": (
        [[file("a\nb", "1"), file(" ", "2"), file("é", "3"), file("\udcff", "4"), file("-x", "5")]],
        {" ": "=2", "-x": "=5", "a\nb": "=1", "é": "=3", "\udcff": "=4"},
    ),
    "at length": (
        [[file("d" * 200 + "/" + "f" * 200, "1")]],
        merged([file("d" * 200 + "/" + "f" * 200, "1")]),
    ),
    "below an absolute symlink": (
        [[directory("d"), symlink("a/s", "/d"), file("a/s/f", "1")]],
        {"a/": "", "a/s": "→/d", "d/": "", "d/f": "=1"},
    ),
    "below a symlink beside": (
        [[symlink("a/s", "d"), file("a/s/f", "1")]],
        {"a/": "", "a/d/": "", "a/d/f": "=1", "a/s": "→d"},
    ),
    "below symlinks of symlinks": (
        [[directory("x/y"), symlink("s", "t/y"), symlink("t", "./x/"), file("s/f", "1")]],
        {"s": "→t/y", "t": "→./x/", "x/": "", "x/y/": "", "x/y/f": "=1"},
    ),
    "below a symlink out of the root": (
        [[symlink("a/s", "../../../../etc"), file("a/s/f", "1")]],
        {"a/": "", "a/s": "→../../../../etc", "etc/": "", "etc/f": "=1"},
    ),
    "below a symlink to the root": (
        [[symlink("s", ".."), file("s/f", "1")]],
        {"f": "=1", "s": "→.."},
    ),
    "below a dangling symlink with dots": (
        [[symlink("s", "no/../such"), file("s/f", "1")]],
        {"s": "→no/../such", "such/": "", "such/f": "=1"},
    ),
    "as the symlink that it is": ([[symlink("s", "../x//y/.")]], {"s": "→../x//y/."}),
}

CASES = {f"hides {k}": v for k, v in HIDDEN.items()}
CASES |= {f"replaces {k}": v for k, v in REPLACED.items()}
CASES |= {f"names {k}": v for k, v in NAMED.items()}


@pytest.mark.parametrize(("layers", "expected"), CASES.values(), ids=CASES)
def test_layers_make_a_tree(layers: Layers, expected: Shown) -> None:
    assert merged(*layers) == expected


# -- hard links -----------------------------------------------------------------------------------

LINKED: dict[str, tuple[Layers, list[list[str]]]] = {
    "relative to the root": ([[file("d/f"), hardlink("d/g", "d/f")]], [["d/f", "d/g"]]),
    "absolute": ([[file("d/f"), hardlink("g", "/d/f")]], [["d/f", "g"]]),
    "from above the root": ([[file("f"), hardlink("d/g", "../../f")]], [["d/g", "f"]]),
    "through a symlink": (
        [[file("d/f"), symlink("s", "/x/../../d"), hardlink("g", "s/f")]],
        [["d/f", "g"]],
    ),
    "of a symlink": ([[symlink("s", "f"), hardlink("t", "s"), file("f")]], [["s", "t"]]),
    "of a hard link": ([[file("a"), hardlink("b", "a"), hardlink("c", "b")]], [["a", "b", "c"]]),
    "of a lower layer's file": ([[file("a")], [hardlink("b", "a")]], [["a", "b"]]),
    "of two files": (
        [[file("a"), file("b"), hardlink("c", "a"), hardlink("d", "b")]],
        [["a", "c"], ["b", "d"]],
    ),
    "over something": ([[file("a"), file("b")], [hardlink("b", "a")]], [["a", "b"]]),
    "of a file that is replaced": ([[file("a"), hardlink("b", "a"), file("a")]], []),
    "of a fifo": ([[fifo("a"), hardlink("b", "a")]], [["a", "b"]]),
}


@pytest.mark.parametrize(("layers", "expected"), LINKED.values(), ids=LINKED)
def test_hard_links(layers: Layers, expected: list[list[str]]) -> None:
    assert sorted(applied([layer(*m) for m in layers]).links().values()) == expected


def test_a_hard_link_has_the_attributes_of_its_file() -> None:
    tree = applied(
        [layer(file("a", "1", mode=0o600, uid=3), hardlink("b", "a", mode=0o777, uid=4))]
    )
    assert tree["a"] == tree["b"]
    assert (tree["a"].mode, tree["a"].uid) == (0o600, 3)


# -- attributes -----------------------------------------------------------------------------------


def only(*members: Member, format_: int = tarfile.PAX_FORMAT) -> FileEntry:
    tree = applied([layer(*members, format_=format_)])
    return tree[members[-1][0].name]


def test_the_attributes_of_a_file() -> None:
    records = {"mtime": "12.000000034", "SCHILY.xattr.user.a": "x"}
    told = member(
        "f", content=b"abc", records=records, mode=0o104755, uid=1 << 21, gid=5_000_000_000
    )
    data = layer(told)
    assert applied([data])["f"] == FileEntry(
        "file",
        0o4755,
        1 << 21,
        5_000_000_000,
        12_000_000_034,
        3,
        xattrs={"user.a": b"x"},
        inode=2,
        content=LayerSpan(0, 0, zlib.crc32(b"abc") << 32 | zlib.adler32(b"abc")),
    )


@pytest.mark.parametrize("mode", [0, 0o755, 0o1777, 0o2755, 0o6711])
def test_modes_have_setuid_setgid_and_sticky(mode: int) -> None:
    assert only(file("f", mode=mode)).mode == only(directory("d", mode)).mode == mode


def test_times_before_1970() -> None:
    assert only(file("f", mtime=-5)).mtime_ns == -5_000_000_000


def test_devices() -> None:
    character = member("c", tarfile.CHRTYPE, devmajor=1, devminor=3)
    block = member("b", tarfile.BLKTYPE, devmajor=259, devminor=1 << 19)
    assert (only(character).kind, only(character).device) == ("character device", (1, 3))
    assert (only(block).kind, only(block).device) == ("block device", (259, 1 << 19))


def test_directories_that_nobody_told() -> None:
    tree = applied([layer(file("a/b/f", mode=0o600, uid=5, gid=6, mtime=7))])
    for path in ("", "a", "a/b"):
        found = tree[path]
        assert (found.kind, found.mode, found.uid, found.gid, found.mtime_ns) == (
            "dir",
            0o755,
            0,
            0,
            0,
        )


@pytest.mark.parametrize("name", ["a", "./", "/"])
def test_a_directory_that_is_told_again_has_its_last_attributes(name: str) -> None:
    first = with_xattrs(name, tarfile.DIRTYPE, {"user.a": "x"}, mode=0o700, uid=1, mtime=1)
    second = directory(name, 0o711, uid=2, mtime=2)
    kept = file("a/f", "1")
    for layers in ([[first, kept, second]], [[first, kept], [second]]):
        made = [layer(*members) for members in layers]
        tree = applied(made)
        found = tree[name.strip("./")]
        assert (found.mode, found.uid, found.mtime_ns) == (0o711, 2, 2_000_000_000)
        assert found.xattrs == {}
        assert shown(tree, made)["a/f"] == "=1"


def test_a_file_that_is_replaced_loses_its_extended_attributes() -> None:
    layers = [layer(with_xattrs("f", tarfile.REGTYPE, {"user.a": "x"})), layer(file("f"))]
    assert applied(layers)["f"].xattrs == {}


def test_overlay_attributes_are_no_part_of_an_image() -> None:
    names = ("trusted.overlay.opaque", "user.overlay.opaque", "security.capability")
    told = with_xattrs("d", tarfile.DIRTYPE, dict.fromkeys(names, "y"))
    layers = [layer(directory("d"), file("d/f", "1")), layer(told)]
    tree = applied(layers)
    assert tree["d"].xattrs == {"security.capability": b"y"}
    assert "d/f" in tree


def test_entries_without_extended_attributes_share_them() -> None:
    assert only(file("f")).xattrs is NO_XATTRS


# -- what is refused ------------------------------------------------------------------------------

REFUSED: dict[str, tuple[bytes, str]] = {
    "a whiteout of nothing": (layer(file("d/.wh.")), r"d/\.wh\.: is a whiteout of no name"),
    "a whiteout of the directory": (layer(file("d/.wh..")), "is a whiteout of no name"),
    "a whiteout of the one above": (layer(file("d/.wh...")), "is a whiteout of no name"),
    "a link of nothing": (layer(hardlink("b", "a")), "b: is a hard link of what is not there: a"),
    "a link of what comes later": (layer(hardlink("b", "a"), file("a")), "is not there"),
    "a link of itself": (layer(file("a"), hardlink("a", "a")), "is not there"),
    "a link of a directory": (
        layer(directory("a"), hardlink("b", "a")),
        "b: is a hard link of a directory: a",
    ),
    "a link of the root": (layer(hardlink("b", "..")), "is a hard link of a directory"),
    "a link below a file": (layer(file("a"), hardlink("b", "a/c")), "is not there"),
    "a loop of symlinks": (
        layer(symlink("a", "b"), symlink("b", "a"), file("a/f")),
        "a/f: leads through more than 255 symlinks",
    ),
    "a device number too large": (
        layer(
            member("d", tarfile.BLKTYPE, devmajor=1 << 32, devminor=0),
            format_=tarfile.GNU_FORMAT,
        ),
        "d: has device numbers that no device has",
    ),
    "a type that is not known": (
        raw_tar.header(b"m", flag=b"M") + raw_tar.END,
        "m: is of a type that layers do not have",
    ),
}


@pytest.mark.parametrize(("data", "reason"), REFUSED.values(), ids=REFUSED)
def test_refuses(data: bytes, reason: str) -> None:
    with pytest.raises(BrokenArchive, match=reason):
        applied([data])


def test_takes_as_many_symlinks_as_others_do() -> None:
    chain = [symlink(f"s{n}", f"s{n + 1}") for n in range(255)]
    assert "s255/f" in applied([layer(*chain, file("s0/f"))])


def test_the_root_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.filetree.tree_builder.MAX_NODES", 1000)
    assert len(applied([layer(file("d/" * 900 + "f"))])) == 902
    with pytest.raises(BrokenArchive, match="is too large: the root has more than 1000 entries"):
        applied([layer(file("d/" * 1001 + "f"))])


def test_walking_through_symlinks_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.filetree.tree_builder._MAX_STEPS", 2000)
    walks = [file(f"s/f{n}") for n in range(1000)]
    applied([layer(directory("s"), *walks)])
    with pytest.raises(BrokenArchive, match="is too large"):
        applied([layer(symlink("s", "d/../d/../d"), *walks)])


# -- properties -----------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c", "..", ".", "", ".wh.a", ".wh.b", ".wh..wh..opq", ".wh."])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
HOSTILE = st.one_of(
    st.builds(file, PATHS, st.text("xy", max_size=3)),
    st.builds(directory, PATHS),
    st.builds(symlink, PATHS, PATHS),
    st.builds(hardlink, PATHS, PATHS),
    st.builds(fifo, PATHS),
)


@given(st.lists(st.lists(HOSTILE, max_size=8), max_size=3))
def test_nothing_escapes_the_root(layers: Layers) -> None:
    try:
        tree = applied([layer(*members) for members in layers])
    except EngineError:
        return
    for path, entry in tree.items():
        if path:
            above, _, name = path.rpartition("/")
            assert name not in ("", ".", "..")
            assert tree[above].kind == "dir"
            assert name in tree.children(above)
            assert entry.inode
    assert tree[""].kind == "dir"


LEAVES = st.lists(st.sampled_from(["a", "b", "c"]), max_size=2).map("/".join)
FILES = st.dictionaries(LEAVES, st.text("xy", max_size=2), max_size=5)
MARKERS = st.lists(
    st.builds(lambda d, n: f"{d}/{n}", LEAVES, st.sampled_from([".wh.a", ".wh.b", ".wh..wh..opq"]))
)


@st.composite
def layers_and_another_order(draw: st.DrawFn) -> tuple[Layers, list[Member]]:
    lower = [file(f"{path}/f", text) for path, text in draw(FILES).items()]
    files = [file(f"{path}/f", text) for path, text in draw(FILES).items()]
    markers = [file(name) for name in draw(MARKERS)]
    upper = draw(st.permutations([*files, *markers]))
    return [lower, list(upper)], [*markers, *files]


@given(layers_and_another_order())
def test_it_does_not_matter_where_a_marker_stands(drawn: tuple[Layers, Sequence[Member]]) -> None:
    (lower, upper), markers_first = drawn
    assert merged(lower, upper) == merged(lower, markers_first)

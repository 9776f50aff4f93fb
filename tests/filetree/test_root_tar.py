"""A merged root as a tar archive, read back by Python and by this package."""

import io
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import DamagedLayer
from engine.filetree.merged import merged_root
from engine.filetree.root_paths import selection
from engine.filetree.root_tar import content_size, root_tar
from engine.layers.layer import Layers
from engine.spec.digest import Digest
from engine.spec.oci import Manifest
from engine.stores.local.store import LocalStore
from tests.filetree.layers import (
    Member,
    applied,
    directory,
    file,
    hardlink,
    layer,
    member,
    stored,
    symlink,
    with_xattrs,
)
from tests.filetree.sparse import LAYER, SPARSE_CONTENT
from tests.stores.memory import MemoryStore
from tests.trees import picture


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> MemoryStore:
    return MemoryStore(tmp_path_factory.mktemp("store"))


class Exported:
    """The archive of the root of some layers, or of parts of it."""

    def __init__(self, store: MemoryStore, layers: Sequence[bytes], *paths: bytes) -> None:
        manifest: Manifest = stored(store, layers)
        opened = Layers(store.content, store.tables, store.directory)
        root = merged_root(opened, manifest)
        sizes: list[int] = []
        chosen = list(selection(root, paths or (b"",)))
        pieces = list(root_tar(opened, manifest.layers, root, chosen, sizes.append))
        opened.close()
        self.data = b"".join(pieces)
        self.largest = max(map(len, pieces))
        assert sum(sizes) == content_size(root, chosen)

    def members(self) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
        with tarfile.open(fileobj=io.BytesIO(self.data), errors="surrogateescape") as tar:
            for found in tar:
                content = tar.extractfile(found) if found.isreg() else None
                yield found, content.read() if content else b""

    @property
    def names(self) -> list[str]:
        return [found.name for found, _ in self.members()]


ODD = [
    layer(
        directory(".", mode=0o750, mtime=7),
        directory("d", mode=0o1777, uid=3_000_000, gid=5),
        file("d/a", "x" * 3_000_000, mode=0o6755, mtime=-5),
        with_xattrs("d/x", tarfile.REGTYPE, {"security.capability": "c"}),
        member("d/y", records={"LIBARCHIVE.xattr.user.a%3Db": "dgo"}),
        symlink("d/s", "t" * 200),
        member("d/null", tarfile.CHRTYPE, devmajor=1, devminor=3),
        member("d/disk", tarfile.BLKTYPE, devmajor=259, devminor=70_000),
        member("d/pipe", tarfile.FIFOTYPE),
        member("d/ns", records={"mtime": "1600000000.123456789"}),
        file("n" * 120 + "/é\udcff", "deep"),
        file("gone"),
    ),
    layer(file(".wh.gone"), hardlink("a-hard", "d/a"), hardlink("z-hard", "d/a")),
    LAYER,
]


def test_every_kind_of_entry_comes_back(store: MemoryStore) -> None:
    exported = Exported(store, ODD)
    assert picture(applied([exported.data])) == picture(applied(ODD))
    assert exported.largest <= 1 << 20
    assert exported.data == Exported(store, ODD).data


def test_what_python_reads_of_it(store: MemoryStore) -> None:
    found = {one.name: (one, content) for one, content in Exported(store, ODD).members()}
    assert found["."][0].mode == 0o750
    assert found["sparse"][1] == SPARSE_CONTENT
    assert found["a-hard"][0].isreg()
    assert (found["d/a"][0].linkname, found["z-hard"][0].linkname) == ("a-hard", "a-hard")
    assert found["d/x"][0].pax_headers["SCHILY.xattr.security.capability"] == "c"
    assert found["d/y"][0].pax_headers["LIBARCHIVE.xattr.user.a%3Db"] == "dgo"
    assert found["d/ns"][0].pax_headers["mtime"] == "1600000000.123456789"
    assert "gone" not in found


def test_entries_are_in_the_order_of_the_tree(store: MemoryStore) -> None:
    exported = Exported(store, [layer(file("b"), file("a/x"), file("a!"), directory("a"))])
    assert exported.names == ["a", "a/x", "a!", "b"]


def test_parts_of_a_root(store: MemoryStore) -> None:
    exported = Exported(store, ODD, b"z-hard", b"d/a", b"/d/s")
    assert exported.names == ["d/a", "d/s", "z-hard"]
    assert [found.linkname for found, _ in exported.members()] == ["", "t" * 200, "d/a"]


def test_a_root_that_no_layer_lists_is_not_written(store: MemoryStore) -> None:
    assert Exported(store, []).names == []
    assert Exported(store, [layer(file("d/a"))]).names == ["d", "d/a"]


def test_holes_are_not_written(store: MemoryStore) -> None:
    sparse = layer(
        member(
            "huge",
            content=b"1\n0\n3\n".ljust(512, b"\0") + b"abc",
            records={
                "GNU.sparse.major": "1",
                "GNU.sparse.minor": "0",
                "GNU.sparse.name": "huge",
                "GNU.sparse.realsize": str(64 << 20),
            },
        )
    )
    exported = Exported(store, [sparse])
    assert len(exported.data) < 10_000
    with tarfile.open(fileobj=io.BytesIO(exported.data)) as tar:
        (found,) = tar
        assert (found.name, found.size) == ("huge", 64 << 20)


def test_a_layer_that_has_changed(tmp_path: Path) -> None:
    with LocalStore.create(tmp_path / "store") as local:
        manifest = stored(local, [layer(file("a", "abc"))])
        opened = Layers(local.content, local.tables, local.directory)
        root = merged_root(opened, manifest)
        path = local.content.path(Digest(manifest.layers[0].digest))
        path.chmod(0o600)
        path.write_bytes(bytes(manifest.layers[0].size))
        with pytest.raises(DamagedLayer, match="is damaged in the store"):
            list(root_tar(opened, manifest.layers, root, root.walk(), abs))
        opened.close()


NAMES = st.sampled_from(["a", "b", "d", "d/a", "d/b", "d/e", "d/e/a", "\udcff"])
MEMBERS = st.one_of(
    st.builds(directory, NAMES, st.sampled_from([0o700, 0o1755])),
    st.builds(file, NAMES, st.text("xyz", max_size=5), mtime=st.integers(-9, 9)),
    st.builds(symlink, NAMES, NAMES),
    st.builds(hardlink, NAMES, NAMES),
    st.builds(file, NAMES.map(lambda name: f".wh.{name}" if "/" not in name else "d/.wh.a")),
)
LAYERS = st.lists(st.lists(MEMBERS, max_size=6), min_size=1, max_size=4)


@settings(deadline=None)
@given(LAYERS)
def test_the_root_of_an_export_is_the_root(store: MemoryStore, layers: list[list[Member]]) -> None:
    made = [layer(*members) for members in layers]
    exported = Exported(store, made)
    again = Exported(store, [exported.data])
    assert again.data == exported.data

"""Tests of the tree of names, with arbitrary image names."""

import errno
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import MissingContent
from engine.image import Image, TreeEntry
from engine.spec.oci import Descriptor
from imgfs.fuse.inodes import Inodes
from imgfs.vfs.names import FAMILIAR, SAFE, Names, without_colons
from imgfs.vfs.nodes import BytesFile, Directory, FixedDirectory, Node, is_directory
from imgfs.vfs.tree import ImageDirectory, ImageTree
from imgfs.vfs.views import CombinedView, DockerView, View
from tests import archives
from tests.archives import ImageParts
from tests.local_engine import LocalEngine

APP = ImageParts()
REGISTRIES = (
    "docker.io/library",
    "docker.io/a",
    "ghcr.io",
    "xn--a.example",
    "localhost:5000",
    "a:3/b",
)
PARTS = (
    *("a", "b", "a--b", "blobs", "import", "index.json"),
    *("additional-layers", "layers", "localhost", "oci-layout", "rootfs"),
)
NAMES = st.builds(
    lambda registry, parts, tag: f"{registry}/{'/'.join(parts)}:{tag}",
    st.sampled_from(REGISTRIES),
    st.lists(st.sampled_from(PARTS), min_size=1, max_size=3),
    st.sampled_from(("1", "3", "5000", "latest")),
)


@contextmanager
def tree(names: set[str], called: Names = FAMILIAR) -> Iterator[tuple[LocalEngine, ImageTree]]:
    """Yield a store in which one image has all these names, and its tree."""
    with tempfile.TemporaryDirectory() as folder, LocalEngine(Path(folder)) as engine:
        with engine.begin_import() as session:
            session.feed(archives.oci_archive((APP, None)))
            session.finish()
        (image,) = engine.images.all()
        with engine.store.transaction():
            for name in sorted(names):
                engine.images.create(Image(name, image.target))
        drop = FixedDirectory("import", {})
        yield engine, ImageTree(engine.store, CombinedView(), {"import": drop}, called)


def listed(directory: Directory, path: str = "") -> Iterator[tuple[str, Node]]:
    """Yield the path and node of everything below a directory, except inside image directories."""
    names = [name for name, _ in directory.children()]
    assert names == sorted(names)
    for name, node in directory.children():
        yield f"{path}{name}", node
        if not isinstance(node, ImageDirectory) and hasattr(node, "children"):
            yield from listed(node, f"{path}{name}/")  # type: ignore[arg-type]  # hasattr() narrows to no Directory


def found(directory: Directory, path: str) -> Node | None:
    """Return the node at a path, looked up name by name as the kernel does."""
    node: Node | None = directory
    for name in path.split("/"):
        assert node is not None
        if not hasattr(node, "lookup"):
            return None
        node = node.lookup(name)
        if node is None:
            return None
    return node


@settings(max_examples=60)
@given(st.sets(NAMES, min_size=1, max_size=6))
def test_every_listed_name_resolves_to_its_image(names: set[str]) -> None:
    with tree(names) as (engine, images):
        shown = dict(listed(images.root))
        for path, node in shown.items():
            known = found(images.root, path)
            assert known is not None
            assert known.key == node.key
        for place in engine.images.places():
            reached = found(images.root, place.path)
            if isinstance(reached, ImageDirectory):
                assert reached.place == place
                assert shown[place.path].key == reached.key
            else:
                assert hides(place.path), f"{place.path} is hidden"
            assert isinstance(found(images.root, place.image.target.digest), ImageDirectory)


@settings(max_examples=40)
@given(st.sets(NAMES, min_size=1, max_size=6))
def test_names_without_colons_show_the_same_tree(names: set[str]) -> None:
    with tree(names, SAFE) as (engine, images):
        familiar = ImageTree(engine.store, CombinedView(), images.fixed)
        shown = dict(listed(images.root))
        assert not any(":" in path for path in shown)
        for path, node in listed(familiar.root):
            assert shown.pop(without_colons(path)).key == node.key
            for name in (path, without_colons(path)):
                known = found(images.root, name)
                assert known is not None
                assert known.key == node.key, name
        assert not shown


def hides(path: str) -> bool:
    """Return whether a file of an archive can hide a namespace of this path."""
    return any(part in ("blobs", "index.json", "oci-layout") for part in path.split("/")[:-1])


def test_files_of_a_layout_hide_namespaces_of_the_same_name() -> None:
    with tree({"ghcr.io/a:1", "ghcr.io/a/blobs/x:1"}) as (_, images):
        blobs = found(images.root, "ghcr.io/a/blobs")
        assert isinstance(blobs, FixedDirectory)
        assert list(blobs.nodes) == ["sha256"]


def test_an_index_of_another_descriptor_is_another_node() -> None:
    with tree({"docker.io/library/app:1"}) as (engine, images):
        before = found(images.root, "app:1/index.json")
        other = Descriptor(
            media_type=archives.OCI_MANIFEST,
            digest=archives.digest(APP.manifest()),
            size=len(APP.manifest()),
            annotations={"note": "new"},
        )
        engine.images.update(Image("docker.io/library/app:1", other))
        after = found(images.root, "app:1/index.json")
        assert before is not None
        assert after is not None
        assert before.key != after.key, "other bytes are another inode"


def test_each_name_of_an_image_has_its_own_number() -> None:
    names = {f"docker.io/library/app:{tag}" for tag in range(300)}
    with tree(names) as (engine, images), tree(names) as (_, others):
        numbers = {
            path: Inodes(images.root, images.roots).look_up(node)
            for path, node in listed(images.root)
        }
        assert len(numbers) >= len(names)
        assert len(set(numbers.values())) == len(numbers)
        assert len({place.revision for place in engine.images.places()}) == 1
        again = {
            path: Inodes(others.root, others.roots).look_up(node)
            for path, node in listed(others.root)
        }
        assert numbers == again, "the same in every mount"


def test_paths_with_colliding_numbers_get_different_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TreeEntry, "number", 12345)
    with tree({f"docker.io/library/app:{tag}" for tag in "abc"}) as (_, images):
        inodes = Inodes(images.root, images.roots)
        numbers = [inodes.look_up(node) for _, node in listed(images.root)]
        assert len(set(numbers)) == len(numbers)
        assert numbers == [inodes.number(node.key) for _, node in listed(images.root)]


NOT_TEXT = b"\xff".decode(errors="surrogateescape")
IN_WHICH = ("", "ghcr.io", "app", "rootfs", "rootfs/ghcr.io", "layers", "additional-layers")


def directory_at(images: ImageTree, path: str) -> Directory:
    node = found(images.root, path) if path else images.root
    assert node is not None
    assert is_directory(node)
    return node


@pytest.mark.parametrize("called", [FAMILIAR, SAFE], ids=["familiar", "safe"])
@pytest.mark.parametrize("path", IN_WHICH)
@pytest.mark.parametrize(
    "name", [NOT_TEXT, f"app:{NOT_TEXT}", f"app@{NOT_TEXT}", f"sha256:{NOT_TEXT}"]
)
def test_there_is_nothing_under_a_name_that_is_not_text(
    called: Names, path: str, name: str
) -> None:
    with tree({"docker.io/library/app:1", "ghcr.io/app:1"}, called) as (_, images):
        directory = directory_at(images, path)
        assert not directory.may_block(name)
        assert directory.lookup(name) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda root: root.mkdir(NOT_TEXT, 0o755, 0, 0), errno.EINVAL),
        (lambda root: root.rename("app:1", root, f"app:{NOT_TEXT}"), errno.EINVAL),
        (lambda root: root.symlink(f"app:{NOT_TEXT}", "app:1", "/mnt"), errno.EINVAL),
        (lambda root: root.symlink("app:2", f"app:{NOT_TEXT}", "/mnt"), errno.ENOENT),
        (lambda root: root.symlink("app:2", f"/mnt/{NOT_TEXT}/app:1", "/mnt"), errno.ENOENT),
    ],
    ids=["mkdir", "mv", "ln", "ln of it", "ln of it below the mount"],
)
def test_no_image_gets_a_name_that_is_not_text(
    change: Callable[[Directory], object], reason: int
) -> None:
    with tree({"docker.io/library/app:1"}) as (engine, images):
        before = engine.images.all()
        with pytest.raises(OSError, match="no image can have") as caught:
            change(images.root)
        assert caught.value.errno == reason
        assert engine.images.all() == before


@pytest.mark.parametrize(("called", "tag"), [(FAMILIAR, 18), (SAFE, 17)])
def test_a_name_that_no_file_system_takes_is_not_listed(called: Names, tag: int) -> None:
    fitting, longer = (f"{'a' * 236}:{'1' * length}" for length in (tag, tag + 1))
    with tree({f"ghcr.io/{fitting}", f"ghcr.io/{longer}"}, called) as (_, images):
        shown = [called.shown(fitting)]
        assert len(shown[0]) == 255
        for top in (images.root, images.fixed["rootfs"], images.fixed["layers"]):
            assert is_directory(top)
            space = found(top, "ghcr.io")
            assert space is not None
            assert is_directory(space)
            assert [name for name, _ in space.children()] == shown
            assert space.lookup(called.shown(longer)) is not None


@pytest.mark.parametrize("view", [CombinedView(), DockerView()])
def test_an_incomplete_image_leaves_its_repository_whole(view: View) -> None:
    other = ImageParts(layers=[archives.layer("other")])
    with tree({"docker.io/library/svc:1"}) as (engine, _):
        with engine.begin_import() as session:
            session.feed(archives.oci_archive((other, "docker.io/library/svc:2")))
            session.finish()
        (lost,) = map(archives.digest, APP.layers)
        engine.content.delete(lost)
        images = ImageTree(engine.store, view, {})
        index = found(images.root, "svc/index.json")
        assert isinstance(index, BytesFile)
        names = [
            entry["annotations"]["org.opencontainers.image.ref.name"]
            for entry in json.loads(index.data)["manifests"]
        ]
        assert names == ["2"]
        assert found(images.root, "svc:2/index.json") is not None
        with pytest.raises(MissingContent, match="svc:1"):
            found(images.root, "svc:1/index.json")
        engine.images.delete("docker.io/library/svc:2")
        with pytest.raises(MissingContent, match="svc:1"):
            found(images.root, "svc/index.json")


def test_a_repository_shows_an_image_again_once_it_is_repaired() -> None:
    other = archives.oci_archive(
        (ImageParts(layers=[archives.layer("other")]), "docker.io/library/svc:2")
    )

    def load(engine: LocalEngine) -> None:
        with engine.begin_import() as session:
            session.feed(other)
            session.finish()

    def names(images: ImageTree) -> list[str]:
        index = found(images.root, "svc/index.json")
        assert isinstance(index, BytesFile)
        manifests = json.loads(index.data)["manifests"]
        return [entry["annotations"]["org.opencontainers.image.ref.name"] for entry in manifests]

    with tree({"docker.io/library/svc:1"}) as (engine, images):
        load(engine)
        engine.content.delete(engine.find_one("svc:2").target.digest)
        before = found(images.root, "svc/index.json")
        assert names(images) == ["1"]
        load(engine)
        assert names(images) == ["1", "2"]
        after = found(images.root, "svc/index.json")
        assert before is not None
        assert after is not None
        assert before.key != after.key

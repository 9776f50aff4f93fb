"""Tests of what the layers of images hold, without a mount."""

import errno
import stat

import pytest

from engine.errors import MissingContent
from imgfs.vfs.rootfs import Owners
from imgfs.vfs.tree import ImageTree
from tests.archives import ImageParts
from tests.filetree.layers import directory, file, layer
from tests.vfs.roots import (
    archive_of_images,
    damage,
    encrypted,
    entered,
    found,
    image,
    names,
    read,
    roots,
    roots_of,
)

LOWER = [directory("d"), file("d/a", "1"), file("gone", "2")]
UPPER = [file(".wh.gone"), directory("d"), file("d/.wh..wh..opq"), file("d/b", "3")]


def test_each_layer_has_overlayfs_form() -> None:
    with roots([(image(LOWER, UPPER), "app:1")]) as (engine, tree):
        tree.roots.owners = Owners(are_shown=True)
        layers = found(tree.root, "layers/app:1")
        assert names(layers) == ["00", "01"]
        assert names(found(layers, "00")) == ["d", "gone"]
        assert names(found(layers, "01")) == ["d", "gone"]
        gone, opaque = found(layers, "01/gone"), found(layers, "01/d")
        assert gone is not None
        assert stat.S_ISCHR(gone.attributes().mode)
        assert gone.attributes().device == 0
        assert opaque is not None
        assert opaque.xattrs() == {"trusted.overlay.opaque": b"y"}
        assert opaque.xattr("user.overlay.opaque") == b"y"
        assert read(found(layers, "01/d/b")) == b"3"
        second = engine.details("app:1").manifest.manifest.layers[1]
        top = found(layers, "01")
        assert top is not None
        assert top.xattr("user.oci.layer") == second.digest.encode()
        assert top.xattr("user.oci.created_by") == b"test"
        lower = found(layers, "00/d")
        assert lower is not None
        assert lower.xattrs() == {}
        tree.roots.owners = Owners(are_shown=False)


def test_a_hundred_layers_are_in_order() -> None:
    with roots([(image(*[[file(f"f{i}")] for i in range(101)]), "app:1")]) as (_, tree):
        layers = found(tree.root, "layers/app:1")
        assert names(layers) == [f"{i:03}" for i in range(101)]
        assert names(found(layers, "100")) == ["f100"]


def reasons(tree: ImageTree) -> list[str]:
    left_out = tree.roots.status()["left_out"]
    assert isinstance(left_out, dict)
    return [reason for reasons in left_out.values() for reason in reasons]


def test_an_encrypted_layer_is_an_error_there_and_left_out_of_the_root() -> None:
    with roots_of(encrypted()) as (_, tree):
        assert names(found(tree.root, "rootfs/app:1")) == ["a"]
        assert names(found(tree.root, "layers/app:1")) == ["00", "01"]
        assert names(found(tree.root, "layers/app:1/00")) == ["a"]
        for look in (
            lambda: names(found(tree.root, "layers/app:1/01")),
            lambda: found(tree.root, "layers/app:1/01/a"),
        ):
            with pytest.raises(OSError, match="Input/output error") as caught:
                look()
            assert caught.value.errno == errno.EIO
        assert set(reasons(tree)) == {"layer 01: is encrypted"}


def test_a_root_that_lacks_a_layer_is_an_error_and_its_other_layers_are_shown() -> None:
    lacking = image([file("a", "1")], [file("b", "2")])
    with roots([(lacking, "app:1")]) as (engine, tree):
        gone = engine.details("app:1").manifest.manifest.layers[1].digest
        engine.content.delete(gone)
        assert names(found(tree.root, "layers/app:1")) == ["00", "01"]
        assert names(found(tree.root, "layers/app:1/00")) == ["a"]
        for path in ("layers/app:1/01", "rootfs/app:1"):
            with pytest.raises(MissingContent, match=gone):
                names(found(tree.root, path))


def test_the_rest_of_a_layer_that_is_cut_off_is_left_out() -> None:
    cut = layer(file("a", "1"), file("b", "2" * 2000))[:2500]
    with roots([(ImageParts([cut, layer(file("c", "3"))]), "app:1")]) as (_, tree):
        assert names(found(tree.root, "rootfs/app:1")) == ["a", "c"]
        assert names(found(tree.root, "layers/app:1/00")) == ["a"]
        assert reasons(tree)


def test_an_image_without_layers() -> None:
    with roots([(ImageParts(()), "app:1")]) as (_, tree):
        assert names(found(tree.root, "layers/app:1")) == []
        assert names(found(tree.root, "rootfs/app:1")) == []
        assert entered(found(tree.root, "layers/app:1")).lookup("00") is None


def test_a_layer_that_hides_the_whole_root_does_so_by_whiteouts() -> None:
    layers = [[file("a"), directory("d"), file("d/x")], [file(".wh..wh..opq"), file("b")]]
    with roots([(image(*layers), "app:1")]) as (_, tree):
        top = found(tree.root, "layers/app:1/01")
        assert names(top) == ["a", "b", "d"]
        for name in ("a", "d"):
            node = found(top, name)
            assert node is not None
            assert stat.S_ISCHR(node.attributes().mode), name


def test_a_damaged_layer_is_an_error_although_the_root_is_known_and_is_back_once_it_is() -> None:
    images = [(image(LOWER, UPPER), "app:1")]
    with roots(images) as (engine, tree):
        assert names(found(tree.root, "rootfs/app:1")) == ["d"]
        manifest = engine.details("app:1").manifest.descriptor.digest
        table = engine.store.tables.get(manifest)
        digest = damage(engine, "app:1", 1)
        assert table is not None
        engine.store.tables.put(manifest, table)
        before = entered(found(tree.root, "layers/app:1"))
        assert names(found(before, "00")) == ["d", "gone"]
        with pytest.raises(OSError, match="Input/output error"):
            names(found(before, "01"))
        engine.content.delete(digest)
        with engine.begin_import() as session:
            session.feed(archive_of_images(images))
            session.finish()
        after = entered(found(tree.root, "layers/app:1"))
        assert after.key != before.key
        assert names(found(after, "01")) == ["d", "gone"]
        with pytest.raises(OSError, match="Stale"):
            before.lookup("00")


def test_an_image_with_several_names_has_directories_for_each() -> None:
    with roots([(image(LOWER, UPPER), "app:1")]) as (engine, tree):
        engine.tag("app:1", "app:2")
        for path in ("", "/00", "/00/d"):
            one, other = (found(tree.root, f"layers/app:{tag}{path}") for tag in (1, 2))
            assert one is not None
            assert other is not None
            assert one.key != other.key, path


def test_an_empty_layer_is_an_empty_directory() -> None:
    with roots([(image([], [file("a")]), "app:1")]) as (_, tree):
        assert names(found(tree.root, "layers/app:1/00")) == []
        assert names(found(tree.root, "layers/app:1/01")) == ["a"]

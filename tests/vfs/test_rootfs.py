"""Tests of the roots of images, without a mount."""

import errno
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from engine.filetree import stored_roots
from engine.filetree.entry_tree import EntryTree
from engine.filetree.merged import merged_root
from engine.layers.layer import Layers
from engine.progress import Done, Progress
from engine.spec.oci import Manifest
from imgfs.fuse.inodes import Inodes
from imgfs.vfs import roots as made
from imgfs.vfs.names import SAFE
from imgfs.vfs.nodes import FOREVER, NEVER
from imgfs.vfs.rootfs import Owners
from tests import archives
from tests.archives import ImageParts
from tests.filetree.layers import directory, file, hardlink, layer, member, symlink, with_xattrs
from tests.trees import CAPABILITY
from tests.vfs.roots import (
    archive_of_images,
    damage,
    entered,
    found,
    image,
    names,
    read,
    roots,
    roots_of,
)

BASE = [
    directory("etc", 0o700, uid=5, gid=6, mtime=7),
    file("etc/a", "one", mode=0o4711, uid=8, gid=9, mtime=10),
    hardlink("etc/b", "etc/a"),
    symlink("etc/link", "../a\udcff"),
    member("etc/null", tarfile.CHRTYPE, devmajor=1, devminor=3),
    member("etc/pipe", tarfile.FIFOTYPE),
    file("etc/\udcff", "raw"),
]
UPPER = [file("etc/.wh.b"), file("new", "two"), directory("opaque")]


def test_a_root_is_what_the_layers_come_to() -> None:
    with roots([(image(BASE, UPPER), "app:1")]) as (_, tree):
        top = found(tree.root, "rootfs/app:1")
        assert names(top) == ["etc", "new", "opaque"]
        assert names(found(top, "etc")) == ["a", "link", "null", "pipe", "\udcff"]
        assert read(found(top, "etc/a")) == b"one"
        assert read(found(top, "etc/\udcff")) == b"raw"
        assert read(found(top, "new")) == b"two"
        assert found(top, "etc/b") is None
        assert found(top, "new/x") is None


def test_roots_mount_shows_what_the_layers_say() -> None:
    with roots([(image(BASE), "app:1")]) as (_, tree):
        tree.roots.owners = Owners(are_shown=True)
        top = found(tree.root, "rootfs/app:1")
        for path, mode, uid, gid in (
            ("etc", stat.S_IFDIR | 0o700, 5, 6),
            ("etc/a", stat.S_IFREG | 0o4711, 8, 9),
            ("etc/link", stat.S_IFLNK | 0o777, 0, 0),
            ("etc/null", stat.S_IFCHR | 0o644, 0, 0),
            ("etc/pipe", stat.S_IFIFO | 0o644, 0, 0),
        ):
            node = found(top, path)
            assert node is not None
            attributes = node.attributes()
            assert (attributes.mode, attributes.uid, attributes.gid) == (mode, uid, gid), path
            assert attributes.timeout == FOREVER
        null, link, a = (found(top, f"etc/{name}") for name in ("null", "link", "a"))
        assert null is not None
        assert null.attributes().device == os.makedev(1, 3)
        assert link is not None
        assert link.readlink() == b"../a\xff"
        assert a is not None
        assert (a.attributes().mtime, a.attributes().links) == (10 * 10**9, 2)


def test_a_users_mount_shows_him_as_the_owner_and_lets_him_read() -> None:
    layer = [directory("d", 0o000, uid=5), file("d/f", "x", mode=0o000, uid=8, gid=9)]
    with roots([(image(layer), "app:1")]) as (_, tree):
        tree.roots.owners = Owners(are_shown=False)
        folder = found(tree.root, "rootfs/app:1/d")
        one = found(folder, "f")
        assert folder is not None
        assert one is not None
        assert folder.attributes().mode == stat.S_IFDIR | 0o500
        assert one.attributes().mode == stat.S_IFREG | 0o400
        assert (one.attributes().uid, one.attributes().gid) == (None, None)
        assert one.xattr("user.oci.owner") == b"8:9"
        assert one.xattr("user.oci.mode") == b"0000"


def test_attributes_are_those_of_the_layer_and_others_are_not_listed() -> None:
    layer = [
        with_xattrs(
            "f",
            tarfile.REGTYPE,
            {"security.capability": os.fsdecode(CAPABILITY), "user.note": "x"},
        )
    ]
    with roots([(image(layer), "app:1")]) as (engine, tree):
        one = found(tree.root, "rootfs/app:1/f")
        (blob,) = engine.details("app:1").manifest.manifest.layers
        assert one is not None
        assert one.xattrs() == {"security.capability": CAPABILITY, "user.note": b"x"}
        assert one.xattr("security.capability") == CAPABILITY
        assert one.xattr("user.oci.layer") == blob.digest.encode()
        assert one.xattr("user.other") is None


def test_a_file_of_a_layer_is_one_inode_in_all_images() -> None:
    images = [(image(BASE), "one:1"), (image(BASE, [file("new")]), "two:1")]
    with roots(images) as (_, tree):
        for path in ("etc/a", "etc/b"):
            first, second = (found(tree.root, f"rootfs/{name}:1/{path}") for name in ("one", "two"))
            layers = found(tree.root, f"layers/two:1/00/{path}")
            assert first is not None
            assert second is not None
            assert layers is not None
            assert first.key == second.key == layers.key, path
        folders = [found(tree.root, f"rootfs/{name}:1/etc") for name in ("one", "two")]
        assert all(folders)
        assert folders[0].key != folders[1].key  # type: ignore[union-attr]  # neither is None


def test_an_image_with_several_names_has_a_directory_for_each() -> None:
    with roots([(image(BASE), "app:1")]) as (engine, tree):
        engine.tag("app:1", "ghcr.io/org/app:1")
        tops = [found(tree.root, f"rootfs/{name}") for name in ("app:1", "ghcr.io/org/app:1")]
        for path in ("etc", "etc/link", "etc/null"):
            one, other = (found(top, path) for top in tops)
            assert one is not None
            assert other is not None
            assert one.key != other.key, path
            assert one.attributes() == other.attributes(), path
        one, other = tops
        assert one is not None
        assert other is not None
        assert one.key != other.key
        assert one.attributes() == other.attributes()
        assert found(one, "etc/a").key == found(other, "etc/a").key  # type: ignore[union-attr]


def test_a_tree_is_made_once_for_all_names(monkeypatch: pytest.MonkeyPatch) -> None:
    with roots([(image(BASE), "app:1")]) as (engine, tree):
        engine.tag("app:1", "ghcr.io/org/app:1")
        assert names(found(tree.root, "rootfs/app:1"))
        monkeypatch.setattr(made, "root_table", None)
        assert names(found(tree.root, "rootfs/ghcr.io/org/app:1/etc"))


def test_another_number_of_links_is_another_inode() -> None:
    images = [(image(BASE), "one:1"), (image(BASE, UPPER), "two:1")]
    with roots(images) as (_, tree):
        first, second = (found(tree.root, f"rootfs/{name}:1/etc/a") for name in ("one", "two"))
        other = found(tree.root, "rootfs/one:1/etc/b")
        assert first is not None
        assert second is not None
        assert other is not None
        assert first.key == other.key
        assert (first.attributes().links, second.attributes().links) == (2, 1)
        assert first.key != second.key, "attributes never change under an inode"


def test_numbers_are_the_same_in_every_mount_and_differ_in_one() -> None:
    def numbers() -> Iterator[tuple[str, int]]:
        with roots([(image(BASE, UPPER), "app:1")]) as (_, tree):
            inodes = Inodes(tree.root, tree.roots)
            for path in ("etc", "etc/a", "etc/link", "etc/null", "new", "opaque"):
                for view in ("rootfs/app:1", "layers/app:1/01"):
                    if (node := found(tree.root, f"{view}/{path}")) is not None:
                        yield f"{view}/{path}", inodes.number(node.key)

    once = dict(numbers())
    assert once == dict(numbers())
    shared = {"layers/app:1/01/new"}
    assert len(set(once.values())) == len(once) - len(shared)


def test_names_are_never_stale_and_what_is_below_an_image_never_changes() -> None:
    with roots([(image(BASE), "ghcr.io/org/app:1")]) as (engine, tree):
        views = entered(found(tree.root, "rootfs"))
        space = entered(found(views, "ghcr.io/org"))
        top = entered(space.lookup("app:1"))
        assert space.entry_timeout(top) == views.entry_timeout(space) == NEVER
        etc = top.lookup("etc")
        assert etc is not None
        assert top.entry_timeout(etc) == FOREVER
        engine.remove("ghcr.io/org/app:1")
        assert space.lookup("app:1") is None
        assert views.lookup("ghcr.io") is None


def test_names_are_those_of_images() -> None:
    with roots([(image(BASE), "ghcr.io/org/app:1"), (image(UPPER), None)]) as (engine, tree):
        assert "rootfs" not in names(tree.root)
        assert "layers" not in names(tree.root)
        views = found(tree.root, "rootfs")
        (named,) = (one for one in engine.images.all() if not one.is_untagged)
        (other,) = (one.name for one in engine.images.all() if one.is_untagged)
        assert names(views) == ["ghcr.io", other]
        assert names(found(views, "ghcr.io")) == ["org"]
        top = found(views, "ghcr.io/org/app:1")
        digest = named.target.digest
        assert top is not None
        for path in (digest, f"ghcr.io/org/app@{digest}"):
            assert names(found(views, path)) == names(top), path
            assert found(views, path).key != top.key, path  # type: ignore[union-attr]
        for path in ("app:2", "ghcr.io/org/app", "sha256:" + "0" * 64, "blobs", "ghcr.io/o"):
            assert found(views, path) is None, path


def test_names_without_colons() -> None:
    with roots([(image(BASE), "ghcr.io/org/app:1")], SAFE) as (_, tree):
        views = found(tree.root, "rootfs")
        assert names(found(views, "ghcr.io/org")) == ["app--1"]
        assert found(views, "ghcr.io/org/app--1/etc") == found(views, "ghcr.io/org/app:1/etc")


def test_platforms() -> None:
    parts = [
        ImageParts([layer(file(name))], architecture=name) for name in ("arm64", "s390x", "riscv64")
    ]
    archive = archives.multi_platform("app:1", parts)
    with roots_of(archive, wanted="linux/s390x") as (_, tree):
        assert names(found(tree.root, "rootfs/app:1")) == ["s390x"]
        for one in parts:
            digest = archives.digest(one.manifest())
            assert names(found(tree.root, f"rootfs/{digest}")) == [one.architecture]
    with roots_of(archive, wanted="linux/mips64le") as (_, tree):
        assert names(found(tree.root, "rootfs/app:1")) == ["arm64"]


def test_a_config_and_a_layer_are_no_image() -> None:
    one = image(BASE)
    with roots([(one, "app:1")]) as (_, tree):
        for blob in one.blobs(gzipped=True):
            known = found(tree.root, f"rootfs/{archives.digest(blob)}")
            assert (known is not None) == (blob == one.manifest(gzipped=True))


def test_listing_names_makes_no_tree() -> None:
    with roots([(image(BASE), "app:1")]) as (_, tree):
        ((_, node),) = entered(found(tree.root, "rootfs")).children()
        assert node.attributes().timeout == NEVER
        assert entered(node).may_block(None)
        assert not node.attributes().are_final
        assert not tree.roots.status()["left_out"]
        top = entered(found(tree.root, "rootfs/app:1"))
        assert top.key == node.key
        assert not top.may_block(None)
        assert node.attributes() == top.attributes()
        assert node.attributes().are_final


def test_nothing_can_be_changed() -> None:
    with roots([(image(BASE), "app:1")]) as (_, tree):
        for path in ("rootfs", "rootfs/app:1", "rootfs/app:1/etc", "layers/app:1"):
            folder = entered(found(tree.root, path))
            changes: list[Callable[[], object]] = [
                partial(folder.mkdir, "x"),
                partial(folder.create, "x", 0o644, 0, 0),
                partial(folder.rename, "etc", folder, "x"),
            ]
            for change in changes:
                with pytest.raises(OSError, match="Read-only file system") as caught:
                    change()
                assert caught.value.errno == errno.EROFS, path


def test_an_open_file_outlives_its_image() -> None:
    with roots([(image(BASE), "app:1")]) as (engine, tree):
        one = found(tree.root, "rootfs/app:1/etc/a")
        assert one is not None
        reader = one.open()  # type: ignore[attr-defined]  # a file by its name
        engine.remove("app:1")
        list(engine.store.collect())
        tree.roots.opened.close_idle()
        tree.roots.opened.close_idle()
        assert reader.read(0, 9) == b"one"
        assert reader.read_at_once(1, 9) == b"ne"
        reader.close()


def test_an_idle_layer_is_closed() -> None:
    with roots([(image(BASE), "app:1")]) as (engine, tree):
        one = found(tree.root, "rootfs/app:1/etc/a")
        (blob,) = engine.details("app:1").manifest.manifest.layers
        assert read(one) == b"one"
        tree.roots.opened.close_idle()
        assert tree.roots.opened.is_open(blob.digest)
        tree.roots.opened.close_idle()
        assert not tree.roots.opened.is_open(blob.digest)
        assert read(one) == b"one"


def test_a_layer_without_a_table_is_read_at_the_first_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with roots([(image(BASE), "app:1")]) as (engine, tree):
        (blob,) = engine.details("app:1").manifest.manifest.layers
        table = engine.store.tables.get(blob.digest)
        engine.store.tables.delete(blob.digest)
        seen: list[object] = []

        def watched(layers: Layers, manifest: Manifest, on_progress: Progress) -> EntryTree:
            def hear(done: Done) -> None:
                on_progress(done)
                seen.append(tree.roots.status()["learning"])

            return merged_root(layers, manifest, hear)

        monkeypatch.setattr(stored_roots, "merged_root", watched)
        top = found(tree.root, "rootfs/app:1")
        assert read(found(top, "etc/a")) == b"one"
        assert engine.store.tables.get(blob.digest) == table
        assert seen
        assert all(seen)
        assert tree.roots.status()["learning"] == {}


def test_trees_that_were_dropped_are_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made, "_KEPT_NODES", 1)
    with roots([(image(BASE), "one:1"), (image(UPPER), "two:1")]) as (_, tree):
        one, top = found(tree.root, "rootfs/one:1/etc"), found(tree.root, "rootfs/one:1")
        assert one is not None
        assert top is not None
        attributes = top.attributes()
        assert not entered(one).may_block("a")
        assert found(tree.root, "rootfs/two:1/new") is not None
        assert entered(one).may_block("a")
        assert top.attributes() == attributes, "they never change under an inode"
        assert read(entered(one).lookup("a")) == b"one"


def test_the_attributes_of_a_tree_in_memory_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made, "_KEPT_TOPS", 1)
    base = [directory("./", 0o711), *BASE]
    with roots([(image(base), "one:1"), (image(UPPER), "two:1")]) as (_, tree):
        for name in ("one:1", "two:1", "one:1"):
            top = found(tree.root, f"rootfs/{name}")
            assert top is not None
            assert top.attributes().are_final
            mode = stat.S_IMODE(top.attributes().mode)
        assert mode == 0o711


def test_a_root_that_lacked_a_damaged_layer_is_another_one_once_the_layer_is_back() -> None:
    images = [(image(BASE, UPPER), "app:1")]
    with roots(images) as (engine, tree):
        digest = damage(engine, "app:1", 1)
        before = entered(found(tree.root, "rootfs/app:1"))
        assert names(before) == ["etc"]
        assert names(found(before, "etc")) == ["a", "b", "link", "null", "pipe", "\udcff"]
        engine.content.delete(digest)
        with engine.begin_import() as session:
            session.feed(archive_of_images(images))
            session.finish()
        after = entered(found(tree.root, "rootfs/app:1"))
        assert names(after) == ["etc", "new", "opaque"]
        assert found(after, "etc/b") is None
        assert after.key != before.key
        assert not after.may_block("etc")
        for look in (lambda: before.lookup("etc"), lambda: names(before)):
            with pytest.raises(OSError, match="Stale") as caught:
                look()
            assert caught.value.errno == errno.ESTALE
        assert not tree.roots.status()["left_out"]


def test_a_root_that_lacks_a_damaged_layer_is_kept_until_the_store_has_another_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with roots([(image(BASE, UPPER), "app:1"), (image(BASE), "other:1")]) as (engine, tree):
        damage(engine, "app:1", 1)
        before = entered(found(tree.root, "rootfs/app:1"))
        assert names(before) == ["etc"]
        monkeypatch.setattr(made, "root_table", None)
        engine.tag("other:1", "other:2")
        assert before.may_block("etc")
        assert found(before, "etc/a") is not None
        assert not before.may_block("etc")
        assert entered(found(tree.root, "rootfs/app:1")).key == before.key


@pytest.mark.parametrize("kind", ["rootfs", "layers", "additional-layers"])
def test_a_mount_of_one_kind_of_view_has_nothing_of_its_name(kind: str) -> None:
    with roots([(image(BASE), "app:1")]) as (_, tree):
        others = {"rootfs", "layers", "additional-layers"} - {kind}
        top = tree.rooted(kind)
        assert top.lookup(kind) is None
        assert all(top.lookup(other) for other in others)


def test_owners_have_32_bits() -> None:
    members = [file("a", uid=5_000_000_000, gid=(1 << 32) + 7), directory("d", uid=1 << 40)]
    with roots([(image(members), "app:1")]) as (_, tree):
        tree.roots.owners = Owners(are_shown=True)
        one, folder = (found(tree.root, f"rootfs/app:1/{name}") for name in ("a", "d"))
        assert one is not None
        assert folder is not None
        assert (one.attributes().uid, one.attributes().gid) == (705_032_704, 7)
        assert folder.attributes().uid == 0
        assert one.xattr("user.oci.owner") == b"5000000000:4294967303"

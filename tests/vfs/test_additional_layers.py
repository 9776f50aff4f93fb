"""Tests of the tree that containers/storage reads layers from, without a mount."""

import base64
import errno
import json
from collections.abc import Callable
from typing import Any

import pytest

from imgfs.vfs.nodes import FOREVER, NEVER
from imgfs.vfs.rootfs import Owners
from imgfs.vfs.tree import ImageTree
from tests import archives
from tests.archives import ImageParts
from tests.filetree.layers import directory, file, layer
from tests.vfs.roots import (
    archive_of,
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
NAME = "docker.io/library/app:1"
APP = image(LOWER, UPPER)
TOC_DIGEST = f"sha256:{'7' * 64}"


def encoded(reference: str) -> str:
    return base64.b64encode(reference.encode()).decode()


def path(digest: str, reference: str = NAME) -> str:
    return f"additional-layers/{encoded(reference)}/{digest}"


def digests(parts: ImageParts) -> list[str]:
    return [archives.digest(archives.compressed(data)) for data in parts.layers]


def info(tree: ImageTree, digest: str) -> Any:
    return json.loads(read(found(tree.root, f"{path(digest)}/info")))


def test_a_layer_is_what_layers_shows_with_its_blob_and_a_record() -> None:
    with roots([(APP, "app:1")]) as (_, tree):
        for number, (digest, data) in enumerate(zip(digests(APP), APP.layers, strict=True)):
            assert names(found(tree.root, path(digest))) == ["blob", "diff", "info"]
            shown = found(tree.root, f"layers/app:1/{number:02}")
            diff = found(tree.root, f"{path(digest)}/diff")
            assert names(diff) == names(shown)
            assert diff is not None
            assert shown is not None
            assert diff.key != shown.key, "Linux allows a directory one name"
            blob = archives.compressed(data)
            assert read(found(tree.root, f"{path(digest)}/blob")) == blob
            assert info(tree, digest) == {
                "compressed-diff-digest": digest,
                "compressed-size": len(blob),
                "diff-digest": archives.digest(data),
                "diff-size": len(data),
                "compression": 2,
            }


def test_a_plain_layer() -> None:
    data = APP.layers[0]
    with roots_of(archives.oci_archive((ImageParts([data]), "app:1"))) as (_, tree):
        assert info(tree, archives.digest(data)) == {
            "compressed-diff-digest": archives.digest(data),
            "compressed-size": len(data),
            "diff-digest": archives.digest(data),
            "diff-size": len(data),
        }


def test_references_are_full_or_by_digest() -> None:
    with roots([(image(LOWER), "app:1"), (image(UPPER), "ghcr.io/org/app:latest")]) as (
        engine,
        tree,
    ):
        lower, upper = (digests(image(one))[0] for one in (LOWER, UPPER))
        target = engine.images.get(NAME).target.digest
        for reference in (NAME, f"docker.io/library/app@{target}", "app:1"):
            assert found(tree.root, path(lower, reference)) is not None, reference
            assert found(tree.root, path(upper, reference)) is None, reference
        assert found(tree.root, path(upper, "ghcr.io/org/app:latest")) is not None
        for reference in ("docker.io/library/app:2", "app@sha256:0", "A:1", "", "ghcr.io/org"):
            assert found(tree.root, path(lower, reference)) is None, reference
        for name in (NAME, "app:1", "=", "====", "/w==", encoded(NAME)[:-1], "import", "ü"):
            assert entered(found(tree.root, "additional-layers")).lookup(name) is None, name


def test_nothing_but_layers_is_there() -> None:
    with roots([(APP, "app:1")]) as (engine, tree):
        (digest, _) = digests(APP)
        config = archives.digest(APP.config)
        for other in (config, engine.images.get(NAME).target.digest, "x", "sha256:" + "0" * 64, ""):
            assert found(tree.root, f"additional-layers/{encoded(NAME)}").lookup(other) is None  # type: ignore[union-attr]
        for name in ("use", "blob:", "x"):
            assert entered(found(tree.root, path(digest))).lookup(name) is None
        assert "additional-layers" not in names(tree.root)
        assert names(found(tree.root, "additional-layers")) == []
        assert names(found(tree.root, f"additional-layers/{encoded(NAME)}")) == []


@pytest.mark.parametrize(
    "annotation",
    [
        "containerd.io/snapshot/stargz/toc.digest",
        "io.github.containers.zstd-chunked.manifest-checksum",
    ],
)
def test_a_layer_with_a_table_of_contents_has_two_names(annotation: str) -> None:
    parts = ImageParts(APP.layers[:1])
    (data,) = parts.layers
    annotations = {annotation: TOC_DIGEST}
    listed = archives.descriptor(data, archives.OCI_LAYER, annotations=annotations)
    with roots_of(archive_of([listed], parts)) as (_, tree):
        paths = [path(TOC_DIGEST), path(archives.digest(data))]
        for below in ("", "/diff", "/diff/d"):
            one, other = (found(tree.root, f"{known}{below}") for known in paths)
            assert names(one) == names(other)
            assert one is not None
            assert other is not None
            assert one.key != other.key, "Linux allows a directory one name"
        record = info(tree, TOC_DIGEST)
        assert record["toc-digest"] == TOC_DIGEST
        assert record["diff-digest"] == archives.digest(data)


def test_use_and_its_end_are_answered_as_containers_storage_expects() -> None:
    with roots([(APP, "app:1")]) as (_, tree):
        (digest, _) = digests(APP)
        of_image = entered(found(tree.root, f"additional-layers/{encoded(NAME)}"))
        shown = entered(of_image.lookup(digest))
        answers: dict[int, list[Callable[[], object]]] = {
            errno.ENOENT: [
                lambda: shown.create("use", 0o644, 0, 0),
                lambda: of_image.rmdir(digest, shown),
            ],
            errno.EROFS: [
                lambda: shown.create("other", 0o644, 0, 0),
                lambda: shown.mkdir("use", 0o755, 0, 0),
                lambda: of_image.mkdir("x", 0o755, 0, 0),
                lambda: entered(found(tree.root, "additional-layers")).rmdir("x", of_image),
            ],
        }
        for number, calls in answers.items():
            for call in calls:
                with pytest.raises(OSError, match=r"\[Errno") as caught:
                    call()
                assert caught.value.errno == number


def test_what_cannot_be_read_cannot_be_found() -> None:
    with roots_of(encrypted()) as (engine, tree):
        plain, secret = engine.details("app:1").manifest.manifest.layers
        assert names(found(tree.root, path(plain.digest))) == ["blob", "diff", "info"]
        digest = secret.digest
        with pytest.raises(OSError, match="Input/output error"):
            found(tree.root, f"{path(digest)}/diff")


def test_names_of_layers_are_not_kept_and_what_is_below_is() -> None:
    with roots([(APP, "app:1")]) as (engine, tree):
        (digest, _) = digests(APP)
        top = entered(found(tree.root, "additional-layers"))
        of_image = entered(top.lookup(encoded(NAME)))
        shown = entered(of_image.lookup(digest))
        assert top.entry_timeout(of_image) == of_image.entry_timeout(shown) == NEVER
        diff = shown.lookup("diff")
        assert diff is not None
        assert shown.entry_timeout(diff) == FOREVER
        engine.remove("app:1")
        assert top.lookup(encoded(NAME)) is None


def test_an_image_of_that_name_is_shown_by_its_full_name() -> None:
    with roots([(APP, "additional-layers/app:1")]) as (_, tree):
        assert "docker.io" in names(tree.root)
        assert names(found(tree.root, "rootfs/docker.io/additional-layers/app:1")) == ["d"]


def test_owners_are_those_of_the_mount() -> None:
    with roots([(image([file("a", mode=0o600, uid=7)]), "app:1")]) as (_, tree):
        digest = archives.digest(archives.compressed(layer(file("a", mode=0o600, uid=7))))
        tree.roots.owners = Owners(are_shown=True)
        shown = found(tree.root, f"{path(digest)}/diff/a")
        assert shown is not None
        assert shown.attributes().uid == 7
        tree.roots.owners = Owners(are_shown=False)


def test_a_layer_beside_a_damaged_one_is_another_directory_once_that_is_back() -> None:
    images = [(APP, "app:1")]
    with roots(images) as (engine, tree):
        (_, digest) = digests(APP)
        damaged = damage(engine, "app:1", 0)
        shown = entered(found(tree.root, path(digest)))
        before = shown.lookup("diff")
        assert before is not None
        assert shown.entry_timeout(before) == NEVER
        engine.content.delete(damaged)
        with engine.begin_import() as session:
            session.feed(archive_of_images(images))
            session.finish()
        after = entered(found(tree.root, path(digest))).lookup("diff")
        assert after is not None
        assert after.key != before.key
        assert names(after) == ["d", "gone"]
        assert shown.entry_timeout(after) == FOREVER

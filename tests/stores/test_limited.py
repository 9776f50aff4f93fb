"""A store that cannot do everything says so in one sentence, and the rest works over it."""

import errno
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import names
from engine.archive.import_options import ImportOptions
from engine.archive.importer import Import
from engine.archive.save import Output, save
from engine.errors import StoreReadOnly, Unsupported
from engine.image import Image
from engine.layers import diff_ids
from engine.layouts import combined
from engine.spec import platforms
from engine.stores.protocols import Store
from imgfs.fuse.errnos import errno_of
from imgfs.vfs.name_changes import NameChanges
from imgfs.vfs.nodes import Node
from imgfs.vfs.views import CombinedView
from tests import archives
from tests.archives import ImageParts
from tests.stores.limited import ReadOnlyStore, UnlistedStore
from tests.stores.memory import MemoryStore
from tests.stores.test_memory import committed, content_of, listed, load, tree

APP = ImageParts(layers=[archives.layer("a"), archives.layer("b")])
NAMES = ["docker.io/library/app:1", "ghcr.io/org/app:2"]
SENTENCE = "store memory://: is read-only; name a store that can be changed"
ARCHIVE = archives.oci_archive((APP, NAMES[0]), gzipped=True)


@pytest.fixture
def memory(tmp_path: Path) -> MemoryStore:
    store = MemoryStore(tmp_path)
    load(store, ARCHIVE)
    names.tag(store, "app:1", "ghcr.io/org/app:2")
    return store


@pytest.fixture
def read_only(memory: MemoryStore) -> ReadOnlyStore:
    return ReadOnlyStore(memory)


@pytest.fixture
def unlisted(memory: MemoryStore) -> UnlistedStore:
    return UnlistedStore(memory)


def shown(store: Store) -> dict[str, bytes]:
    return {path: content_of(node) for path, node in listed(tree(store, CombinedView()).root)}


# A store that is read-only


def changes(store: Store) -> NameChanges:
    return tree(store, CombinedView()).changes


@pytest.mark.parametrize(
    "change",
    [
        lambda store: Import(store, ImportOptions()),
        lambda store: names.tag(store, "app:1", "app:3"),
        lambda store: names.remove(store, "app:1"),
        lambda store: committed(store, store.directory),
        lambda store: store.images.put(
            Image("docker.io/library/x:1", store.images.all()[0].target)
        ),
        lambda store: changes(store).rename("app:1", "app:3"),
        lambda store: changes(store).link(["app:1"], "app:3"),
        lambda store: changes(store).remove("app:1"),
        lambda store: changes(store).make_namespace("quay.io"),
        lambda store: changes(store).hide(next(store.images.places()), "blobs"),
    ],
    ids=["load", "tag", "rm", "commit", "put", "rename", "link", "remove", "mkdir", "unlink"],
)
def test_a_change_of_a_read_only_store(
    read_only: ReadOnlyStore, change: Callable[[ReadOnlyStore], object]
) -> None:
    before = shown(read_only)
    with pytest.raises(StoreReadOnly, match=f"^{SENTENCE}$") as caught:
        change(read_only)
    assert errno_of(caught.value) == errno.EROFS
    assert shown(read_only) == before


def test_a_read_only_store_is_shown_whole(memory: MemoryStore, read_only: ReadOnlyStore) -> None:
    assert shown(read_only) == shown(memory)
    assert "ghcr.io/org/app:2/manifest.json" in shown(read_only)


def test_a_read_only_store_is_saved(memory: MemoryStore, read_only: ReadOnlyStore) -> None:
    options = combined.Options(platforms.ALL, platforms.ALL)
    expected, found = io.BytesIO(), io.BytesIO()
    save(memory, memory.images.all(), options, Output(expected.write))
    events = memory.events.after()
    save(read_only, read_only.images.all(), options, Output(found.write))
    assert found.getvalue() == expected.getvalue()
    assert read_only.events.after() == events


def test_a_layer_of_a_read_only_store_is_measured(memory: MemoryStore) -> None:
    layers = list(memory.content.walk(lambda info: diff_ids.UNCOMPRESSED_LABEL in info.labels))
    known = {layer.digest: diff_ids.known(layer) for layer in layers}
    assert len(known) == len(APP.layers)
    for layer in layers:
        memory.content.update(layer.digest, dict.fromkeys(layer.labels, ""))
    content = ReadOnlyStore(memory).content
    assert {digest: diff_ids.uncompressed(content, digest) for digest in known} == known
    assert all(not content.info(digest).labels for digest in known)


# A store that does not list its names


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.images.all(),
        lambda store: store.images.count(),
        lambda store: names.find(store.images, "app"),
        lambda store: names.find(store.images, APP.id),
        lambda store: list(tree(store, CombinedView()).root.children()),
    ],
    ids=["all", "count", "repository", "id", "ls"],
)
def test_a_listing_of_an_unlisted_store(
    unlisted: UnlistedStore, use: Callable[[UnlistedStore], object]
) -> None:
    with pytest.raises(Unsupported, match=r"^store memory://: cannot list its images; ") as caught:
        use(unlisted)
    assert errno_of(caught.value) == errno.EOPNOTSUPP


def test_an_image_of_an_unlisted_store_is_found_by_name(unlisted: UnlistedStore) -> None:
    assert [image.name for image in names.find(unlisted.images, "app:1")] == NAMES[:1]
    assert [image.name for image in names.find(unlisted.images, NAMES[1])] == NAMES[1:]


def test_an_image_of_an_unlisted_store_is_shown_by_path(
    memory: MemoryStore, unlisted: UnlistedStore
) -> None:
    whole = shown(memory)
    root = tree(unlisted, CombinedView()).root
    node: Node = root
    for name in ("ghcr.io", "org", "app:2", "manifest.json"):
        found = node.lookup(name)  # type: ignore[attr-defined]  # a directory
        assert found is not None, name
        assert found.attributes().mode
        node = found
    assert content_of(node) == whole["ghcr.io/org/app:2/manifest.json"]
    assert root.lookup("app:9") is None
    assert root.lookup("-x") is None

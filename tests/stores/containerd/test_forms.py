"""Names that containerd has in several forms: in short, and in full."""

import pytest

from engine import names
from engine.errors import StoreError
from engine.stores.containerd.api import Images
from engine.stores.protocols import Store
from imgfs.vfs.name_changes import NameChanges
from tests.archives import ImageParts, layer, oci_archive
from tests.stores.containerd.loads import NAME, OTHER, listed, load
from tests.stores.containerd.server import Server

SHORT = "app:1"
ANOTHER = oci_archive((ImageParts(layers=(layer("another"),)), NAME))


@pytest.fixture
def twice(server: Server, namespace: str, imported: Store) -> Store:
    """Return a store with an image by both forms of its name."""
    server.ctr(namespace, "images", "tag", NAME, SHORT)
    return imported


def stored(server: Server, namespace: str) -> list[str]:
    return server.ctr(namespace, "images", "ls", "-q").split()


def test_a_name_in_two_forms_is_one(server: Server, namespace: str, twice: Store) -> None:
    assert listed(twice) == [NAME]
    assert [place.path for place in twice.images.places()] == [SHORT]
    names.remove(twice, SHORT)
    assert listed(twice) == []
    assert stored(server, namespace) == []
    server.collect(namespace)
    assert server.stored(namespace) == set()


def test_the_image_of_a_removed_directory_stays_untagged(
    server: Server, namespace: str, twice: Store
) -> None:
    target = twice.images.get(NAME).target.digest
    NameChanges(twice).remove(SHORT)
    assert stored(server, namespace) == listed(twice) == [target]


def test_a_renamed_directory_leaves_no_form(server: Server, namespace: str, twice: Store) -> None:
    target = twice.images.get(NAME).target
    NameChanges(twice).rename(SHORT, "ghcr.io/org/app:2")
    assert stored(server, namespace) == listed(twice) == [OTHER]
    assert twice.images.get(OTHER).target == target


def test_a_load_replaces_all_forms(server: Server, namespace: str, twice: Store) -> None:
    server.ctr(namespace, "images", "rm", NAME)
    old = twice.images.get(NAME).target.digest
    load(twice, ANOTHER)
    new = twice.images.get(NAME).target.digest
    assert listed(twice) == [NAME, old]
    assert stored(server, namespace) == [SHORT, NAME, old]
    server.ctr(namespace, "images", "rm", NAME)
    assert twice.images.get(NAME).target.digest == new
    names.remove(twice, SHORT)
    assert stored(server, namespace) == [old]


def test_forms_of_different_images(server: Server, namespace: str, twice: Store) -> None:
    hidden = twice.images.get(NAME).target.digest
    server.ctr(namespace, "images", "rm", NAME)
    load(twice, oci_archive((ImageParts(layers=(layer("another"),)), OTHER)))
    server.ctr(namespace, "images", "tag", OTHER, NAME)
    shown = twice.images.get(OTHER).target.digest
    assert twice.images.get(NAME).target.digest == shown
    server.ctr(namespace, "images", "tag", SHORT, f"docker.io/library/app@{hidden}")
    assert listed(twice) == [NAME, f"docker.io/library/app@{hidden}", OTHER]
    server.ctr(namespace, "images", "rm", f"docker.io/library/app@{hidden}")
    NameChanges(twice).remove(SHORT)
    assert listed(twice) == [OTHER, hidden]


def test_all_forms_are_put_back_if_a_removal_is_refused(
    server: Server, namespace: str, twice: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def delete(images: Images, name: str) -> None:
        if name == NAME:
            raise StoreError("containerd", "refuses it")
        accept(images, name)

    accept = Images.delete
    monkeypatch.setattr(Images, "delete", delete)
    with pytest.raises(StoreError, match="refuses"):
        names.remove(twice, SHORT)
    assert stored(server, namespace) == [SHORT, NAME]
    assert listed(twice) == [NAME]

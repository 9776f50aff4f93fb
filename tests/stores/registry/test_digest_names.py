"""Names by digest in a registry, which deletes every tag of a manifest with the manifest."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from engine.errors import NotFound, Unsupported
from engine.image import Image
from engine.names import remove, tag
from engine.stores.open import open_store
from engine.stores.protocols import Store
from imgfs.vfs.image_paths import placed
from imgfs.vfs.name_changes import NameChanges
from tests.archives import ImageParts, digest, oci_archive
from tests.referrers import Signed
from tests.stores.containerd.loads import load
from tests.stores.registry.proxy import Proxy, proxy
from tests.stores.registry.server import lacking, registry

APP = ImageParts()
DIGEST = digest(APP.manifest())


@pytest.fixture
def before(tmp_path: Path) -> Iterator[Proxy]:
    if reason := lacking():
        pytest.skip(reason)
    (tmp_path / "registry").mkdir()
    with registry(tmp_path / "registry") as host, proxy(host) as found:
        yield found


@pytest.fixture
def store(before: Proxy, tmp_path: Path) -> Iterator[Store]:
    """Open a store whose registry has one image by two tags, with a cache that is empty."""
    url = f"registry://{before.host}?cache={tmp_path}"
    with open_store(f"{url}/pushed") as other:
        load(other, oci_archive((APP, "docker.io/library/app:1")))
        tag(other, "app:1", "app:2")
    with open_store(f"{url}/cache") as opened:
        yield opened


def tags(before: Proxy, tmp_path: Path) -> list[str]:
    """Return the names in the registry as another machine sees them."""
    with open_store(f"registry://{before.host}?cache={tmp_path}/other") as other:
        return [image.name.rpartition("/")[2] for image in other.images.all()]


def by_digest(before: Proxy, digest: str = DIGEST) -> str:
    return f"{before.host}/app@{digest}"


def test_a_name_by_digest_cannot_be_removed(store: Store, before: Proxy, tmp_path: Path) -> None:
    name = by_digest(before)
    with pytest.raises(Unsupported, match="a name by digest cannot be removed"):
        remove(store, name)
    with pytest.raises(Unsupported, match="a name by digest cannot be removed"):
        store.images.untag(name)
    assert tags(before, tmp_path) == ["app:1", "app:2"]
    assert not before.matching("DELETE")
    with pytest.raises(NotFound):
        remove(store, by_digest(before, digest(b"absent")))


def test_a_directory_by_digest_is_neither_moved_nor_removed(
    store: Store, before: Proxy, tmp_path: Path
) -> None:
    changes, path = NameChanges(store), by_digest(before)
    place = placed(store, path)
    assert place is not None
    assert place.image.target.digest == DIGEST
    attempts: list[Callable[[], None]] = [
        partial(changes.rename, path, f"{before.host}/app:new"),
        partial(changes.remove, path),
        partial(changes.hide, place, path),
    ]
    for attempt in attempts:
        with pytest.raises(PermissionError):
            attempt()
    assert tags(before, tmp_path) == ["app:1", "app:2"]


def test_an_id_stands_for_tags_and_no_digest(store: Store, before: Proxy, tmp_path: Path) -> None:
    assert store.images.find(f"{before.host}/app:1") is not None
    assert store.images.find(by_digest(before)) is not None
    assert [image.name for image in remove(store, DIGEST)] == [f"{before.host}/app:1"]
    assert tags(before, tmp_path) == ["app:2"]
    assert [event.action for event in store.events.after()] == ["untag", "delete"]


def test_an_image_that_is_known_by_its_digest_only_is_found_by_its_id(
    store: Store, before: Proxy, tmp_path: Path
) -> None:
    assert store.images.find(by_digest(before)) is not None
    assert [image.name for image in store.images.by_id(DIGEST)] == [by_digest(before)]
    with pytest.raises(Unsupported, match="a name by digest cannot be removed"):
        remove(store, DIGEST)
    assert tags(before, tmp_path) == ["app:1", "app:2"]


def test_a_referrer_is_removed_by_its_digest(store: Store, before: Proxy, tmp_path: Path) -> None:
    signed = Signed()
    load(store, signed.archive("docker.io/library/app:signed"))
    signature = by_digest(before, digest(signed.signature))
    remove(store, signature)
    with open_store(f"registry://{before.host}?cache={tmp_path}/other") as other:
        assert other.images.find(signature) is None
    assert tags(before, tmp_path) == ["app:1", "app:2", "app:signed"]


def test_a_referrer_that_has_a_tag_is_not_removed_by_its_digest(
    store: Store, before: Proxy, tmp_path: Path
) -> None:
    signed = Signed()
    load(store, signed.archive("docker.io/library/app:signed"))
    signature = by_digest(before, digest(signed.signature))
    with open_store(f"registry://{before.host}?cache={tmp_path}/other") as other:
        found = other.images.get(signature)
        other.images.put(Image(f"{before.host}/app:signature", found.target))
    with pytest.raises(Unsupported, match="while it has the tag signature"):
        remove(store, signature)
    assert "app:signature" in tags(before, tmp_path)

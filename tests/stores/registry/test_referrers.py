"""Referrers come along on the way into a registry and out of it."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.archive.import_options import ImportOptions
from engine.archive.importer import Import
from engine.archive.save import Output, save
from engine.errors import AccessDenied, InvalidReference
from engine.image import Image
from engine.layouts import combined
from engine.layouts.selection import any_complete
from engine.stores.open import open_store
from engine.stores.protocols import Store
from engine.stores.registry import referrers
from engine.stores.registry.referrers import referrers_tag
from tests.archives import OCI_INDEX, OCI_MANIFEST, descriptor, digest, oci_members, tar, to_json
from tests.referrers import SIGNATURE, Signed, artifact
from tests.stores.registry.memory_registry import memory_registry
from tests.stores.registry.proxy import Proxy, proxy
from tests.stores.registry.server import lacking, registry

APP = Signed()
ARCHIVE = APP.archive("docker.io/library/app:1")


@pytest.fixture
def before(tmp_path: Path) -> Iterator[Proxy]:
    """Return a proxy before a registry that knows nothing of referrers."""
    if reason := lacking():
        pytest.skip(reason)
    (tmp_path / "registry").mkdir()
    with registry(tmp_path / "registry") as host, proxy(host) as found:
        yield found


def load(store: Store, archive: bytes) -> None:
    with Import(store, ImportOptions()) as importing:
        importing.feed(archive)
        importing.finish()


def saved(store: Store, image: Image) -> bytes:
    """Return an archive of an image with its referrers."""
    out = io.BytesIO()
    images = [image, *(each.image for each in store.referrers(image))]
    save(store, images, combined.Options(fallback=any_complete), Output(out.write))
    return out.getvalue()


def test_they_are_pushed_and_pulled(before: Proxy, tmp_path: Path) -> None:
    url = f"registry://{before.host}?cache={tmp_path}"
    with open_store(f"{url}/a") as store:
        load(store, ARCHIVE)
    with open_store(f"{url}/b") as store:
        (image,) = store.images.all()
        assert {each.descriptor.digest for each in store.referrers(image)} == APP.digests
        archive = saved(store, image)
    with open_store(f"{url}/c") as store:
        load(store, archive)  # again, into the same place
        assert {each.descriptor.digest for each in store.referrers(image)} == APP.digests
    tag = digest(APP.image.manifest()).replace(":", "-")
    assert len(before.matching(f"PUT .*/manifests/{tag}")) == 2
    with open_store(f"{url}/b") as store:
        assert [each.name for each in store.images.all()] == [f"{before.host}/app:1"]


def test_the_api_is_asked_first(before: Proxy, tmp_path: Path) -> None:
    url = f"registry://{before.host}?cache={tmp_path}"
    with open_store(f"{url}/a") as store:
        load(store, ARCHIVE)
    tag = digest(APP.image.manifest()).replace(":", "-")
    signature = descriptor(APP.signature, OCI_MANIFEST)
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [signature]}
    before.answers[f"/v2/app/referrers/{digest(APP.image.manifest())}"] = to_json(index)
    before.seen.clear()
    with open_store(f"{url}/b") as store:
        (image,) = store.images.all()
        (found,) = store.referrers(image)
    assert found.descriptor.digest == digest(APP.signature)
    assert not before.matching(f"GET .*/manifests/{tag}")


def test_a_repository_that_is_denied_hides_no_other(tmp_path: Path) -> None:
    subject = APP.image.manifest()
    tag = referrers_tag(digest(subject))
    index = {"manifests": [descriptor(APP.signature, OCI_MANIFEST)]}
    with (
        memory_registry() as running,
        open_store(f"registry://{running.host}?cache={tmp_path}/cache") as store,
    ):
        for repository in ("denied", "open"):
            running.put(repository, "1", APP.image)
            running.put_manifest(repository, tag, to_json(index))
            running.put_manifest(repository, "signature", APP.signature)
            running.answers[f"/v2/{repository}/blobs/{digest(b'{}')}"] = b"{}"
        images = [store.images.get(f"{running.host}/{each}:1") for each in ("denied", "open")]
        running.statuses[f"/v2/denied/referrers/{digest(subject)}"] = 403
        running.statuses[f"/v2/denied/manifests/{tag}"] = 403
        for image in images:
            (found,) = store.referrers(image)
            assert found.descriptor.digest == digest(APP.signature)
        running.statuses[f"/v2/open/manifests/{tag}"] = 403
        with pytest.raises(AccessDenied):
            store.referrers(images[0])


def test_no_more_are_fetched_than_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(referrers, "_MOST", 10)
    subject = APP.image.manifest()
    manifests = [artifact(SIGNATURE, subject, str(n).encode()) for n in range(30)]
    index = {"manifests": [descriptor(each, OCI_MANIFEST) for each in manifests]}
    with (
        memory_registry() as running,
        open_store(f"registry://{running.host}?cache={tmp_path}/cache") as store,
    ):
        running.put("app", "1", APP.image)
        running.put_manifest("app", referrers_tag(digest(subject)), to_json(index))
        running.answers[f"/v2/app/blobs/{digest(b'{}')}"] = b"{}"
        for each in manifests:
            running.answers[f"/v2/app/manifests/{digest(each)}"] = each
        image = store.images.get(f"{running.host}/app:1")
        assert len(store.referrers(image)) == 10
    fetched = {f"/v2/app/manifests/{digest(each)}" for each in manifests} & {*running.seen}
    assert len(fetched) == 10


def test_a_referrer_without_its_subject_is_refused(before: Proxy, tmp_path: Path) -> None:
    blobs = [APP.sbom, b"{}", b"an SBOM"]
    alone = tar(oci_members([descriptor(APP.sbom, OCI_MANIFEST)], blobs))
    with open_store(f"registry://{before.host}?cache={tmp_path}/a") as store:
        with pytest.raises(InvalidReference, match="needs a name"):
            load(store, alone)
        load(store, ARCHIVE)
        load(store, alone)

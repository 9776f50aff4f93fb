"""The store over a real containerd, beside ctr."""

import io
import os
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from msgspec.structs import replace

from engine import names
from engine.archive.save import Output, save
from engine.content.blobs import DOCUMENT_LIMIT, read_blob
from engine.content.protocols import Info
from engine.errors import BrokenArchive, MissingContent, NotFound, StoreError, Unreachable
from engine.image import Image, Summary
from engine.layouts import combined
from engine.spec import digest as digests
from engine.spec.descriptor import Descriptor
from engine.stores.containerd import leases
from engine.stores.containerd.api import Content, Images
from engine.stores.containerd.client import Subscription
from engine.stores.containerd.writer import ContainerdWriter
from engine.stores.open import create_store, open_store
from engine.stores.protocols import Store
from engine.testing.blobs import write_blob
from tests.archives import OCI_MANIFEST, ImageParts, layer, oci_archive
from tests.referrers import Signed
from tests.stores.containerd.loads import (
    APP,
    ARCHIVE,
    LARGE,
    LAYER,
    NAME,
    OTHER,
    listed,
    load,
)
from tests.stores.containerd.server import Server, lacking, running
from tests.waiting import wait_until


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Server]:
    """Return a containerd that no other test uses."""
    if reason := lacking():
        pytest.skip(reason)
    with running(tmp_path / "c") as server:
        yield server


def layers_of(archive_parts: ImageParts) -> set[str]:
    return {digests.of_bytes(data) for data in archive_parts.layers}


# What is there


def test_an_image_of_ctr_is_read_from_containerds_files(server: Server, imported: Store) -> None:
    (image,) = imported.images.all()
    assert image.name == NAME
    assert imported.images.summary(image.target.digest).missing == ()
    with imported.content.open(LAYER) as reader:
        descriptor = reader.fileno()
        assert descriptor is not None
        files = server.root / "root" / "io.containerd.content.v1.content" / "blobs"
        of_containerd = files / "sha256" / LAYER.encoded
        assert os.path.samestat(os.fstat(descriptor), of_containerd.stat())


def test_a_change_of_ctr_is_seen_at_once(server: Server, namespace: str, imported: Store) -> None:
    for number in range(5):
        name, version = f"docker.io/library/app:n{number}", imported.version()
        server.ctr(namespace, "images", "tag", NAME, name)
        assert imported.images.find(name) is not None
        assert imported.version() != version
        server.ctr(namespace, "images", "rm", name)
        assert imported.images.find(name) is None


def test_what_nothing_has_changed_is_not_asked_for_again(
    imported: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(_images: Images) -> list[Image]:
        calls.append(1)
        return answer(_images)

    def follow(events: Subscription[Any]) -> Iterator[Any]:
        is_followed.set()  # once the watch has noted its connection
        return iterate(events)

    calls: list[int] = []
    is_followed = Event()
    answer, iterate = Images.all, Subscription.__iter__
    monkeypatch.setattr(Images, "all", ask)
    monkeypatch.setattr(Subscription, "__iter__", follow)
    listed(imported)
    assert is_followed.wait(30)
    wait_until(lambda: is_kept(imported, calls), "the answer is kept")
    for _ in range(10):
        assert imported.images.place_at("app:1") is not None
    assert calls == []


def is_kept(store: Store, calls: list[int]) -> bool:
    calls.clear()
    return bool(listed(store)) and not calls


def test_names_that_are_no_images_of_their_own(
    server: Server, namespace: str, imported: Store
) -> None:
    target = imported.images.get(NAME).target.digest
    config = digests.of_bytes(APP.config)
    for name in (config, f"moby-dangling@{target}", f"docker.io/library/app@{target}", "no-tag"):
        server.ctr(namespace, "images", "tag", NAME, name)
    assert listed(imported) == [NAME]
    assert imported.images.find(f"docker.io/library/app@{target}") is not None
    server.ctr(namespace, "images", "rm", NAME, f"docker.io/library/app@{target}")
    assert listed(imported) == [target]
    names.tag(imported, config, "docker.io/library/app:2")
    assert listed(imported) == ["docker.io/library/app:2"]
    names.remove(imported, "app:2")
    assert server.ctr(namespace, "images", "ls", "-q") == "no-tag"
    for name in (config, target):
        server.ctr(namespace, "images", "tag", "no-tag", name)
    names.remove(imported, target)
    assert server.ctr(namespace, "images", "ls", "-q") == "no-tag"


def test_layers_that_are_gone_are_named(server: Server, namespace: str, imported: Store) -> None:
    image = imported.images.get(NAME)
    before = imported.images.target(image.target.digest)
    server.ctr(namespace, "content", "rm", LAYER)
    assert imported.images.summary(image.target.digest).missing == (LAYER,)
    assert imported.images.target(image.target.digest) != before
    with pytest.raises(MissingContent, match=LAYER):
        save(imported, [image], combined.Options(), Output(io.BytesIO().write))
    with pytest.raises(NotFound):
        imported.content.open(LAYER)
    load(imported)
    assert imported.images.summary(image.target.digest).missing == ()


@pytest.mark.parametrize(
    ("manifest", "size"),
    [
        (b"no JSON", None),
        (b'{"subject": 1}', None),
        (b"{}", 99),
        (b" " * (DOCUMENT_LIMIT + 1), None),
    ],
    ids=["no JSON", "no manifest", "other size", "large"],
)
def test_a_broken_manifest_hides_no_referrers_of_another_image(
    server: Server, namespace: str, opened: Store, manifest: bytes, size: int | None
) -> None:
    signed = Signed()
    broken = Descriptor(OCI_MANIFEST, digests.of_bytes(manifest), size or len(manifest))
    with opened.transaction():
        load(opened, signed.archive(NAME))
        write_blob(opened.content, broken.digest, manifest)
        opened.images.record(broken.digest, Summary(0, (broken.digest,), ()))
        opened.images.put(Image("docker.io/library/broken:1", broken))
    with open_store(server.url(namespace)) as store:
        found = store.referrers(store.images.get(NAME))
        assert {each.descriptor.digest for each in found} == signed.digests


# What is written


@pytest.mark.parametrize("fixture", ["opened", "remote"])
def test_ctr_has_what_is_loaded_and_its_collection_keeps_it(
    server: Server, namespace: str, request: pytest.FixtureRequest, fixture: str
) -> None:
    store: Store = request.getfixturevalue(fixture)
    load(store)
    server.collect(namespace)
    assert "complete" in server.ctr(namespace, "images", "check")
    assert layers_of(APP) <= server.stored(namespace)
    assert len(server.stored(namespace)) == 4
    assert server.ctr(namespace, "leases", "ls", "-q") == ""
    assert server.ctr(namespace, "content", "active").splitlines()[1:] == []


def test_references_are_labelled_as_ctr_labels_them(
    server: Server, namespace: str, archive: Path, opened: Store
) -> None:
    theirs = f"{namespace}-ctr"
    server.ctr(theirs, "images", "import", "--no-unpack", archive)
    load(opened)
    digest = opened.images.get(NAME).target.digest
    with open_store(server.url(theirs)) as imported:
        expected = imported.content.info(digest).labels
    assert opened.content.info(digest).labels == expected


def test_a_large_layer_is_written_into_containerds_directory(opened: Store) -> None:
    with opened.content.unnamed_writer() as writer:
        assert isinstance(writer, ContainerdWriter)
        writer.write(LARGE[:100])
        writer.pwrite(LARGE[50:], 50)
        assert writer.commit(len(LARGE), LAYER).added
    assert read_blob(opened.content, LAYER) == LARGE
    with opened.content.unnamed_writer() as writer:
        writer.write(LARGE)
        assert not writer.commit(expected=LAYER, labels={"k": "v"}).added
    assert opened.content.info(LAYER).labels == {"k": "v"}


def test_a_load_that_fails_leaves_nothing(server: Server, namespace: str, opened: Store) -> None:
    with pytest.raises(BrokenArchive):
        load(opened, ARCHIVE[:-20_000])
    assert listed(opened) == []
    assert server.stored(namespace) == set()
    assert server.ctr(namespace, "content", "active").splitlines()[1:] == []


def test_names_are_put_back_if_one_is_refused(
    server: Server, namespace: str, imported: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put(images: Images, image: Image) -> None:
        if image.name.endswith(":z"):
            raise StoreError("containerd", "refuses it")
        accept(images, image)

    accept = Images.put
    image = imported.images.get(NAME)
    monkeypatch.setattr(Images, "put", put)

    def change() -> None:
        with imported.transaction():
            for tag in ("a", "z"):
                imported.images.put(replace(image, name=f"docker.io/library/app:{tag}"))
            imported.images.delete(NAME)

    with pytest.raises(StoreError, match="refuses"):
        change()
    assert server.ctr(namespace, "images", "ls", "-q") == NAME
    assert listed(imported) == [NAME]
    assert imported.events.after() == []


def test_blobs_of_a_transaction_that_fails_are_collected(
    server: Server, namespace: str, imported: Store
) -> None:
    def change() -> None:
        with imported.transaction():
            load(imported, oci_archive((ImageParts(layers=(layer("c"),)), OTHER)))
            assert imported.images.find(OTHER) is not None
            raise KeyError

    before = server.stored(namespace)
    with pytest.raises(KeyError):
        change()
    assert listed(imported) == [NAME]
    assert server.stored(namespace) == before


def test_tables_of_layers_that_are_gone_are_removed(
    server: Server, namespace: str, opened: Store
) -> None:
    for layer_of in (LAYER, digests.of_bytes(b"gone")):
        opened.tables.put(layer_of, b"a table")
    load(opened)
    with create_store(server.url(namespace)) as store:
        assert store.tables.get(LAYER) is not None
        assert store.tables.get(digests.of_bytes(b"gone")) is None


def test_a_lease_protects_a_blob(server: Server, namespace: str, imported: Store) -> None:
    with imported.leases.hold() as lease:
        imported.leases.add(lease.id, LAYER)
        server.ctr(namespace, "images", "rm", "--sync", NAME)
        assert server.stored(namespace) == {LAYER}
    with pytest.raises(NotFound):
        imported.leases.add(lease.id, LAYER)


@pytest.mark.usefixtures("slow")
def test_what_is_remembered_of_a_leased_blob_is_asked_anew(
    server: Server, namespace: str, remote: Store
) -> None:
    unnamed(server, namespace, remote)
    assert LAYER in {info.digest for info in remote.content.walk()}
    server.collect(namespace)
    with remote.leases.hold() as lease:
        remote.leases.add(lease.id, LAYER)
        assert not remote.content.exists(LAYER)
        assert list(remote.content.walk()) == []


@pytest.mark.usefixtures("slow")
def test_an_answer_from_before_a_lease_is_not_remembered(
    server: Server, namespace: str, remote: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(content: Content) -> list[Info]:
        monkeypatch.setattr(Content, "all", answer)
        found = answer(content)
        server.collect(namespace)
        remote.leases.add(lease.id, LAYER)
        return found

    unnamed(server, namespace, remote)
    answer = Content.all
    monkeypatch.setattr(Content, "all", ask)
    with remote.leases.hold() as lease:
        assert list(remote.content.walk()) != []
        assert list(remote.content.walk()) == []


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is remembered without containerd's metadata be good for ever."""
    monkeypatch.setattr("engine.stores.containerd.watch._UNSEEN", 1e12)


def unnamed(server: Server, namespace: str, store: Store) -> None:
    """Load an image whose name ctr then removes, so that containerd can collect it."""
    load(store)
    server.ctr(namespace, "images", "rm", NAME)
    wait_until(lambda: listed(store) == [], "the event has come")


def test_an_open_blob_outlives_its_image(server: Server, namespace: str, remote: Store) -> None:
    load(remote)
    with remote.content.open(LAYER) as reader:
        server.ctr(namespace, "images", "rm", "--sync", NAME)
        assert reader.pread(len(LARGE), 0) == LARGE
        assert reader.pread(10, len(LARGE) - 5) == LARGE[-5:]
    assert server.ctr(namespace, "leases", "ls", "-q") == ""


def test_a_blob_that_is_open_for_long_outlives_its_image(
    server: Server, namespace: str, remote: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(remote)
    monkeypatch.setattr(leases, "_PERIOD", 0.01)
    monkeypatch.setattr(leases, "_EXPIRY", -time.time())  # as if the time had passed
    with remote.content.open(LAYER) as reader:
        assert "1970-01-01" in server.ctr(namespace, "leases", "ls")
        monkeypatch.setattr(leases, "_EXPIRY", 3600.0)
        wait_until(
            lambda: "1970-01-01" not in server.ctr(namespace, "leases", "ls"),
            "the lease is renewed",
        )
        server.ctr(namespace, "images", "rm", "--sync", NAME)
        assert reader.pread(len(LARGE), 0) == LARGE
    assert server.ctr(namespace, "leases", "ls", "-q") == ""
    server.collect(namespace)
    assert server.stored(namespace) == set()


# A containerd that goes and comes


def test_a_containerd_that_goes_and_comes(own: Server) -> None:
    with create_store(own.url("test")) as store:
        load(store)
        assert store.images.count() == 1
        with store.content.open(LAYER) as reader:
            own.stop()
            wait_until(lambda: not answers(store), "the store notices")
            for use in (store.images.all, lambda: store.content.open(LAYER)):
                with pytest.raises(Unreachable, match="does not answer"):
                    use()
            with pytest.raises(Unreachable):
                load(store)
            assert store.images.count() == 1
            assert reader.pread(len(LARGE), 0) == LARGE
        own.start()
        assert listed(store) == [NAME]
        load(store)
        own.ctr("test", "images", "tag", NAME, OTHER)
        assert listed(store) == [NAME, OTHER]


def answers(store: Store) -> bool:
    try:
        store.images.all()
    except Unreachable:
        return False
    return True


# Stores that cannot be opened


def test_a_namespace_must_be_there_to_be_read(server: Server) -> None:
    with pytest.raises(StoreError, match=r"found no nowhere; there are: .*"):
        open_store(server.url("nowhere"))
    assert "nowhere" not in server.ctr("", "namespaces", "ls", "-q").split()


def test_a_namespace_with_images_is_found(own: Server) -> None:
    create_store(own.url("empty")).close()
    with create_store(own.url("used")) as store:
        load(store)
    with open_store(f"containerd://{own.socket}") as store:
        assert listed(store) == [NAME]


def test_docker_without_its_images_in_containerd(server: Server) -> None:
    for opens in (open_store, create_store):
        with pytest.raises(StoreError, match="containerd image store"):
            opens(f"docker://{server.socket}")

"""A store in memory passes the suites, and everything above the protocols works over it."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import names
from engine.archive.import_options import ImportOptions
from engine.archive.importer import Import
from engine.archive.loaded import Loaded
from engine.archive.save import Output, save
from engine.archive.save_for_docker import save_for_docker
from engine.commit.commit import Committed, commit
from engine.commit.source import CommitOptions, PlatformSource, Ref, Source
from engine.content.blobs import read_blob
from engine.details import details
from engine.errors import AlreadyExists, BrokenArchive, NotFound, StoreError
from engine.filetree.directory import scan
from engine.filetree.merged import MergedImage
from engine.image import Image
from engine.layers.layer import Layers
from engine.layouts import combined, docker_save
from engine.spec import digest, platforms
from engine.stores.protocols import Store
from engine.testing.blobs import write_blob
from engine.testing.content import ContentSuite
from engine.testing.images import NAME, ONE, OTHER, TWO, ImageSuite, summary
from engine.testing.tables import TableSuite
from imgfs.vfs.nodes import BytesFile, Directory, FixedDirectory, Node
from imgfs.vfs.tree import ImageTree
from imgfs.vfs.views import CombinedView, DockerView, View
from tests import archives
from tests.archives import ImageParts
from tests.stores.memory import MemoryContent, MemoryImages, MemoryStore, MemoryTables
from tests.trees import picture

APP = ImageParts(layers=[archives.layer("a"), archives.layer("b")])
APP_NAME = "docker.io/library/app:1"


@pytest.fixture
def memory(tmp_path: Path) -> MemoryStore:
    return MemoryStore(tmp_path)


@pytest.fixture
def loaded(memory: MemoryStore) -> Store:
    """Return a store with the image `app:1`, which has compressed layers."""
    load(memory, archives.oci_archive((APP, APP_NAME), gzipped=True))
    return memory


class TestMemoryContent(ContentSuite):
    """The suite on blobs in memory."""

    @pytest.fixture
    def store(self, memory: MemoryStore) -> MemoryContent:
        return memory.content


class TestMemoryImages(ImageSuite):
    """The suite on names in memory."""

    @pytest.fixture
    def images(self, memory: MemoryStore) -> MemoryImages:
        return memory.images


class TestMemoryTables(TableSuite):
    """The suite on tables in memory."""

    @pytest.fixture
    def tables(self, memory: MemoryStore) -> MemoryTables:
        return memory.tables


def load(store: Store, archive: bytes) -> Loaded:
    with Import(store, ImportOptions()) as session:
        session.feed(archive)
        return session.finish()


def layers_of(store: Store) -> Layers:
    return Layers(store.content, store.tables, store.directory)


def committed(store: Store, root: Path, base: str = "") -> Committed:
    source = Source((PlatformSource(None, Ref(root)),), base)
    options = CommitOptions(created="2024-01-01T00:00:00Z")
    return commit(store, source, (OTHER,), options, lambda _step, _read: None)


def files(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        members = [(member.name, tar.extractfile(member)) for member in tar]
    return {name: file.read() for name, file in members if file}


# Transactions


def test_a_transaction_that_fails_changes_nothing(memory: MemoryStore) -> None:
    memory.images.record(ONE.digest, summary("c1"))

    def change() -> None:
        with memory.transaction():
            memory.images.create(Image(NAME, ONE))
            write_blob(memory.content, "a", b"data")
            memory.images.create(Image(OTHER, TWO))

    with pytest.raises(NotFound):
        change()
    assert memory.images.all() == []
    assert not memory.content.exists(digest.of_bytes(b"data"))
    assert memory.content.statuses() == []
    assert memory.events.last() == 0


def test_a_part_of_a_transaction_fails_alone(memory: MemoryStore) -> None:
    memory.images.record(ONE.digest, summary("c1"))
    before = memory.version()

    def change() -> None:
        with memory.transaction():
            memory.images.create(Image(OTHER, ONE))
            memory.images.create(Image(NAME, ONE))

    with memory.transaction():
        memory.images.create(Image(NAME, ONE))
        with pytest.raises(AlreadyExists):
            change()
    assert [image.name for image in memory.images.all()] == [NAME]
    assert [event.action for event in memory.events.after()] == ["tag"]
    assert memory.version() != before


def test_a_lease_ends_with_its_block(memory: MemoryStore) -> None:
    with memory.leases.hold() as lease:
        memory.leases.add(lease.id, ONE.digest)
    with pytest.raises(NotFound):
        memory.leases.add(lease.id, ONE.digest)


def test_nothing_is_collected(memory: MemoryStore) -> None:
    assert not memory.supports_collection
    assert not memory.name_lock.hold()
    for use in (memory.garbage, memory.collect):
        with pytest.raises(StoreError):
            use()


# Loading and saving


@pytest.mark.parametrize(
    "archive",
    [archives.oci_archive((APP, APP_NAME)), archives.docker_archive((APP, ["app:1"]))],
    ids=["oci", "docker"],
)
def test_an_archive_is_loaded(memory: MemoryStore, archive: bytes) -> None:
    load(memory, archive)
    assert [image.name for image in memory.images.all()] == [APP_NAME]
    found = details(memory, "app:1")
    assert found.manifest.manifest.config.digest == APP.id
    assert found.raw_config == APP.config
    assert "load" in [event.action for event in memory.events.after()]


def test_a_broken_archive_leaves_nothing(memory: MemoryStore) -> None:
    archive = archives.oci_archive((APP, APP_NAME))
    with pytest.raises(BrokenArchive):
        load(memory, archive[: len(archive) // 2])
    assert list(memory.content.walk()) == []
    assert memory.content.statuses() == []
    assert memory.images.all() == []


def test_what_is_saved_is_loaded_again(loaded: Store, tmp_path: Path) -> None:
    options = combined.Options(platforms.ALL, platforms.ALL)
    out = io.BytesIO()
    size = save(loaded, loaded.images.all(), options, Output(out.write))
    assert size == len(out.getvalue())
    other = MemoryStore(tmp_path)
    load(other, out.getvalue())
    assert [i.target.digest for i in other.images.all()] == [
        i.target.digest for i in loaded.images.all()
    ]
    assert [info.digest for info in other.content.walk()] == [
        info.digest for info in loaded.content.walk()
    ]
    assert loaded.events.after()[-1].action == "save"


def test_saving_for_docker_writes_plain_layers(loaded: Store) -> None:
    options = docker_save.Options(platforms.ALL, platforms.ALL)
    out = io.BytesIO()
    save_for_docker(loaded, loaded.images.all(), options, Output(out.write))
    found = files(out.getvalue())
    (item,) = json.loads(found["manifest.json"])
    assert item["RepoTags"] == ["app:1"]
    assert [found[path] for path in item["Layers"]] == list(APP.layers)


# Committing and naming


def test_a_directory_is_committed(memory: MemoryStore, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "motd").write_text("hello\n")
    made = committed(memory, root)
    assert [image.target for image in memory.images.all()] == [made.target]
    merged = MergedImage(layers_of(memory), details(memory, OTHER).manifest.manifest)
    assert picture(merged.tree) == picture(scan(root))
    assert committed(memory, root).target == made.target


def test_a_directory_is_committed_upon_an_image(loaded: Store, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "motd").write_text("hello\n")
    committed(loaded, root, "app:1")
    merged = MergedImage(layers_of(loaded), details(loaded, OTHER).manifest.manifest)
    assert b"".join(merged.read("motd")) == b"hello\n"


def test_names_are_given_and_removed(loaded: Store) -> None:
    names.tag(loaded, "app:1", "other:2")
    assert {image.familiar for image in names.find(loaded.images, APP.id)} == {"app:1", "other:2"}
    assert names.find_one(loaded.images, "other:2").target == loaded.images.get(APP_NAME).target
    names.remove(loaded, "app:1")
    assert [image.familiar for image in loaded.images.all()] == ["other:2"]
    names.remove(loaded, APP.id[7:19])
    assert loaded.images.count() == 0


# The tree


def tree(store: Store, view: View) -> ImageTree:
    return ImageTree(store, view, {"import": FixedDirectory("import", {})})


def listed(directory: Directory, path: str = "") -> Iterator[tuple[str, Node]]:
    """Yield the path and node of every file below a directory."""
    for name, node in directory.children():
        found = directory.lookup(name)
        assert found is not None
        assert found.key == node.key
        if hasattr(node, "children"):
            yield from listed(node, f"{path}{name}/")  # type: ignore[arg-type]  # has children
        else:
            yield f"{path}{name}", node


def content_of(node: Node) -> bytes:
    reader = node.open()  # type: ignore[attr-defined]  # every file has it
    try:
        assert reader.fileno() is None
        size = node.attributes().size
        return b"".join(reader.read(offset, 1000) for offset in range(0, size, 1000))
    finally:
        reader.close()


@pytest.mark.parametrize("view", [CombinedView(), DockerView()], ids=["combined", "docker"])
def test_the_tree_shows_an_archive(loaded: Store, view: View) -> None:
    names.tag(loaded, "app:1", "ghcr.io/org/app:2")
    shown = dict(listed(tree(loaded, view).root))
    for image in ("app:1", "ghcr.io/org/app:2"):
        (item,) = json.loads(content_of(shown[f"{image}/manifest.json"]))
        assert content_of(shown[f"{image}/{item['Config']}"]) == APP.config
        for path in item["Layers"]:
            data = content_of(shown[f"{image}/{path}"])
            assert digest.of_bytes(data).encoded in path
    assert isinstance(shown["app:1/oci-layout"], BytesFile)


def test_the_tree_follows_the_store(loaded: Store) -> None:
    images = tree(loaded, CombinedView())
    blob = loaded.images.get(APP_NAME).target.digest
    assert images.root.lookup("other:2") is None
    names.tag(loaded, "app:1", "other:2")
    assert images.root.lookup("other:2") is not None
    node = dict(listed(images.root))[f"other:2/blobs/{blob.replace(':', '/')}"]
    assert node.attributes().links == 2
    assert content_of(node) == read_blob(loaded.content, blob)
    images.changes.rename("other:2", "third:3")
    assert [image.familiar for image in loaded.images.all()] == ["app:1", "third:3"]
    images.changes.remove("third:3")
    assert images.root.lookup("third:3") is None
    assert images.root.lookup("app:1") is not None

"""What triggers derive of images: links, and an image's revision."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.image import Image, Summary, TreeEntry
from engine.spec.digest import of_bytes
from engine.spec.oci import DOCKER_MANIFEST, Descriptor
from engine.stores.local.database import Database
from engine.stores.local.images import LocalImages
from engine.stores.local.schema import LINKS
from tests.stores.local.old_schema import downgrade

TARGETS = [Descriptor(DOCKER_MANIFEST, of_bytes(name), 3) for name in (b"one", b"two", b"three")]
NAMES = ["docker.io/library/app:1", "docker.io/library/app:2", "reg:5000/app:1"]
# An image that is called like a registry moves when an image of that registry comes.
NAMES += ["docker.io/library/reg:5000"]
BLOBS = [of_bytes(bytes([n])) for n in range(3)]

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(NAMES), st.sampled_from(TARGETS)),
        st.tuples(st.sampled_from(["delete", "untag"]), st.sampled_from(NAMES)),
        st.tuples(st.just("record"), st.sampled_from(TARGETS), st.sets(st.sampled_from(BLOBS))),
    ),
    max_size=25,
)


def record(images: LocalImages, target: Descriptor, blobs: set[str]) -> None:
    images.record(target.digest, Summary(len(blobs), tuple(sorted(blobs)), ()))


def take(images: LocalImages, step: tuple[object, ...]) -> None:
    match step:
        case ("put", str() as name, Descriptor() as target):
            if not images.is_named(target.digest):
                record(images, target, {BLOBS[0]})
            images.put(Image(name, target))
        case ("delete", str() as name):
            if images.find(name):
                images.delete(name)
        case ("untag", str() as name):
            if images.find(name):
                images.untag(name)
        case ("record", Descriptor() as target, set() as blobs):
            if images.is_named(target.digest):
                record(images, target, blobs)
        case _:
            raise AssertionError(step)


def listed(images: LocalImages) -> dict[str, TreeEntry]:
    return {place.path: place for place in images.places()}


def check(database: Database, images: LocalImages) -> None:
    assert set(database.read("SELECT digest, count FROM links")) == set(database.read(LINKS))
    for place in images.places():
        target = images.target(place.image.target.digest)
        assert (place.revision, place.created) == (target.revision, target.created)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_links_and_revisions_follow_every_step(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[object, ...]]
) -> None:
    path = tmp_path_factory.mktemp("images") / "imgfs.db"
    with Database(path) as database:
        images = LocalImages(database)
        for step in steps:
            take(images, step)
            check(database, images)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "imgfs.db"


@pytest.mark.parametrize("version", [3, 4])
def test_an_older_store(path: Path, version: int) -> None:
    with Database(path) as database:
        images = LocalImages(database)
        for target, name in zip(TARGETS, NAMES, strict=False):
            record(images, target, set(BLOBS))
            images.create(Image(name, target))
        before = listed(images)
    downgrade(path.parent, version)
    with Database(path) as database:
        images = LocalImages(database)
        assert listed(images) == before
        assert images.links(BLOBS) == dict.fromkeys(BLOBS, 3)
        check(database, images)


def test_an_older_store_keeps_the_names_of_the_views_free(tmp_path: Path) -> None:
    names = ["docker.io/layers/x:1", "docker.io/library/rootfs:1", "docker.io/library/app:1"]
    with Database(tmp_path / "imgfs.db") as database:
        images = LocalImages(database)
        record(images, TARGETS[0], set())
        for name in names:
            images.create(Image(name, TARGETS[0]))
        with database.transaction() as connection:
            connection.execute("UPDATE images SET path = 'rootfs:1' WHERE name LIKE '%rootfs:1'")
            connection.execute("UPDATE images SET path = 'layers/x:1' WHERE name LIKE '%layers%'")
    downgrade(tmp_path, 6)
    with Database(tmp_path / "imgfs.db") as database:
        assert sorted(listed(LocalImages(database))) == sorted(["app:1", *names[:2]])

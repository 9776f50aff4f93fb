"""The local image store: the suite, its clock, and paths of names."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.image import Image, path_of
from engine.stores.local.database import Database
from engine.stores.local.images import LocalImages
from engine.testing.images import NAME, ONE, ImageSuite, summary


@pytest.fixture
def images(tmp_path: Path) -> Iterator[LocalImages]:
    with Database(tmp_path / "imgfs.db") as database:
        yield LocalImages(database)


class TestLocalImages(ImageSuite):
    """The suite on the images of a database."""


def test_times_are_of_the_clock(tmp_path: Path) -> None:
    with Database(tmp_path / "imgfs.db") as database:
        images = LocalImages(database, clock=lambda: 1000.0)
        images.record(ONE.digest, summary("c1"))
        created = images.create(Image(NAME, ONE, {"k": "v"}))
        assert created == images.get(NAME) == Image(NAME, ONE, {"k": "v"}, 1000.0, 1000.0)


def test_whether_a_target_has_a_name_does_not_depend_on_how_many(
    images: LocalImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    images.record(ONE.digest, summary("c1"))
    for tag in range(3):
        images.put(Image(f"docker.io/library/app:{tag}", ONE))
    monkeypatch.setattr("engine.stores.local.images._image", None)  # which decodes a row
    assert images.is_named(ONE.digest)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("docker.io/library/alpine:3", "alpine:3"),
        ("docker.io/org/app:1", "org/app:1"),
        ("ghcr.io/org/app:1.2", "ghcr.io/org/app:1.2"),
        ("localhost:5000/team/app:1", "localhost:5000/team/app:1"),
        ("docker.io/import/x:1", "docker.io/import/x:1"),
        ("docker.io/library/rootfs:1", "docker.io/library/rootfs:1"),
        ("docker.io/layers/x:1", "docker.io/layers/x:1"),
        ("docker.io/library/import:1", "docker.io/library/import:1"),
        ("docker.io/library/localhost:5000", "docker.io/library/localhost:5000"),
        ("docker.io/org/blobs:1", "docker.io/org/blobs:1"),
        ("docker.io/library/blobs:1", "blobs:1"),
        (ONE.digest, ONE.digest),
    ],
)
def test_where_a_name_stands_in_the_tree(name: str, path: str) -> None:
    assert path_of(name) == path

"""The image store."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import AlreadyExists, Ambiguous, InvalidReference, NotFound
from engine.image import Image, ManifestSummary, Summary, path_of
from engine.spec.digest import of_bytes
from engine.spec.oci import DOCKER_MANIFEST, Descriptor
from engine.stores.local.database import Database
from engine.stores.local.images import LocalImages

ONE, TWO = (Descriptor(DOCKER_MANIFEST, of_bytes(name), 3) for name in (b"one", b"two"))
NAME, OTHER = "docker.io/library/app:1", "ghcr.io/org/app:2"


def summary(name: str) -> Summary:
    config = of_bytes(name.encode())
    manifest = ManifestSummary(of_bytes(b"m"), config, "linux/amd64", 42)
    return Summary(7, tuple(sorted((of_bytes(b"m"), config, of_bytes(b"layer")))), (manifest,))


@pytest.fixture
def images(tmp_path: Path) -> Iterator[LocalImages]:
    with Database(tmp_path / "imgfs.db") as database:
        store = LocalImages(database, clock=lambda: 1000.0)
        store.record(ONE.digest, summary("c1"))
        store.record(TWO.digest, summary("c2"))
        yield store


def test_create_get_list(images: LocalImages) -> None:
    created = images.create(Image(NAME, ONE, {"k": "v"}))
    assert created == images.get(NAME) == Image(NAME, ONE, {"k": "v"}, 1000.0, 1000.0)
    images.create(Image(OTHER, TWO))
    assert [i.name for i in images.all()] == [NAME, OTHER]
    assert [i.name for i in images.all("ghcr.io/org/app")] == [OTHER]
    assert images.all("ghcr.io/org") == []
    assert images.count() == 2


def test_a_name_is_created_once(images: LocalImages) -> None:
    images.create(Image(NAME, ONE))
    with pytest.raises(AlreadyExists, match=NAME):
        images.create(Image(NAME, TWO))


def test_a_target_must_be_recorded(images: LocalImages) -> None:
    with pytest.raises(NotFound):
        images.create(Image(NAME, Descriptor(DOCKER_MANIFEST, of_bytes(b"unknown"), 3)))
    assert images.all() == []


@pytest.mark.parametrize("name", ["app:1", "docker.io/library/app", "docker.io/library/A:1"])
def test_a_name_must_be_full(images: LocalImages, name: str) -> None:
    with pytest.raises(InvalidReference):
        images.create(Image(name, ONE))
    assert images.all() == []


def test_an_update_keeps_the_old_image_untagged(images: LocalImages) -> None:
    images.create(Image(NAME, ONE))
    images.put(Image(NAME, TWO))
    assert {i.name: i.target for i in images.all()} == {NAME: TWO, ONE.digest: ONE}
    images.put(Image(NAME, ONE))
    assert {i.name: i.target for i in images.all()} == {NAME: ONE, TWO.digest: TWO}


def test_an_update_of_nothing_is_not_found(images: LocalImages) -> None:
    with pytest.raises(NotFound):
        images.update(Image(NAME, ONE))


def test_the_last_name_takes_the_record_along(images: LocalImages) -> None:
    images.create(Image(NAME, ONE))
    images.create(Image(OTHER, ONE))
    images.delete(NAME)
    assert images.target(ONE.digest).created == 7
    images.delete(OTHER)
    with pytest.raises(NotFound):
        images.target(ONE.digest)
    with pytest.raises(NotFound):
        images.delete(OTHER)


def test_untagging_the_last_name_keeps_the_image(images: LocalImages) -> None:
    images.create(Image(NAME, ONE))
    images.untag(NAME)
    assert [i.name for i in images.all()] == [ONE.digest]
    images.put(Image(NAME, ONE))
    assert [i.name for i in images.all()] == [NAME]


def test_finding_by_id(images: LocalImages) -> None:
    images.create(Image(NAME, ONE))
    images.create(Image(OTHER, ONE))
    config = of_bytes(b"c1")
    for prefix in (config, config.encoded, config.encoded[:12], config[:20], ONE.digest):
        assert [i.name for i in images.by_id(prefix)] == [NAME, OTHER]
    for nothing in ("", "xyz", "f" * 64, "sha256:", "sha512:" + config.encoded):
        with pytest.raises(NotFound):
            images.by_id(nothing)


def test_an_ambiguous_prefix(images: LocalImages) -> None:
    images.create(Image(NAME, ONE))
    images.create(Image(OTHER, TWO))
    firsts = [of_bytes(name).encoded[0] for name in (b"c1", b"c2", b"one", b"two")]
    shared = next((c for c in firsts if firsts.count(c) > 1), None)
    if shared is None:
        assert {len(images.by_id(c)) for c in firsts} == {1}
    else:
        with pytest.raises(Ambiguous, match="fits"):
            images.by_id(shared)


def test_links_count_names(images: LocalImages) -> None:
    layer = of_bytes(b"layer")
    assert images.links([layer]) == {layer: 0}
    images.create(Image(NAME, ONE))
    images.create(Image(OTHER, ONE))
    images.create(Image("docker.io/library/two:1", TWO))
    assert images.links([layer, of_bytes(b"c1")]) == {layer: 3, of_bytes(b"c1"): 2}


def test_a_record_has_another_revision_when_more_is_held(images: LocalImages) -> None:
    before = images.target(ONE.digest).revision
    images.record(ONE.digest, summary("c1"))
    assert images.target(ONE.digest).revision == before
    images.record(ONE.digest, Summary(7, (of_bytes(b"m"),), ()))
    assert images.target(ONE.digest).revision != before


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("docker.io/library/alpine:3", "alpine:3"),
        ("docker.io/org/app:1", "org/app:1"),
        ("ghcr.io/org/app:1.2", "ghcr.io/org/app:1.2"),
        ("localhost:5000/team/app:1", "localhost:5000/team/app:1"),
        ("docker.io/import/x:1", "docker.io/import/x:1"),
        ("docker.io/library/import:1", "docker.io/library/import:1"),
        ("docker.io/library/localhost:5000", "docker.io/library/localhost:5000"),
        ("docker.io/org/blobs:1", "docker.io/org/blobs:1"),
        ("docker.io/library/blobs:1", "blobs:1"),
        (ONE.digest, ONE.digest),
    ],
)
def test_where_a_name_stands_in_the_tree(name: str, path: str) -> None:
    assert path_of(name) == path


def test_paths_in_order_and_below_a_prefix(images: LocalImages) -> None:
    for name in (OTHER, NAME, "ghcr.io/z/x:1", "docker.io/library/app:0"):
        images.create(Image(name, ONE))
    assert [place.path for place in images.places()] == [
        "app:0",
        "app:1",
        "ghcr.io/org/app:2",
        "ghcr.io/z/x:1",
    ]
    below = [place.path for place in images.places("ghcr.io/")]
    assert below == ["ghcr.io/org/app:2", "ghcr.io/z/x:1"]
    assert images.has_paths("ghcr.io/")
    assert not images.has_paths("ghcr/")
    found = images.at("ghcr.io/org/app:2")
    assert found is not None
    assert found.name == OTHER
    assert images.at("ghcr.io") is None


REGISTRY_S = "reg:5000/team/app:1"
LIKE_IT = "docker.io/library/reg:5000"


@pytest.mark.parametrize("names", [(REGISTRY_S, LIKE_IT), (LIKE_IT, REGISTRY_S)])
def test_an_image_called_like_a_registry_makes_way_for_it(
    images: LocalImages, names: tuple[str, str]
) -> None:
    for name in names:
        images.create(Image(name, ONE))
    assert [place.path for place in images.places()] == [LIKE_IT, REGISTRY_S]


def test_an_image_called_like_no_registry_here(images: LocalImages) -> None:
    images.create(Image(LIKE_IT, ONE))
    assert [place.path for place in images.places()] == ["reg:5000"]


@pytest.mark.parametrize(
    "name",
    [
        f"docker.io/library/{ONE.digest}",
        "docker.io/library/sha512:1",
        f"docker.io/library/app@{TWO.digest}",
        "docker.io/library/app",
        "app:1",
    ],
)
def test_names_that_no_image_can_have(images: LocalImages, name: str) -> None:
    with pytest.raises(InvalidReference):
        images.create(Image(name, ONE))
    assert images.count() == 0


def test_what_a_target_lacks(images: LocalImages) -> None:
    images.record(ONE.digest, Summary(7, (of_bytes(b"m"),), (), (of_bytes(b"x"), of_bytes(b"y"))))
    images.create(Image(NAME, ONE))
    assert images.lacking([of_bytes(b"z")]) == []
    assert images.lacking([of_bytes(b"x"), of_bytes(b"y")]) == [ONE]
    assert images.summary(ONE.digest).missing == tuple(sorted([of_bytes(b"x"), of_bytes(b"y")]))
    images.record(ONE.digest, Summary(7, (of_bytes(b"m"), of_bytes(b"x")), ()))
    assert images.lacking([of_bytes(b"x")]) == []

"""The suite of an image store. Inherit `ImageSuite` with a fixture `images` that returns an empty
`ImageStore`.
"""

import time

import pytest
from msgspec.structs import replace

from engine.errors import AlreadyExists, Ambiguous, InvalidReference, NotFound
from engine.image import Image, ManifestSummary, Summary, Target
from engine.spec.digest import of_bytes
from engine.spec.oci import DOCKER_MANIFEST, Descriptor
from engine.stores.protocols import ImageStore

ONE, TWO = (Descriptor(DOCKER_MANIFEST, of_bytes(name), 3) for name in (b"one", b"two"))
NAME, OTHER = "docker.io/library/app:1", "ghcr.io/org/app:2"
REGISTRY_S = "reg:5000/team/app:1"
LIKE_IT = "docker.io/library/reg:5000"


def summary(name: str) -> Summary:
    """Return what is below a target with one manifest, with a config that differs by `name`."""
    config = of_bytes(name.encode())
    manifest = ManifestSummary(of_bytes(b"m"), config, "linux/amd64", 42)
    return Summary(7, tuple(sorted((of_bytes(b"m"), config, of_bytes(b"layer")))), (manifest,))


class ImageSuite:
    """The tests."""

    @pytest.fixture(autouse=True)
    def _targets(self, images: ImageStore) -> None:
        images.record(ONE.digest, summary("c1"))
        images.record(TWO.digest, summary("c2"))

    def test_create_get_list(self, images: ImageStore) -> None:
        image = Image(NAME, ONE, {"k": "v"})
        before = time.time()
        created = images.create(image)
        now = created.created_at
        assert created == images.get(NAME) == replace(image, created_at=now, updated_at=now)
        assert before <= now <= time.time()
        images.create(Image(OTHER, TWO))
        assert [i.name for i in images.all()] == [NAME, OTHER]
        assert [i.name for i in images.all("ghcr.io/org/app")] == [OTHER]
        assert images.all("ghcr.io/org") == []
        assert images.count() == 2

    def test_a_name_is_created_once(self, images: ImageStore) -> None:
        images.create(Image(NAME, ONE))
        with pytest.raises(AlreadyExists, match=NAME):
            images.create(Image(NAME, TWO))

    def test_a_target_must_be_recorded(self, images: ImageStore) -> None:
        with pytest.raises(NotFound):
            images.create(Image(NAME, Descriptor(DOCKER_MANIFEST, of_bytes(b"unknown"), 3)))
        assert images.all() == []

    @pytest.mark.parametrize("name", ["app:1", "docker.io/library/app", "docker.io/library/A:1"])
    def test_a_name_must_be_full(self, images: ImageStore, name: str) -> None:
        with pytest.raises(InvalidReference):
            images.create(Image(name, ONE))
        assert images.all() == []

    def test_an_update_keeps_the_old_image_untagged(self, images: ImageStore) -> None:
        images.create(Image(NAME, ONE))
        images.put(Image(NAME, TWO))
        assert {i.name: i.target for i in images.all()} == {NAME: TWO, ONE.digest: ONE}
        images.put(Image(NAME, ONE))
        assert {i.name: i.target for i in images.all()} == {NAME: ONE, TWO.digest: TWO}

    def test_an_update_of_nothing_is_not_found(self, images: ImageStore) -> None:
        with pytest.raises(NotFound):
            images.update(Image(NAME, ONE))

    def test_the_last_name_takes_the_record_along(self, images: ImageStore) -> None:
        images.create(Image(NAME, ONE))
        images.create(Image(OTHER, ONE))
        images.delete(NAME)
        assert images.target(ONE.digest).created == 7
        images.delete(OTHER)
        with pytest.raises(NotFound):
            images.target(ONE.digest)
        with pytest.raises(NotFound):
            images.delete(OTHER)

    def test_untagging_the_last_name_keeps_the_image(self, images: ImageStore) -> None:
        images.create(Image(NAME, ONE))
        images.untag(NAME)
        assert [i.name for i in images.all()] == [ONE.digest]
        images.put(Image(NAME, ONE))
        assert [i.name for i in images.all()] == [NAME]

    def test_finding_by_id(self, images: ImageStore) -> None:
        images.create(Image(NAME, ONE))
        images.create(Image(OTHER, ONE))
        config = of_bytes(b"c1")
        for prefix in (config, config.encoded, config.encoded[:12], config[:20], ONE.digest):
            assert [i.name for i in images.by_id(prefix)] == [NAME, OTHER]
        for nothing in ("", "xyz", "f" * 64, "sha256:", "sha512:" + config.encoded):
            with pytest.raises(NotFound):
                images.by_id(nothing)

    def test_a_target_without_a_name_has_no_id(self, images: ImageStore) -> None:
        for prefix in (of_bytes(b"c1"), ONE.digest):
            with pytest.raises(NotFound):
                images.by_id(prefix)

    def test_an_ambiguous_prefix(self, images: ImageStore) -> None:
        images.create(Image(NAME, ONE))
        images.create(Image(OTHER, TWO))
        firsts = [of_bytes(name).encoded[0] for name in (b"c1", b"c2", b"one", b"two")]
        shared = next((c for c in firsts if firsts.count(c) > 1), None)
        if shared is None:
            assert {len(images.by_id(c)) for c in firsts} == {1}
        else:
            with pytest.raises(Ambiguous, match="fits"):
                images.by_id(shared)

    def test_links_count_names(self, images: ImageStore) -> None:
        layer = of_bytes(b"layer")
        assert images.links([layer]) == {layer: 0}
        images.create(Image(NAME, ONE))
        images.create(Image(OTHER, ONE))
        images.create(Image("docker.io/library/two:1", TWO))
        assert images.links([layer, of_bytes(b"c1")]) == {layer: 3, of_bytes(b"c1"): 2}

    def test_a_record_has_another_revision_when_more_is_held(self, images: ImageStore) -> None:
        before = images.target(ONE.digest).revision
        images.record(ONE.digest, summary("c1"))
        assert images.target(ONE.digest).revision == before
        images.record(ONE.digest, Summary(7, (of_bytes(b"m"),), ()))
        assert images.target(ONE.digest).revision != before

    def test_paths_in_order_and_below_a_prefix(self, images: ImageStore) -> None:
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
        found = images.place_at("ghcr.io/org/app:2")
        assert found is not None
        assert found.name == OTHER
        assert images.place_at("ghcr.io") is None

    @pytest.mark.parametrize("names", [(REGISTRY_S, LIKE_IT), (LIKE_IT, REGISTRY_S)])
    def test_an_image_called_like_a_registry_makes_way_for_it(
        self, images: ImageStore, names: tuple[str, str]
    ) -> None:
        for name in names:
            images.create(Image(name, ONE))
        assert [place.path for place in images.places()] == [LIKE_IT, REGISTRY_S]

    def test_an_image_called_like_no_registry_here(self, images: ImageStore) -> None:
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
    def test_names_that_no_image_can_have(self, images: ImageStore, name: str) -> None:
        with pytest.raises(InvalidReference):
            images.create(Image(name, ONE))
        assert images.count() == 0

    def test_what_a_target_lacks(self, images: ImageStore) -> None:
        missing = (of_bytes(b"x"), of_bytes(b"y"))
        images.record(ONE.digest, Summary(7, (of_bytes(b"m"),), (), missing))
        assert images.lacking(missing) == []
        images.create(Image(NAME, ONE))
        assert images.lacking([of_bytes(b"z")]) == []
        assert images.lacking([of_bytes(b"x"), of_bytes(b"y")]) == [ONE]
        assert images.summary(ONE.digest).missing == tuple(sorted([of_bytes(b"x"), of_bytes(b"y")]))
        images.record(ONE.digest, Summary(7, (of_bytes(b"m"), of_bytes(b"x")), ()))
        assert images.lacking([of_bytes(b"x")]) == []

    def test_a_summary_is_returned_as_it_was_recorded(self, images: ImageStore) -> None:
        assert images.summary(ONE.digest) == summary("c1")
        assert images.manifests(ONE.digest) == summary("c1").manifests
        assert images.target(ONE.digest) == Target(ONE.digest, summary("c1").revision, 7)

    def test_only_targets_without_an_image_are_forgotten(self, images: ImageStore) -> None:
        images.create(Image(NAME, ONE))
        for target in (ONE, TWO):
            images.forget(target.digest)
        assert images.summary(ONE.digest) == summary("c1")
        with pytest.raises(NotFound):
            images.summary(TWO.digest)

    def test_an_image_at_a_path(self, images: ImageStore) -> None:
        image = images.create(Image(NAME, ONE))
        (place,) = images.places()
        assert images.place_at("app:1") == place == images.place(image, "app:1")
        assert place.image.target == ONE
        assert (place.name, place.created, place.revision) == (NAME, 7, summary("c1").revision)
        assert images.place_at("app") is None
        with pytest.raises(NotFound):
            images.place(Image(NAME, Descriptor(DOCKER_MANIFEST, of_bytes(b"x"), 3)), "x:1")

    def test_the_newest_image_below_a_prefix(self, images: ImageStore) -> None:
        images.record(TWO.digest, Summary(9, (of_bytes(b"m"),), ()))
        images.create(Image(NAME, ONE))
        images.create(Image(OTHER, TWO))
        assert images.newest("app:") == 7
        assert images.newest("ghcr.io/") == 9
        assert images.newest("quay.io/") == 0

    def test_the_names_of_a_target(self, images: ImageStore) -> None:
        images.create(Image(OTHER, ONE))
        images.create(Image(NAME, ONE))
        assert [i.name for i in images.names_of(ONE.digest)] == [NAME, OTHER]
        assert images.names_of(TWO.digest) == []
        assert images.is_named(ONE.digest)
        assert not images.is_named(TWO.digest)
        assert images.find(TWO.digest) is None

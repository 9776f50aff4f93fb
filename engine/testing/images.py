"""The suite of an image store. Inherit `ImageSuite` with a fixture `images` that returns an empty
`ImageStore`.
"""

import time

import pytest
from msgspec.structs import replace

from engine.errors import AlreadyExists, Ambiguous, InvalidReference, NotFound
from engine.image import Image, ManifestSummary, Summary, Target, path_of
from engine.spec import oci
from engine.spec.digest import Digest, of_bytes
from engine.spec.oci import DOCKER_MANIFEST, Descriptor
from engine.stores.protocols import ImageStore

BLOBS: dict[Digest, bytes] = {}
"""The blobs of `ONE` and `TWO`, for a store that takes no image without them."""


def _image(architecture: str) -> Descriptor:
    config = f'{{"architecture":"{architecture}","os":"linux"}}'.encode()
    document = oci.Manifest(
        schema_version=2,
        media_type=DOCKER_MANIFEST,
        config=Descriptor(oci.DOCKER_CONFIG, of_bytes(config), len(config)),
        layers=(),
    )
    data = oci.render(document)
    target = Descriptor(DOCKER_MANIFEST, of_bytes(data), len(data))
    BLOBS[of_bytes(data)], BLOBS[of_bytes(config)] = data, config
    return target


ONE, TWO = _image("amd64"), _image("386")
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

    @pytest.fixture
    def name(self, images: ImageStore) -> str:
        """Return the full name of an image."""
        return f"{images.domain}/app:1" if images.domain else NAME

    @pytest.fixture
    def other(self, images: ImageStore) -> str:
        """Return the full name of an image in a namespace."""
        return f"{images.domain}/org/app:2" if images.domain else OTHER

    def test_create_get_list(self, images: ImageStore, name: str, other: str) -> None:
        image = Image(name, ONE, {"k": "v"})
        before = time.time()
        created = images.create(image)
        now = created.created_at
        assert created == images.get(name) == replace(image, created_at=now, updated_at=now)
        assert before <= now <= time.time()
        images.create(Image(other, TWO))
        assert [i.name for i in images.all()] == [name, other]
        repository = other.removesuffix(":2")
        assert [i.name for i in images.all(repository)] == [other]
        assert images.all(repository.removesuffix("/app")) == []
        assert images.count() == 2

    def test_a_name_is_created_once(self, images: ImageStore, name: str) -> None:
        images.create(Image(name, ONE))
        with pytest.raises(AlreadyExists, match=name):
            images.create(Image(name, TWO))

    def test_a_target_must_be_recorded(self, images: ImageStore, name: str) -> None:
        with pytest.raises(NotFound):
            images.create(Image(name, Descriptor(DOCKER_MANIFEST, of_bytes(b"unknown"), 3)))
        assert images.all() == []

    @pytest.mark.parametrize("name", ["app:1", "docker.io/library/app", "docker.io/library/A:1"])
    def test_a_name_must_be_full(self, images: ImageStore, name: str) -> None:
        with pytest.raises(InvalidReference):
            images.create(Image(name, ONE))
        assert images.all() == []

    def test_an_update_keeps_the_old_image_untagged(self, images: ImageStore, name: str) -> None:
        images.create(Image(name, ONE))
        images.put(Image(name, TWO))
        if not images.supports_untagged:
            assert [(i.name, i.target) for i in images.all()] == [(name, TWO)]
            pytest.skip("the store keeps no images without a name")
        assert {i.name: i.target for i in images.all()} == {name: TWO, ONE.digest: ONE}
        images.put(Image(name, ONE))
        assert {i.name: i.target for i in images.all()} == {name: ONE, TWO.digest: TWO}

    def test_an_update_of_nothing_is_not_found(self, images: ImageStore, name: str) -> None:
        with pytest.raises(NotFound):
            images.update(Image(name, ONE))

    def test_the_last_name_takes_the_record_along(
        self, images: ImageStore, name: str, other: str
    ) -> None:
        images.create(Image(name, ONE))
        images.create(Image(other, ONE))
        images.delete(name)
        assert images.target(ONE.digest).created == 7
        images.delete(other)
        with pytest.raises(NotFound):
            images.target(ONE.digest)
        with pytest.raises(NotFound):
            images.delete(other)

    def test_untagging_the_last_name_keeps_the_image(self, images: ImageStore, name: str) -> None:
        images.create(Image(name, ONE))
        images.untag(name)
        if not images.supports_untagged:
            assert images.all() == []
            pytest.skip("the store keeps no images without a name")
        assert [i.name for i in images.all()] == [ONE.digest]
        images.put(Image(name, ONE))
        assert [i.name for i in images.all()] == [name]

    def test_finding_by_id(self, images: ImageStore, name: str, other: str) -> None:
        images.create(Image(name, ONE))
        images.create(Image(other, ONE))
        config = of_bytes(b"c1")
        for prefix in (config, config.encoded, config.encoded[:12], config[:20], ONE.digest):
            assert [i.name for i in images.by_id(prefix)] == [name, other]
        for nothing in ("", "xyz", "f" * 64, "sha256:", "sha512:" + config.encoded):
            with pytest.raises(NotFound):
                images.by_id(nothing)

    def test_a_target_without_a_name_has_no_id(self, images: ImageStore) -> None:
        for prefix in (of_bytes(b"c1"), ONE.digest):
            with pytest.raises(NotFound):
                images.by_id(prefix)

    def test_an_ambiguous_prefix(self, images: ImageStore, name: str, other: str) -> None:
        images.create(Image(name, ONE))
        images.create(Image(other, TWO))
        ids = {ONE.digest, of_bytes(b"c1")}, {TWO.digest, of_bytes(b"c2")}
        one, two = ({str(id_).partition(":")[2][0] for id_ in each} for each in ids)
        for shared in one & two:
            with pytest.raises(Ambiguous, match="fits"):
                images.by_id(shared)
        assert {len(images.by_id(first)) for first in one ^ two} == {1}
        assert one & two

    def test_links_count_names(self, images: ImageStore, name: str, other: str) -> None:
        layer = of_bytes(b"layer")
        assert images.links([layer]) == {layer: 0}
        images.create(Image(name, ONE))
        images.create(Image(other, ONE))
        images.create(Image(f"{name}.1", TWO))
        assert images.links([layer, of_bytes(b"c1")]) == {layer: 3, of_bytes(b"c1"): 2}

    def test_a_record_has_another_revision_when_more_is_held(self, images: ImageStore) -> None:
        before = images.target(ONE.digest).revision
        images.record(ONE.digest, summary("c1"))
        assert images.target(ONE.digest).revision == before
        images.record(ONE.digest, Summary(7, (of_bytes(b"m"),), ()))
        assert images.target(ONE.digest).revision != before

    def test_paths_in_order_and_below_a_prefix(
        self, images: ImageStore, name: str, other: str
    ) -> None:
        base = other.removesuffix("app:2")
        older, nested = f"{name}.0", f"{base}z/x:1"
        for each in (other, older, nested, name):
            images.create(Image(each, ONE))
        paths = [path_of(each) for each in (name, older, other, nested)]
        assert [place.path for place in images.places()] == paths
        assert [place.path for place in images.places(base)] == paths[2:]
        assert images.has_paths(base)
        assert not images.has_paths(f"{base[:-2]}/")
        found = images.place_at(paths[2])
        assert found is not None
        assert found.name == other
        assert images.place_at(base[:-1]) is None

    @pytest.mark.parametrize("names", [(REGISTRY_S, LIKE_IT), (LIKE_IT, REGISTRY_S)])
    def test_an_image_called_like_a_registry_makes_way_for_it(
        self, images: ImageStore, names: tuple[str, str]
    ) -> None:
        _need_every_registry(images)
        for name in names:
            images.create(Image(name, ONE))
        assert [place.path for place in images.places()] == [LIKE_IT, REGISTRY_S]

    def test_an_image_called_like_no_registry_here(self, images: ImageStore) -> None:
        _need_every_registry(images)
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

    def test_what_a_target_lacks(self, images: ImageStore, name: str) -> None:
        missing = (of_bytes(b"x"), of_bytes(b"y"))
        images.record(ONE.digest, Summary(7, (of_bytes(b"m"),), (), missing))
        assert images.lacking(missing) == []
        images.create(Image(name, ONE))
        assert images.lacking([of_bytes(b"z")]) == []
        assert images.lacking([of_bytes(b"x"), of_bytes(b"y")]) == [ONE]
        assert images.summary(ONE.digest).missing == tuple(sorted([of_bytes(b"x"), of_bytes(b"y")]))
        images.record(ONE.digest, Summary(7, (of_bytes(b"m"), of_bytes(b"x")), ()))
        assert images.lacking([of_bytes(b"x")]) == []

    def test_a_summary_is_returned_as_it_was_recorded(self, images: ImageStore) -> None:
        assert images.summary(ONE.digest) == summary("c1")
        assert images.manifests(ONE.digest) == summary("c1").manifests
        assert images.target(ONE.digest) == Target(ONE.digest, summary("c1").revision, 7)

    def test_only_targets_without_an_image_are_forgotten(
        self, images: ImageStore, name: str
    ) -> None:
        images.create(Image(name, ONE))
        for target in (ONE, TWO):
            images.forget(target.digest)
        assert images.summary(ONE.digest) == summary("c1")
        with pytest.raises(NotFound):
            images.summary(TWO.digest)

    def test_an_image_at_a_path(self, images: ImageStore, name: str) -> None:
        image = images.create(Image(name, ONE))
        (place,) = images.places()
        path = path_of(name)
        assert images.place_at(path) == place == images.place(image, path)
        assert place.image.target == ONE
        assert (place.name, place.created, place.revision) == (name, 7, summary("c1").revision)
        assert images.place_at(path.removesuffix(":1")) is None
        with pytest.raises(NotFound):
            images.place(Image(name, Descriptor(DOCKER_MANIFEST, of_bytes(b"x"), 3)), "x:1")

    def test_the_newest_image_below_a_prefix(
        self, images: ImageStore, name: str, other: str
    ) -> None:
        images.record(TWO.digest, Summary(9, (of_bytes(b"m"),), ()))
        images.create(Image(name, ONE))
        images.create(Image(other, TWO))
        assert images.newest(path_of(name).removesuffix("1")) == 7
        assert images.newest(other.removesuffix("app:2")) == 9
        assert images.newest("quay.io/") == 0

    def test_the_names_of_a_target(self, images: ImageStore, name: str, other: str) -> None:
        images.create(Image(other, ONE))
        images.create(Image(name, ONE))
        assert [i.name for i in images.names_of(ONE.digest)] == [name, other]
        assert images.names_of(TWO.digest) == []
        assert images.is_named(ONE.digest)
        assert not images.is_named(TWO.digest)
        assert images.find(TWO.digest) is None


def _need_every_registry(images: ImageStore) -> None:
    if images.domain:
        pytest.skip(f"every name in the store is one of {images.domain}")

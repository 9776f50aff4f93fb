"""Images with trimmed indexes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.archive.existing import ExistingArchive, Extended
from engine.archive.save import Output, save_trimmed
from engine.archive.trimmed import Trimmed
from engine.content.blobs import read_blob
from engine.errors import NotFound
from engine.image import Image
from engine.layouts import combined, selection
from engine.spec import platforms
from tests import archives
from tests.archives import OCI_INDEX, OCI_MANIFEST, ImageParts, descriptor, to_json
from tests.local_engine import LocalEngine

NAME = "docker.io/library/multi:1"
AMD, ARM, S390 = (
    ImageParts(architecture=name, layers=[archives.layer(name)])
    for name in ("amd64", "arm64", "s390x")
)
SELECTION = combined.Options(fallback=selection.any_complete)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    with LocalEngine(tmp_path / "store") as engine:
        yield engine


def load(engine: LocalEngine, archive: bytes) -> Image:
    with engine.begin_import() as session:
        session.feed(archive)
        session.finish()
    return engine.images.get(NAME)


def index_of(trimmed: Trimmed) -> dict[str, Any]:
    (image,) = trimmed.images
    document: dict[str, Any] = json.loads(
        read_blob(trimmed, image.target.digest, image.target.size)
    )
    return document


def platforms_of(index: dict[str, Any]) -> list[str]:
    return [entry["platform"]["architecture"] for entry in index["manifests"]]


def test_what_is_not_there_is_not_listed(engine: LocalEngine) -> None:
    image = load(engine, archives.multi_platform(NAME, [AMD, ARM], absent=[S390]))
    trimmed = Trimmed([image], engine.content, SELECTION)
    assert platforms_of(index_of(trimmed)) == ["amd64", "arm64"]
    assert trimmed.images[0].name == NAME


def test_an_index_that_is_whole_keeps_its_digest(engine: LocalEngine) -> None:
    image = load(engine, archives.multi_platform(NAME, [AMD, ARM]))
    assert Trimmed([image], engine.content, SELECTION).images == [image]


def test_an_image_without_an_index_keeps_its_digest(engine: LocalEngine) -> None:
    image = load(engine, archives.oci_archive((AMD, NAME)))
    assert Trimmed([image], engine.content, SELECTION).images == [image]


def test_platforms_that_are_not_chosen_are_not_listed(engine: LocalEngine) -> None:
    image = load(engine, archives.multi_platform(NAME, [AMD, ARM, S390]))
    wanted = platforms.only(platforms.parse("linux/arm64"))
    chosen = combined.Options(platform=wanted, preferred=wanted)
    assert platforms_of(index_of(Trimmed([image], engine.content, chosen))) == ["arm64"]


def test_an_attestation_goes_with_what_it_is_about(engine: LocalEngine) -> None:
    """Members of the index that imgfs does not know stay as they are."""
    entries = []
    for image in (AMD, S390):
        about = descriptor(
            image.manifest(),
            OCI_MANIFEST,
            platform={"architecture": image.architecture, "os": "linux"},
        )
        attestation = ImageParts(architecture="unknown", layers=[f"about {about}".encode()])
        note = {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": about["digest"],
        }
        unknown = {"architecture": "unknown", "os": "unknown"}
        entries += [
            about,
            descriptor(attestation.manifest(), OCI_MANIFEST, platform=unknown, annotations=note),
        ]
        present = [*attestation.blobs(), *(image.blobs() if image is AMD else [])]
        entries[-1]["present"] = present
    blobs = [blob for entry in entries for blob in entry.pop("present", [])]
    index = to_json(
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries, "x": {"b": 1, "a": 2}}
    )
    named = descriptor(index, OCI_INDEX, annotations={"io.containerd.image.name": NAME})
    stored = load(engine, archives.tar(archives.oci_members([named], [index, *blobs])))
    trimmed = index_of(Trimmed([stored], engine.content, SELECTION))
    assert trimmed["manifests"] == entries[:2]
    assert trimmed["x"] == {"b": 1, "a": 2}


def test_an_image_of_which_nothing_is_left_is_not_found(engine: LocalEngine) -> None:
    image = load(engine, archives.multi_platform(NAME, [AMD]))
    mips = platforms.only(platforms.parse("linux/mips"))
    with pytest.raises(NotFound):
        Trimmed([image], engine.content, combined.Options(platform=mips, preferred=mips))


@pytest.mark.parametrize("empty", [{"manifests": None}, {"manifests": []}, {}])
def test_an_index_without_manifests_is_not_listed(
    engine: LocalEngine, empty: dict[str, Any]
) -> None:
    nested = to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, **empty})
    platform = {"architecture": AMD.architecture, "os": "linux"}
    entries = [
        descriptor(AMD.manifest(), OCI_MANIFEST, platform=platform),
        descriptor(nested, OCI_INDEX),
    ]
    index = to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "Manifests": entries})
    named = descriptor(index, OCI_INDEX, annotations={"io.containerd.image.name": NAME})
    members = archives.oci_members([named], [index, nested, *AMD.blobs()])
    stored = load(engine, archives.tar(members))
    assert index_of(Trimmed([stored], engine.content, SELECTION))["manifests"] == entries[:1]


@given(st.lists(st.booleans(), min_size=1, max_size=5).filter(any))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_saved_is_complete_and_trimming_it_again_changes_nothing(
    tmp_path: Path, there: list[bool]
) -> None:
    images = [
        ImageParts(architecture=f"arch{number}", layers=[archives.layer(str(number))])
        for number in range(len(there))
    ]
    present = [image for image, kept in zip(images, there, strict=True) if kept]
    absent = [image for image, kept in zip(images, there, strict=True) if not kept]
    saved = bytearray()
    case = "".join("01"[kept] for kept in there)
    with LocalEngine(tmp_path / f"first{case}") as first:
        image = load(first, archives.multi_platform(NAME, present, absent))
        (written,) = save_trimmed(first.store, [image], SELECTION, Output(saved.extend))
    with LocalEngine(tmp_path / f"second{case}") as second:
        again = load(second, bytes(saved))
        assert again.target.digest == written.target.digest
        assert second.images.summary(again.target.digest).missing == ()
        assert Trimmed([again], second.content, SELECTION).images == [again]


def test_a_trimmed_image_is_added_to_an_archive(engine: LocalEngine, tmp_path: Path) -> None:
    image = load(engine, archives.multi_platform(NAME, [AMD, ARM], absent=[S390]))
    archive, both = tmp_path / "app.tar", tmp_path / "both.tar"
    archive.write_bytes(archives.oci_archive((ImageParts(), "docker.io/library/app:1")))
    with both.open("wb") as file, ExistingArchive(archive) as existing:
        output = Extended(existing, Output(file.write))
        (added,) = save_trimmed(engine.store, [image], SELECTION, output)
    with LocalEngine(tmp_path / "other") as other:
        stored = load(other, both.read_bytes())
        assert stored.target.digest == added.target.digest != image.target.digest
        assert {one.familiar for one in other.images.all()} == {"app:1", "multi:1"}
        assert other.images.summary(stored.target.digest).missing == ()

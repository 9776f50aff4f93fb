"""`save` into `load`: an arbitrary set of images keeps every digest, tag and annotation."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.image import Image
from engine.layouts import combined, docker_save, selection
from tests import archives
from tests.archives import ImageParts
from tests.local_engine import LocalEngine

LAYERS = [archives.layer(name, name.encode() * 30_000) for name in ("a", "b")]
LAYERS += [archives.tar([]), archives.layer("c")]
FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar"
NAMES = [f"docker.io/library/{name}:{tag}" for name in ("app", "b") for tag in ("1", "2")]
NAMES += ["ghcr.io/org/app:1", "localhost:5000/x/y:latest"]

parts = st.builds(
    ImageParts,
    layers=st.lists(st.sampled_from(LAYERS), min_size=1, max_size=3),
    architecture=st.sampled_from(["amd64", "arm64", "s390x"]),
    created=st.sampled_from(["2024-02-03T04:05:06Z", "1999-01-01T00:00:00.123456789Z"]),
    extra=st.sampled_from([{}, {"author": "<me> & you"}]),
)
annotations = st.dictionaries(st.sampled_from(["k", "org.example.l"]), st.text(max_size=3))


class Made:
    """The blobs of an archive, and the entries of its index."""

    def __init__(self) -> None:
        self.blobs: list[bytes] = []
        self.entries: list[dict[str, Any]] = []

    def manifest(self, image: ImageParts, foreign: bool, gzipped: bool) -> bytes:
        layers = []
        for data in image.layers:
            blob = archives.compressed(data) if gzipped else data
            media_type = archives.OCI_LAYER + ("+gzip" if gzipped else "")
            layers.append(archives.descriptor(blob, media_type))
            self.blobs.append(blob)
        if foreign:
            absent = archives.descriptor(b"elsewhere", FOREIGN, urls=["https://example.org/x"])
            layers.append(absent)
        config = archives.to_json(
            {
                **config_of(image),
                "rootfs": {
                    "type": "layers",
                    "diff_ids": [archives.digest(data) for data in image.layers]
                    + ([archives.digest(b"elsewhere")] if foreign else []),
                },
            }
        )
        self.blobs.append(config)
        data = archives.to_json(
            {
                "schemaVersion": 2,
                "mediaType": archives.OCI_MANIFEST,
                "config": archives.descriptor(config, archives.OCI_CONFIG),
                "layers": layers,
            }
        )
        self.blobs.append(data)
        return data


def config_of(image: ImageParts) -> dict[str, Any]:
    return {
        "architecture": image.architecture,
        "os": image.os,
        "created": image.created,
        **image.extra,
    }


@st.composite
def stocks(draw: st.DrawFn) -> bytes:
    """An archive with images of every kind."""
    made = Made()
    names = iter(draw(st.permutations(NAMES)))
    for _ in range(draw(st.integers(1, 4))):
        several = draw(st.lists(parts, min_size=1, max_size=3, unique_by=lambda p: p.architecture))
        manifests = [
            (made.manifest(image, draw(st.booleans()), draw(st.booleans())), image)
            for image in several
        ]
        if len(manifests) > 1:
            children = [
                archives.descriptor(
                    data,
                    archives.OCI_MANIFEST,
                    platform={"architecture": image.architecture, "os": image.os},
                )
                for data, image in manifests
            ]
            data = archives.to_json(
                {"schemaVersion": 2, "mediaType": archives.OCI_INDEX, "manifests": children}
            )
            made.blobs.append(data)
            target = archives.descriptor(data, archives.OCI_INDEX)
        else:
            target = archives.descriptor(manifests[0][0], archives.OCI_MANIFEST)
        noted = draw(annotations)
        count = draw(st.integers(0, 2))
        for name in [n for n, _ in zip(names, range(count), strict=False)] or [""]:
            named = {"io.containerd.image.name": name} if name else {}
            made.entries.append(target | {"annotations": {**noted, **named}})
    return archives.tar(archives.oci_members(made.entries, made.blobs))


@contextmanager
def engines() -> Iterator[tuple[LocalEngine, LocalEngine]]:
    with TemporaryDirectory() as folder:
        first, second = Path(folder, "first"), Path(folder, "second")
        with LocalEngine(first) as one, LocalEngine(second) as other:
            yield one, other


def load(engine: LocalEngine, archive: bytes) -> None:
    with engine.begin_import() as session:
        session.feed(archive)
        session.finish()


def held(engine: LocalEngine) -> object:
    """Names with their targets, and blobs with their sizes."""
    images = [(image.name, image.target) for image in engine.images.all()]
    return images, {info.digest: info.size for info in engine.content.walk()}


@given(stocks())
@settings(max_examples=60, deadline=None)
def test_the_combined_layout_keeps_everything(archive: bytes) -> None:
    with engines() as (first, second):
        load(first, archive)
        out = io.BytesIO()
        options = combined.Options(fallback=selection.any_complete)
        first.write(first.images.all(), options, out.write)
        load(second, out.getvalue())
        assert held(second) == held(first)


def ids(engine: LocalEngine) -> set[tuple[str, str]]:
    return {
        (image.name if not image.is_untagged else "", str(config(engine, image)))
        for image in engine.images.all()
    }


def config(engine: LocalEngine, image: Image) -> str:
    return engine.details(image.name).manifest.manifest.config.digest


@given(stocks())
@settings(max_examples=40, deadline=None)
def test_dockers_layout_keeps_image_ids_and_tags(archive: bytes) -> None:
    with engines() as (first, second):
        load(first, archive)
        out = io.BytesIO()
        options = docker_save.Options(fallback=selection.any_complete)
        first.save_for_docker(first.images.all(), options, out.write)
        load(second, out.getvalue())
        named = {(name, found) for name, found in ids(first) if name}
        assert named <= ids(second)
        assert {found for _, found in ids(first)} == {found for _, found in ids(second)}
        again = io.BytesIO()
        order = {image.name: place for place, image in enumerate(first.images.all())}
        images = sorted(second.images.all(), key=lambda image: order.get(image.name, 99))
        second.save_for_docker(images, options, again.write)
        assert len(again.getvalue()) == len(out.getvalue())

"""Directories of images saved one after another, in any order."""

import io
import json
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.archive.directory_writer import DirectoryOutput
from engine.archive.save import save
from engine.archive.save_for_docker import save_for_docker
from engine.layouts import combined, docker_save, selection
from tests import archives
from tests.archives import ImageParts
from tests.local_engine import LocalEngine

SHARED = archives.layer("shared")
IMAGES = {
    "app:1": ImageParts(layers=[SHARED, archives.layer("one")]),
    "app:2": ImageParts(layers=[SHARED, archives.layer("two")]),
    "ghcr.io/org/other:1": ImageParts(layers=[archives.layer("other")]),
    "quay.io/org/last:1": ImageParts(layers=[SHARED]),
}
TWIN = "app:twin"
NAMES = [*IMAGES, TWIN]
LAYOUTS = ("combined", "docker")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEngine]:
    with LocalEngine(tmp_path_factory.mktemp("saved") / "store") as engine:
        load(engine, archives.docker_archive(*((image, [name]) for name, image in IMAGES.items())))
        engine.tag("app:1", TWIN)
        yield engine


def load(engine: LocalEngine, archive: bytes) -> None:
    with engine.begin_import() as session:
        session.feed(archive)
        session.finish()


def save_into(engine: LocalEngine, path: Path, layout: str, names: list[str]) -> None:
    images = [engine.find_one(name) for name in names]
    output = DirectoryOutput(path)
    if layout == "docker":
        chosen = docker_save.Options(fallback=selection.any_complete)
        save_for_docker(engine.store, images, chosen, output)
    else:
        save(engine.store, images, combined.Options(fallback=selection.any_complete), output)


def contents(path: Path) -> object:
    """Return the content of a layout, independent of the order of its entries."""
    blobs = {str(blob.relative_to(path)): blob.read_bytes() for blob in path.glob("blobs/*/*")}
    index = json.loads((path / "index.json").read_bytes())
    items = json.loads((path / "manifest.json").read_bytes())
    return (
        blobs,
        sorted(json.dumps(entry) for entry in index.pop("manifests")),
        index,
        sorted(json.dumps({**item, "RepoTags": sorted(item["RepoTags"])}) for item in items),
        sorted(file.name for file in path.iterdir()),
        [json.loads(file.read_bytes()) for file in path.glob("repositories")],
    )


def tar_of(path: Path) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.add(path, ".")
    return out.getvalue()


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=25)
@given(parts=st.lists(st.lists(st.sampled_from(NAMES), min_size=1, unique=True), min_size=1))
def test_parts_in_any_order_are_the_whole(
    engine: LocalEngine, layout: str, parts: list[list[str]]
) -> None:
    everything = sorted({name for part in parts for name in part})
    with tempfile.TemporaryDirectory() as room:
        root = Path(room)
        for part in parts:
            save_into(engine, root / "parts", layout, part)
        save_into(engine, root / "whole", layout, everything)
        assert contents(root / "parts") == contents(root / "whole")
        with LocalEngine(root / "store") as other:
            load(other, tar_of(root / "parts"))
            loaded = {image.familiar for image in other.images.all()}
    assert loaded == set(everything)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_directory_is_the_archive(engine: LocalEngine, tmp_path: Path, layout: str) -> None:
    save_into(engine, tmp_path / "layout", layout, NAMES)
    out = io.BytesIO()
    images = [engine.find_one(name) for name in NAMES]
    if layout == "docker":
        chosen = docker_save.Options(fallback=selection.any_complete)
        engine.save_for_docker(images, chosen, out.write)
    else:
        engine.write(images, combined.Options(fallback=selection.any_complete), out.write)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
        for member in archive:
            path = tmp_path / "layout" / member.name
            assert path.stat().st_mtime == member.mtime
            if member.isfile():
                file = archive.extractfile(member)
                assert file is not None
                assert path.read_bytes() == file.read()
        names = {name.removesuffix("/") for name in archive.getnames()}
    below = (tmp_path / "layout").rglob("*")
    assert names == {str(path.relative_to(tmp_path / "layout")) for path in below}


def test_a_name_moves_to_the_newer_image(engine: LocalEngine, tmp_path: Path) -> None:
    """The name is that of the newer image, and the older one stays without it."""
    save_into(engine, tmp_path / "layout", "combined", ["app:1"])
    with LocalEngine(tmp_path / "store") as other:
        load(other, archives.docker_archive((IMAGES["app:2"], ["app:1"])))
        save_into(other, tmp_path / "layout", "combined", ["app:1"])
    with LocalEngine(tmp_path / "again") as again:
        load(again, tar_of(tmp_path / "layout"))
        named = {image.familiar: image.target.digest for image in again.images.all()}
    assert named.pop("app:1") == engine.find_one("app:2").target.digest
    assert list(named.values()) == [engine.find_one("app:1").target.digest]


def test_a_save_is_an_event(engine: LocalEngine, tmp_path: Path) -> None:
    before = engine.events.last()
    save_into(engine, tmp_path / "layout", "combined", ["app:1"])
    (event,) = engine.events.after(before)
    assert (event.action, event.name) == ("save", "docker.io/library/app:1")


def test_the_blobs_are_leased_meanwhile(engine: LocalEngine, tmp_path: Path) -> None:
    leased: list[int] = []
    output = DirectoryOutput(
        tmp_path / "layout", lambda _: leased.append(len(engine.leases.list()))
    )
    options = combined.Options(fallback=selection.any_complete)
    save(engine.store, [engine.find_one("app:1")], options, output)
    assert set(leased) == {1}
    assert engine.leases.list() == []

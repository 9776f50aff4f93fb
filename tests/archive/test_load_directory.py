"""Loading of directories on disk."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.archive import load_directory as loading
from engine.archive.archive_image import Inventory
from engine.archive.directory_formats import read_whole
from engine.archive.import_options import ImportOptions
from engine.archive.load_directory import load_directory
from engine.archive.name_rules import Naming
from engine.errors import BrokenArchive, DigestMismatch, EngineError, MissingMember
from engine.limits import Limits
from engine.spec import platforms
from tests import archives
from tests.archives import ImageParts
from tests.local_engine import LocalEngine

LARGE = archives.layer("large", os.urandom(200_000))
APP = ImageParts(layers=[LARGE, archives.layer("app")])


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    with LocalEngine(tmp_path / "store") as opened:
        yield opened


def unpacked(archive: bytes, path: Path) -> Path:
    for name, data in archives.members(archive):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def load(engine: LocalEngine, path: Path, *wanted: str) -> list[str]:
    options = ImportOptions(platforms=tuple(map(platforms.parse, wanted)))
    load_directory(engine.store, path, options)
    return [image.familiar for image in engine.images.all()]


def leftovers(engine: LocalEngine) -> list[str]:
    return [found.name for found in engine.collector().plan()]


@pytest.mark.parametrize(
    ("archive", "name"),
    [
        (archives.oci_archive((APP, "app:3")), "app:3"),
        (archives.oci_archive((APP, None)), "layout:latest"),
        (archives.docker_archive((APP, ["app:4"])), "app:4"),
        (archives.docker_archive((APP, None)), "layout:latest"),
    ],
)
def test_load_of_an_unpacked_archive(
    engine: LocalEngine, tmp_path: Path, archive: bytes, name: str
) -> None:
    assert load(engine, unpacked(archive, tmp_path / "layout")) == [name]
    assert leftovers(engine) == []
    assert list(engine.check()) == []


def test_load_of_what_skopeos_dir_transport_writes(engine: LocalEngine, tmp_path: Path) -> None:
    layout = tmp_path / "app"
    layout.mkdir()
    (layout / "version").write_bytes(b"Directory Transport Version: 1.1\n")
    (layout / "manifest.json").write_bytes(APP.manifest())
    for blob in APP.blobs():
        (layout / archives.digest(blob).removeprefix("sha256:")).write_bytes(blob)
    assert load(engine, layout) == ["app:latest"]
    assert engine.images.all()[0].target.digest == archives.digest(APP.manifest())


def test_a_given_name_comes_before_that_of_the_directory(
    engine: LocalEngine, tmp_path: Path
) -> None:
    entry = archives.descriptor(
        APP.manifest(),
        archives.OCI_MANIFEST,
        annotations={"org.opencontainers.image.ref.name": "7"},
    )
    layout = unpacked(archives.tar(archives.oci_members([entry], APP.blobs())), tmp_path / "x")
    options = ImportOptions(naming=Naming(name="given:1"))
    load_directory(engine.store, layout, options)
    assert load(engine, layout) == ["given:1", "x:7"]


def test_only_what_the_store_lacks_is_read(engine: LocalEngine, tmp_path: Path) -> None:
    layout = unpacked(archives.oci_archive((APP, "app:1")), tmp_path / "a")
    assert load(engine, layout) == ["app:1"]
    for path in layout.glob("blobs/*/*"):
        path.write_bytes(b"")
    again = unpacked(archives.oci_archive((APP, "app:2")), tmp_path / "b")
    (again / "index.json").rename(layout / "index.json")
    assert load(engine, layout) == ["app:1", "app:2"]


def test_a_wrong_blob_is_refused(engine: LocalEngine, tmp_path: Path) -> None:
    layout = unpacked(archives.oci_archive((APP, "app:1")), tmp_path / "layout")
    layer = max(layout.glob("blobs/*/*"), key=lambda path: path.stat().st_size)
    layer.write_bytes(layer.read_bytes() + b"more")
    with pytest.raises(DigestMismatch):
        load(engine, layout)
    assert engine.images.all() == []
    assert leftovers(engine) == []


def test_a_missing_blob_is_named(engine: LocalEngine, tmp_path: Path) -> None:
    layout = unpacked(archives.oci_archive((APP, "app:1")), tmp_path / "layout")
    layer = max(layout.glob("blobs/*/*"), key=lambda path: path.stat().st_size)
    layer.unlink()
    with pytest.raises(MissingMember, match=layer.name):
        load(engine, layout)
    assert leftovers(engine) == []


def test_a_directory_without_an_image_is_refused(engine: LocalEngine, tmp_path: Path) -> None:
    with pytest.raises(BrokenArchive, match="holds no image"):
        load(engine, tmp_path)


@pytest.mark.parametrize("target", ["../outside", "/etc/hostname", "fifo", "layer"])
def test_a_link_out_of_the_directory_is_not_followed(
    engine: LocalEngine, tmp_path: Path, target: str
) -> None:
    layout = unpacked(archives.oci_archive((APP, "app:1")), tmp_path / "layout")
    os.mkfifo(layout / "fifo")
    layer = max(layout.glob("blobs/*/*"), key=lambda path: path.stat().st_size)
    layer.rename(tmp_path / "outside")
    layer.symlink_to(layout / target if target == "fifo" else target.replace("layer", layer.name))
    with pytest.raises(EngineError):
        load(engine, layout)
    assert leftovers(engine) == []


def test_a_link_in_the_directory_is_followed(engine: LocalEngine, tmp_path: Path) -> None:
    layout = unpacked(archives.oci_archive((APP, "app:1")), tmp_path / "layout")
    layer = max(layout.glob("blobs/*/*"), key=lambda path: path.stat().st_size)
    layer.rename(layout / "layer.tar")
    layer.symlink_to("../../layer.tar")
    assert load(engine, layout) == ["app:1"]


def docker_directory(path: Path, **item: object) -> Path:
    """An unpacked docker archive whose manifest.json is changed by `item`."""
    path.mkdir()
    (path / "c.json").write_bytes(APP.config)
    names = [f"{number}.tar" for number in range(len(APP.layers))]
    for name, data in zip(names, APP.layers, strict=True):
        (path / name).write_bytes(data)
    items = [{"Config": "c.json", "RepoTags": ["app:1"], "Layers": names, **item}]
    (path / "manifest.json").write_bytes(archives.to_json(items))
    return path


@pytest.mark.parametrize("config", ["./c.json", "/c.json", "a//../c.json"])
def test_a_path_that_is_not_clean(engine: LocalEngine, tmp_path: Path, config: str) -> None:
    assert load(engine, docker_directory(tmp_path / "app", Config=config)) == ["app:1"]


@pytest.mark.parametrize("config", ["c\0.json", "c" * 5000, "c/" * 5000])
def test_a_path_that_no_file_can_have(engine: LocalEngine, tmp_path: Path, config: str) -> None:
    with pytest.raises(MissingMember):
        load(engine, docker_directory(tmp_path / "app", Config=config))
    assert leftovers(engine) == []


def test_a_parent_that_no_file_can_have(engine: LocalEngine, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one/json").write_bytes(b'{"id":"one","parent":"a\\u0000b"}')
    (tmp_path / "one/layer.tar").write_bytes(LARGE)
    (tmp_path / "repositories").write_bytes(b'{"app":{"1":"one"}}')
    with pytest.raises(MissingMember):
        load(engine, tmp_path)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return a list that grows with each attempt to read the images of a directory."""
    attempts: list[object] = []

    def read(*arguments: Any) -> Inventory:
        attempts.append(arguments)
        return read_whole(*arguments)

    monkeypatch.setattr(loading, "read_whole", read)
    return attempts


def small_images(count: int) -> list[ImageParts]:
    layers = [archives.layer(f"{number}") for number in range(2 * count)]
    return [ImageParts(layers=layers[2 * n : 2 * n + 2]) for n in range(count)]


def test_what_is_kept_of_a_document_counts_once(
    engine: LocalEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = ImageParts(layers=[archives.layer(f"{number}") for number in range(5)])
    directory = unpacked(archives.oci_archive((image, "app:1")), tmp_path / "app")
    attempts = counted(monkeypatch)
    options = ImportOptions(limits=Limits(max_document_bytes=8500))
    assert [one.names for one in load_directory(engine.store, directory, options).images] == [
        ("docker.io/library/app:1",)
    ]
    assert len(attempts) > 1


def test_the_items_of_a_docker_archive_are_read_once(
    engine: LocalEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [(image, [f"app:{n}"]) for n, image in enumerate(small_images(5))]
    directory = unpacked(archives.docker_archive(*images), tmp_path / "app")
    attempts = counted(monkeypatch)
    assert load(engine, directory) == [f"app:{n}" for n in range(5)]
    assert len(attempts) == 1


def test_the_layers_of_a_legacy_archive_are_read_once(
    engine: LocalEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = ImageParts(layers=[archives.layer(f"{number}") for number in range(5)])
    archive = archives.legacy_crane_archive(image, "app", "1")
    directory = unpacked(archive, tmp_path / "app")
    (directory / "manifest.json").unlink()
    attempts = counted(monkeypatch)
    assert load(engine, directory) == ["app:1"]
    assert len(attempts) == 1


def test_a_layer_that_is_absent_and_stored_by_its_diff_id(
    engine: LocalEngine, tmp_path: Path
) -> None:
    load(engine, docker_directory(tmp_path / "first"))
    again = docker_directory(tmp_path / "again", RepoTags=["again:1"])
    (again / "0.tar").unlink()
    (again / "1.tar").write_bytes(b"not read")
    assert load(engine, again) == ["again:1", "app:1"]


def test_a_path_out_of_the_directory(engine: LocalEngine, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_bytes(APP.config)
    with pytest.raises(BrokenArchive, match="leaves"):
        load(engine, docker_directory(tmp_path / "app", Config="../c.json"))


def test_one_platform_of_several(engine: LocalEngine, tmp_path: Path) -> None:
    arm = ImageParts(layers=[LARGE], architecture="arm64")
    layout = unpacked(archives.multi_platform("app:1", [APP, arm]), tmp_path / "layout")
    assert load(engine, layout, "linux/arm64") == ["app:1"]
    stored = engine.store.content
    assert stored.exists(archives.digest(arm.config))
    assert not stored.exists(archives.digest(APP.config))

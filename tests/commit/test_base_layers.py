"""The layers of the base image of a commit."""

import io
import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.commit.epoch import clamp_tree
from engine.commit.image_writer import InvalidSource
from engine.commit.layer_maker import TREE_LABEL, fingerprint
from engine.commit.source import CommitOptions, PlatformSource, Ref, Source, Upper
from engine.compression.options import Compression
from engine.filetree.directory import scan
from engine.filetree.merged import MergedImage
from engine.spec import oci
from tests import archives
from tests.archives import ImageParts, descriptor
from tests.local_engine import LocalEngine
from tests.trees import picture

FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar"
URLS = ["https://example.org/layer"]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    with LocalEngine(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    (path / "hello").write_text("hello\n" * 1000)
    return path


def commit(engine: LocalEngine, ref: Ref, options: CommitOptions, base: str = "") -> oci.Manifest:
    """The manifest of the image, which is called app:2 with a base and app:1 without."""
    name = "docker.io/library/app:2" if base else "docker.io/library/app:1"
    source = Source((PlatformSource(None, ref),), base)
    engine.commit(source, (name,), options)
    return engine.details(name).manifest.manifest


@pytest.mark.parametrize("compression", ["gzip", "zstd", "uncompressed"])
def test_one_kind_of_media_types(engine: LocalEngine, root: Path, compression: str) -> None:
    ours, dockers = (CommitOptions(Compression(compression), is_oci=kind) for kind in (True, False))
    first = commit(engine, Ref(root), dockers)
    (root / "new").touch()
    manifest = commit(engine, Ref(root), ours, "app:1")
    assert manifest.media_type == oci.MANIFEST
    assert {layer.media_type for layer in manifest.layers} == {Compression(compression).media_type}
    assert manifest.layers[0].digest == first.layers[0].digest
    manifest = commit(engine, Ref(root), dockers, "app:2")
    assert manifest.media_type == oci.DOCKER_MANIFEST
    assert {layer.media_type for layer in manifest.layers} == {first.layers[0].media_type}


def test_recompressed(engine: LocalEngine, root: Path) -> None:
    (before,) = commit(engine, Ref(root), CommitOptions()).layers
    (root / "new").touch()
    wanted = CommitOptions(Compression("zstd"), recompresses_base=True)
    manifest = commit(engine, Ref(root), wanted, "app:1")
    below, above = manifest.layers
    assert below.media_type == above.media_type == oci.LAYER_ZSTD
    assert below.digest != before.digest
    first, second = (json.loads(engine.details(name).raw_config) for name in ("app:1", "app:2"))
    assert second["rootfs"]["diff_ids"][:1] == first["rootfs"]["diff_ids"]
    assert picture(MergedImage(engine.layers, manifest).tree) == picture(scan(root))
    assert commit(engine, Ref(root), wanted, "app:1").layers[0] == below


def foreign_image(*, held: bool, **changed: Any) -> bytes:
    """An OCI archive of image app:1, whose only layer may not be distributed."""
    parts = ImageParts()
    (data,) = parts.layers
    layer = descriptor(data, FOREIGN, urls=URLS) | changed
    manifest = archives.to_json(
        {
            "schemaVersion": 2,
            "mediaType": archives.OCI_MANIFEST,
            "config": descriptor(parts.config, archives.OCI_CONFIG),
            "layers": [layer],
        }
    )
    name = {"io.containerd.image.name": "docker.io/library/app:1"}
    entry = descriptor(manifest, archives.OCI_MANIFEST, annotations=name)
    blobs = [manifest, parts.config, *([data] if held else [])]
    return archives.tar(archives.oci_members([entry], blobs))


def load(engine: LocalEngine, archive: bytes) -> None:
    session = engine.begin_import()
    session.feed(archive)
    session.finish()


def test_a_foreign_layer_can_be_handed_on(engine: LocalEngine, tmp_path: Path) -> None:
    load(engine, foreign_image(held=True))
    upper = Upper(tmp_path / "upper")
    upper.directory.mkdir()
    (layer,) = commit(engine, upper, CommitOptions(), "app:1").layers
    assert (layer.media_type, layer.urls) == (oci.LAYER, ())
    (layer,) = commit(engine, upper, CommitOptions(keeps_foreign=True), "app:1").layers
    assert (layer.media_type, list(layer.urls)) == (FOREIGN, URLS)


def test_a_foreign_layer_that_nobody_has(engine: LocalEngine, tmp_path: Path) -> None:
    load(engine, foreign_image(held=False))
    upper = Upper(tmp_path / "upper")
    upper.directory.mkdir()
    with pytest.raises(InvalidSource, match="prefer-nondist-layers"):
        commit(engine, upper, CommitOptions(), "app:1")
    (layer,) = commit(engine, upper, CommitOptions(keeps_foreign=True), "app:1").layers
    assert layer.media_type == FOREIGN


def test_what_a_store_notes_for_itself_goes_no_further(engine: LocalEngine, tmp_path: Path) -> None:
    noted = {"containerd.io/uncompressed": "x", "buildkit/createdat": "y", "mine": "z"}
    load(engine, foreign_image(held=True, annotations=noted))
    upper = Upper(tmp_path / "upper")
    upper.directory.mkdir()
    (layer,) = commit(engine, upper, CommitOptions(), "app:1").layers
    assert layer.annotations == {"mine": "z"}
    (layer,) = commit(engine, upper, CommitOptions(is_oci=False), "app:1").layers
    assert layer.annotations == {}


def test_dockers_plain_type_may_be_compressed(engine: LocalEngine, tmp_path: Path) -> None:
    parts = ImageParts()
    manifest = msgspec.json.decode(parts.manifest(gzipped=True))
    manifest["layers"][0]["mediaType"] = oci.DOCKER_LAYER
    data = archives.to_json(manifest)
    name = {"io.containerd.image.name": "docker.io/library/app:1"}
    entry = descriptor(data, archives.OCI_MANIFEST, annotations=name)
    load(
        engine, archives.tar(archives.oci_members([entry], [data, *parts.blobs(gzipped=True)[1:]]))
    )
    upper = Upper(tmp_path / "upper")
    upper.directory.mkdir()
    (layer,) = commit(engine, upper, CommitOptions(), "app:1").layers
    assert layer.media_type == oci.LAYER_GZIP


def test_a_layer_without_a_media_type_gets_the_one_of_its_bytes(engine: LocalEngine) -> None:
    app = ImageParts()
    (layer,) = app.layers
    blob = archives.compressed(layer)
    config = descriptor(app.config, archives.OCI_CONFIG)
    named = {"digest": archives.digest(blob), "size": len(blob)}
    manifest = archives.to_json(
        {
            "schemaVersion": 2,
            "mediaType": archives.OCI_MANIFEST,
            "config": config,
            "layers": [{"mediaType": "", **named}],
        }
    )
    annotations = {"io.containerd.image.name": "docker.io/library/app:1"}
    entry = descriptor(manifest, archives.OCI_MANIFEST, annotations=annotations)
    with engine.begin_import() as session:
        session.feed(archives.tar(archives.oci_members([entry], [manifest, app.config, blob])))
        session.finish()
    source = Source((PlatformSource(None, None),), "app:1")
    engine.commit(source, ("docker.io/library/app:2",), CommitOptions())
    (made,) = engine.details("app:2").manifest.manifest.layers
    assert (made.media_type, made.digest) == (oci.LAYER_GZIP, archives.digest(blob))


@pytest.mark.parametrize("known", [0, 1])
def test_a_base_whose_config_lacks_diff_ids_is_refused(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch, known: int
) -> None:
    app = ImageParts((archives.layer("a"), archives.layer("b")), os="")
    diff_ids = [archives.digest(layer) for layer in app.layers[:known]]
    parts = replace(app, extra={"rootfs": {"type": "layers", "diff_ids": diff_ids}})
    with monkeypatch.context() as unchecked:  # as in a store that another program has written
        unchecked.setattr("engine.archive.archive_image.check_layers", lambda *_: None)
        load(engine, archives.oci_archive((parts, "docker.io/library/app:1")))
    source = Source((PlatformSource(None, None),), "app:1")
    expected = rf"^image app:1: expected as many diff IDs as layers \(2\), found {known}$"
    with pytest.raises(InvalidSource, match=expected):
        engine.commit(source, ("docker.io/library/app:2",), CommitOptions())


def test_an_epoch_takes_nothing_of_the_base_for_changed(engine: LocalEngine, root: Path) -> None:
    (before,) = commit(engine, Ref(root), CommitOptions()).layers
    (root / "same").write_text("a")
    commit(engine, Ref(root), CommitOptions(), "app:1")
    os.utime(root / "hello")
    (root / "same").write_text("b")
    (root / "new").touch()
    options = CommitOptions(Compression("uncompressed"), epoch=86400, rewrites_times=True)
    known = fingerprint(
        clamp_tree(scan(root), 86400), "Ref", "uncompressed", *layers_of(engine, "app:2")
    )
    engine.content.update(before.digest, {TREE_LABEL: known})
    made = commit(engine, Ref(root), options, "app:2").layers[-1]
    with engine.content.open(made.digest) as reader:
        data = reader.pread(reader.size, 0)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert [(member.name, member.mtime) for member in archive] == [
            ("new", 86400),
            ("same", 86400),
        ]


def layers_of(engine: LocalEngine, name: str) -> list[str]:
    return [layer.digest for layer in engine.details(name).manifest.manifest.layers]

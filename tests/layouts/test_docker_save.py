"""The layout of docker save, and `save_for_docker` which writes it."""

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.errors import BrokenArchive, InvalidDocument, InvalidInput, NotExportable, NotFound
from engine.image import Image
from engine.layouts import docker_save
from engine.layouts.entry import Decompressed, Entry
from engine.layouts.selection import any_complete
from engine.spec import docker, platforms
from engine.spec.oci import Descriptor, Platform
from tests import archives
from tests.archives import ImageParts
from tests.local_engine import LocalEngine

BASE, TOP, LAST = (archives.layer(name, name.encode() * 3000) for name in ("a", "b", "c"))
APP = ImageParts(layers=[BASE, TOP], created="2024-02-03T04:05:06.7Z")
OTHER = ImageParts(layers=[BASE, LAST], created="2020-01-01T00:00:00Z")
ARM = ImageParts(layers=[LAST], architecture="arm64")
APP_TIME, OTHER_TIME = 1706933106, 1577836800
ANY = docker_save.Options(fallback=any_complete)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    with LocalEngine(tmp_path / "store") as opened:
        yield opened


def load(engine: LocalEngine, archive: bytes) -> None:
    with engine.begin_import() as session:
        session.feed(archive)
        session.finish()


def entries(
    engine: LocalEngine, *names: str, options: docker_save.Options = ANY
) -> dict[str, Entry]:
    images = [image for name in names for image in engine.find_to_save(name)]
    sizes = {archives.digest(archives.compressed(data)): len(data) for data in (BASE, TOP, LAST)}
    found = docker_save.layout(images, engine.content, sizes.__getitem__, options)
    return {entry.path: entry for entry in found}


def save(engine: LocalEngine, *names: str, options: docker_save.Options = ANY) -> bytes:
    out = io.BytesIO()
    images = [image for name in names for image in engine.find_to_save(name)]
    assert engine.save_for_docker(images, options, out.write) == len(out.getvalue())
    return out.getvalue()


def members(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as source:
        return {
            info.name: (file.read() if (file := source.extractfile(info)) else b"")
            for info in source
        }


def items(archive: bytes) -> list[dict[str, Any]]:
    found = json.loads(members(archive)["manifest.json"])
    assert isinstance(found, list)
    return found


def path(data: bytes) -> str:
    return f"blobs/sha256/{archives.digest(data)[7:]}"


@pytest.mark.parametrize("gzipped", [False, True])
def test_one_image_byte_for_byte(engine: LocalEngine, gzipped: bool) -> None:
    load(engine, archives.oci_archive((APP, "docker.io/library/app:1"), gzipped=gzipped))
    found = members(save(engine, "app:1"))
    assert list(found) == sorted(found)
    manifest = APP.manifest()
    base, top = (archives.digest(data) for data in (BASE, TOP))
    source = (
        '"{0}":{{"mediaType":"application/vnd.oci.image.layer.v1.tar","size":{1},"digest":"{0}"}}'
    )
    sources = sorted([source.format(base, len(BASE)), source.format(top, len(TOP))])
    documents = {
        "oci-layout": '{"imageLayoutVersion": "1.0.0"}',
        "index.json": (
            '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":'
            '[{"mediaType":"application/vnd.oci.image.manifest.v1+json",'
            f'"digest":"{archives.digest(manifest)}","size":{len(manifest)},"annotations":'
            '{"io.containerd.image.name":"docker.io/library/app:1",'
            '"org.opencontainers.image.ref.name":"1"}}]}'
        ),
        "manifest.json": (
            f'[{{"Config":"{path(APP.config)}","RepoTags":["app:1"],'
            f'"Layers":["{path(BASE)}","{path(TOP)}"],"LayerSources":{{{",".join(sources)}}}}}]\n'
        ),
        "repositories": f'{{"app":{{"1":"{top[7:]}"}}}}\n',
    }
    assert {name: found[name].decode() for name in documents} == documents
    blobs = [BASE, TOP, APP.config, manifest]
    assert {name: found[name] for name in map(path, blobs)} == {path(b): b for b in blobs}
    v1_configs = found.keys() - documents.keys() - set(map(path, blobs)) - {"blobs", "blobs/sha256"}
    assert all(name == path(found[name]) for name in v1_configs)
    v1 = sorted((json.loads(found[name]) for name in v1_configs), key=lambda v1: "parent" in v1)
    assert [one.get("parent") for one in v1] == [None, v1[0]["id"]]
    assert [one["created"] for one in v1] == ["1970-01-01T00:00:00Z", APP.created]


def test_times_and_modes(engine: LocalEngine) -> None:
    load(engine, archives.oci_archive((APP, "app:1"), (OTHER, "other:1")))
    found = entries(engine, "app:1", "other:1")
    directories = {name: (e.mode, e.mtime) for name, e in found.items() if e.is_directory}
    assert directories == dict.fromkeys(("blobs", "blobs/sha256"), (0o755, OTHER_TIME))
    files = [entry for entry in found.values() if not entry.is_directory]
    assert {entry.mode for entry in files} == {0o644}
    times = {
        "oci-layout": 0,
        "index.json": 0,
        "manifest.json": 0,
        "repositories": 0,
        path(APP.manifest()): 0,
        path(OTHER.manifest()): 0,
        path(APP.config): APP_TIME,
        path(OTHER.config): OTHER_TIME,
        path(BASE): APP_TIME,
        path(TOP): APP_TIME,
        path(LAST): OTHER_TIME,
    }
    assert {name: found[name].mtime for name in times} == times
    v1_times = [entry.mtime for entry in files if entry.path not in times]
    assert sorted(v1_times) == [OTHER_TIME, APP_TIME, APP_TIME]  # the lower one is shared


@pytest.mark.parametrize("created", ["1969-12-31T23:59:59Z", "2262-04-11T23:47:17Z"])
def test_a_time_that_no_file_has_is_1970(engine: LocalEngine, created: str) -> None:
    load(engine, archives.oci_archive((ImageParts(created=created), "app:1")))
    assert {entry.mtime for entry in entries(engine, "app:1").values()} == {0}


def test_the_time_is_the_images_own_alone(engine: LocalEngine) -> None:
    history = {"created": None, "history": [{"created": "2020-01-01T00:00:00Z"}]}
    load(engine, archives.oci_archive((ImageParts(extra=history), "app:1")))
    found = entries(engine, "app:1").values()
    assert {entry.mtime for entry in found} == {0}
    assert any(isinstance(e.content, bytes) and b'"created":null' in e.content for e in found)


def test_a_compressed_layer_is_decompressed_as_it_is_written(engine: LocalEngine) -> None:
    load(engine, archives.oci_archive((APP, "app:1"), gzipped=True))
    content = entries(engine, "app:1")[path(BASE)].content
    stored = archives.digest(archives.compressed(BASE))
    assert content == Decompressed(stored, archives.digest(BASE))  # type: ignore[arg-type]  # a plain str as Digest


def test_images_come_in_the_order_asked_for_with_all_their_names(engine: LocalEngine) -> None:
    load(engine, archives.docker_archive((APP, ["app:1", "quay.io/x/app:1"]), (OTHER, ["b:2"])))
    saved = save(engine, "b:2", "quay.io/x/app:1", "app:1", "b:2")
    assert [item["RepoTags"] for item in items(saved)] == [["b:2"], ["quay.io/x/app:1", "app:1"]]
    annotations = [e["annotations"] for e in json.loads(members(saved)["index.json"])["manifests"]]
    assert [tuple(names.values()) for names in annotations] == [
        ("docker.io/library/b:2", "2"),
        ("quay.io/x/app:1", "1"),
        ("docker.io/library/app:1", "1"),
    ]
    top, last = (archives.digest(data)[7:] for data in (TOP, LAST))
    assert members(saved)["repositories"].decode() == (
        f'{{"app":{{"1":"{top}"}},"b":{{"2":"{last}"}},"quay.io/x/app":{{"1":"{top}"}}}}\n'
    )


def test_all_untagged_images_are_in_the_index(engine: LocalEngine) -> None:
    load(engine, archives.docker_archive((APP, ["app:1"]), (OTHER, None), (ARM, None)))
    arm = docker_save.Options(preferred=platforms.ALL)
    saved = save(engine, "app:1", OTHER.id, ARM.id, options=arm)
    index = json.loads(members(saved)["index.json"])["manifests"]
    assert [sorted(entry) for entry in index[1:]] == [["digest", "mediaType", "size"]] * 2
    assert [item["RepoTags"] for item in items(saved)] == [["app:1"], None, None]


def test_without_names_there_is_no_repositories(engine: LocalEngine) -> None:
    load(engine, archives.docker_archive((APP, ["app:1"])))
    digest = engine.find_one("app:1").target.digest
    saved = save(engine, f"app@{digest}")
    assert "repositories" not in members(saved)
    assert items(saved)[0]["RepoTags"] is None


def test_two_manifests_of_one_config_are_one_image(engine: LocalEngine) -> None:
    load(engine, archives.oci_archive((APP, "plain:1")))
    load(engine, archives.oci_archive((APP, "packed:1"), gzipped=True))
    (item,) = items(save(engine, "packed:1", "plain:1"))
    assert item["RepoTags"] == ["packed:1", "plain:1"]


def test_a_layer_that_occurs_twice_is_written_once(engine: LocalEngine) -> None:
    twice = ImageParts(layers=[BASE, TOP, BASE])
    load(engine, archives.oci_archive((twice, "twice:1"), gzipped=True))
    saved = save(engine, "twice:1")
    with tarfile.open(fileobj=io.BytesIO(saved)) as source:
        assert source.getnames().count(path(BASE)) == 1
    assert items(saved)[0]["Layers"] == [path(BASE), path(TOP), path(BASE)]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("app:1", "other:1"), [OTHER.id, None]),
        (("other:1", "app:1"), [None, OTHER.id]),
        (("app:1",), [None]),
    ],
)
def test_parents_that_are_in_the_archive(
    engine: LocalEngine, names: Sequence[str], expected: list[str | None]
) -> None:
    found = members(archives.docker_archive((APP, ["app:1"]), (OTHER, ["other:1"])))
    told = json.loads(found["manifest.json"])
    for item in told:
        item["Parent"] = OTHER.id  # also its own, which cannot be
    found["manifest.json"] = json.dumps(told).encode()
    load(engine, archives.tar(found.items()))
    saved = save(engine, *names)
    assert [item.get("Parent") for item in items(saved)] == expected
    load(engine, saved)
    assert save(engine, *names) == saved


def test_of_an_index_the_wanted_platform(engine: LocalEngine) -> None:
    load(engine, archives.multi_platform("docker.io/x/multi:1", [APP, ARM]))
    arm64 = platforms.only(Platform("arm64", "linux"))
    (item,) = items(save(engine, "x/multi:1", options=docker_save.Options(arm64, arm64)))
    assert item["Config"] == path(ARM.config)
    s390x = platforms.only(Platform("s390x", "linux"))
    with pytest.raises(NotFound, match="x/multi:1"):
        save(engine, "x/multi:1", options=docker_save.Options(s390x, s390x))


@pytest.mark.parametrize("gzipped", [False, True])
def test_what_was_saved_loads_and_is_saved_as_the_same(
    engine: LocalEngine, tmp_path: Path, gzipped: bool
) -> None:
    load(engine, archives.oci_archive((APP, "app:1"), (OTHER, None), gzipped=gzipped))
    saved = save(engine, "app:1", OTHER.id)
    with LocalEngine(tmp_path / "second") as second:
        load(second, saved)
        assert [i.familiar for i in second.find(APP.id)] == ["app:1"]
        assert save(second, "app:1", OTHER.id) == saved


# -- what is refused ------------------------------------------------------------------------------


def test_an_image_of_another_system(engine: LocalEngine) -> None:
    load(engine, archives.oci_archive((ImageParts(os="windows"), "win:1")))
    with pytest.raises(NotExportable, match=r"image win:1: .*linux.*windows"):
        save(engine, "win:1")


@pytest.mark.parametrize("system", ["", "Linux"])
def test_systems_that_are_linux(engine: LocalEngine, system: str) -> None:
    load(engine, archives.oci_archive((ImageParts(os=system), "app:1")))
    (item,) = items(save(engine, "app:1"))
    assert item["RepoTags"] == ["app:1"]


def test_an_image_without_layers(engine: LocalEngine) -> None:
    load(engine, archives.docker_archive((ImageParts(layers=[]), ["empty:1"])))
    with pytest.raises(NotExportable, match="image empty:1: has no layers"):
        save(engine, "empty:1")


def test_only_manifests_may_be_exported(engine: LocalEngine) -> None:
    layer = Image("docker.io/x/layer:1", Descriptor(archives.OCI_LAYER, archives.digest(b"x"), 1))
    with pytest.raises(InvalidInput, match="only manifests"):
        docker_save.layout([layer], engine.content, len, ANY)


def test_an_image_whose_config_docker_could_not_read(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = ImageParts(extra={"config": {"Cmd": {"a": 1}}})
    with monkeypatch.context() as unchecked:  # as in a store that other software has filled
        unchecked.setattr(docker, "check_config", lambda _data, _subject: None)
        load(engine, archives.oci_archive((odd, "odd:1")))
    with pytest.raises(InvalidDocument, match=odd.id):
        save(engine, "odd:1")


def test_a_damaged_layer_is_not_saved(engine: LocalEngine) -> None:
    load(engine, archives.oci_archive((APP, "app:1"), gzipped=True))
    stored = archives.compressed(TOP)
    file = engine.path / path(stored)
    file.chmod(0o644)
    file.write_bytes(stored[:-1] + bytes([stored[-1] ^ 1]))
    with pytest.raises(BrokenArchive, match=path(TOP)):
        save(engine, "app:1")


def test_no_images(engine: LocalEngine) -> None:
    assert list(entries(engine)) == ["index.json", "manifest.json", "oci-layout"]

"""Loading of directories whose files arrive in any order."""

import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.archive import growing_layout
from engine.archive.archive_image import Inventory
from engine.archive.directory_formats import read_growing
from engine.archive.directory_import import DirectoryImport
from engine.archive.import_options import ImportOptions
from engine.archive.publisher import Publisher
from engine.errors import DigestMismatch, InvalidDocument, LimitExceeded
from engine.layers.learning import learn
from engine.layers.table_codec import dump
from engine.limits import Limits
from engine.progress import ignore
from engine.spec import oci
from engine.spec.digest import Digest
from tests import archives
from tests.archives import ImageParts
from tests.local_engine import LocalEngine

LARGE = archives.layer("large", os.urandom(200_000))
APP = ImageParts(layers=[LARGE, archives.layer("app")])
OTHER = ImageParts(layers=[LARGE, archives.layer("other")])

Files = dict[str, bytes]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    with LocalEngine(tmp_path / "store") as opened:
        yield opened


def entry(image: ImageParts, name: str = "", tag: str = "") -> dict[str, object]:
    names = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag}
    annotations = {key: value for key, value in names.items() if value}
    data = image.manifest(gzipped=True)
    return archives.descriptor(data, archives.OCI_MANIFEST, annotations=annotations)


def oci_layout(*images: ImageParts, tags: Iterable[str] = ()) -> Files:
    entries = [entry(image, tag=tag) for image, tag in zip(images, tags or "ab", strict=False)]
    blobs = [blob for image in images for blob in image.blobs(True)]
    return dict(archives.oci_members(entries, blobs))


def write(directory: DirectoryImport, path: str, data: bytes) -> None:
    file = directory.new_file(path)
    for offset in range(0, len(data), 70_000):
        file.write(data[offset : offset + 70_000], offset)
    directory.arrived(path, directory.put(path, file))


def write_many(directory: DirectoryImport, count: int) -> None:
    for number in range(count):
        write(directory, f"{number}", b"%d" % number)


def load(engine: LocalEngine, name: str, files: Iterable[tuple[str, bytes]]) -> list[str]:
    with DirectoryImport(engine.store, ImportOptions(), name) as directory:
        for path, data in files:
            write(directory, path, data)
        assert (directory.error, directory.missing) == (None, ())
    return images(engine)


def images(engine: LocalEngine) -> list[str]:
    return [image.familiar for image in engine.images.all()]


def garbage(engine: LocalEngine) -> list[str]:
    return [found.name for found in engine.collector().plan()]


LAYOUT = oci_layout(APP, OTHER, tags=["1", "2"])
DOCKER = dict(archives.members(archives.docker_archive((APP, ["app:3"]))))


@given(order=st.permutations(sorted(LAYOUT)))
@settings(max_examples=60, deadline=None)
def test_any_order_of_an_oci_layout(
    tmp_path_factory: pytest.TempPathFactory, order: list[str]
) -> None:
    with LocalEngine(tmp_path_factory.mktemp("store")) as engine:
        assert load(engine, "app", ((path, LAYOUT[path]) for path in order)) == ["app:1", "app:2"]
        assert garbage(engine) == []
        assert list(engine.check()) == []


@given(order=st.permutations(sorted(LAYOUT)))
@settings(max_examples=60, deadline=None)
def test_any_order_by_temporary_names(
    tmp_path_factory: pytest.TempPathFactory, order: list[str]
) -> None:
    with LocalEngine(tmp_path_factory.mktemp("store")) as engine:
        with DirectoryImport(engine.store, ImportOptions(), "app") as directory:
            for path in order:
                write(directory, f"{path}.tmp", LAYOUT[path])
                for arrived in directory.rename(f"{path}.tmp", path):
                    directory.arrived(*arrived)
        assert images(engine) == ["app:1", "app:2"]
        assert garbage(engine) == []


@given(order=st.permutations(sorted(DOCKER)))
@settings(max_examples=40, deadline=None)
def test_any_order_of_an_unpacked_docker_archive(
    tmp_path_factory: pytest.TempPathFactory, order: list[str]
) -> None:
    with LocalEngine(tmp_path_factory.mktemp("store")) as engine:
        assert load(engine, "directory", ((path, DOCKER[path]) for path in order)) == ["app:3"]
        assert garbage(engine) == []


def test_the_images_appear_with_the_last_piece_only(engine: LocalEngine) -> None:
    files = sorted(oci_layout(APP, tags=["1"]).items(), reverse=True)
    with DirectoryImport(engine.store, ImportOptions(), "team/app") as directory:
        for path, data in files[:-1]:
            write(directory, path, data)
            assert images(engine) == []
            assert directory.missing or not directory.loaded.images
        assert list(directory.missing) == [files[-1][0]]
        write(directory, *files[-1])
        assert images(engine) == ["team/app:1"]
        assert not directory.missing


def test_a_second_index_adds_images(engine: LocalEngine) -> None:
    first, both = oci_layout(APP, tags=["1"]), oci_layout(APP, OTHER, tags=["1", "2"])
    with DirectoryImport(engine.store, ImportOptions(), "app") as directory:
        for path, data in first.items():
            write(directory, path, data)
        for path, data in sorted((both.items() - first.items()), key=lambda item: item[0]):
            write(directory, path, data)
        assert images(engine) == ["app:1", "app:2"]
        assert len(directory.loaded.images) == 2


def test_layouts_in_layouts_share_their_blobs(engine: LocalEngine) -> None:
    """As rsync -r writes them: it skips a blob that the first layout has brought."""
    first, second = oci_layout(APP, tags=["1"]), oci_layout(OTHER)
    files = [(f"b/{path}", data) for path, data in second.items() if path not in first]
    files += [(f"b/{path}", second[path]) for path in ("index.json", "oci-layout")]
    files += [(f"a/{path}", data) for path, data in first.items()]
    assert load(engine, "x", files) == ["x/a:1", "x/b:a"]


def test_a_stored_blob_is_held_and_completes(engine: LocalEngine) -> None:
    load(engine, "app", oci_layout(APP, tags=["1"]).items())
    files = oci_layout(APP, OTHER, tags=["1", "2"])
    layer = next(path for path, data in files.items() if data == archives.compressed(LARGE))
    digest = Digest(layer.removeprefix("blobs/").replace("/", ":"))
    with DirectoryImport(engine.store, ImportOptions(), "again") as directory:
        assert directory.held(digest) == len(files[layer])
        engine.remove("app:1")
        assert list(engine.collector().collect()) != []
        for path, data in files.items():
            if path != layer:
                write(directory, path, data)
    assert images(engine) == ["again:1", "again:2"]


def test_a_wrong_blob_is_refused_and_can_be_written_again(engine: LocalEngine) -> None:
    files = oci_layout(APP, tags=["1"])
    layer = max(files, key=lambda path: len(files[path]))
    with DirectoryImport(engine.store, ImportOptions(), "app") as directory:
        file = directory.new_file(layer)
        file.write(files[layer][:-1], 0)
        with pytest.raises(DigestMismatch):
            directory.put(layer, file)
        file.write(files[layer][-1:], len(files[layer]) - 1)
        directory.put(layer, file)
        write(directory, "x", b"x" * 100_000)
        with pytest.raises(DigestMismatch):
            directory.rename("x", layer)
        for path, data in files.items():
            if path != layer:
                write(directory, path, data)
    assert images(engine) == ["app:1"]


def test_a_temporary_file_that_is_changed_completes_a_layout(engine: LocalEngine) -> None:
    """As rsync --partial-dir does: the file is closed, continued and then renamed."""
    files = oci_layout(APP, tags=["1"])
    layer = max(files, key=lambda path: len(files[path]))
    with DirectoryImport(engine.store, ImportOptions(), "app") as directory:
        for path, data in files.items():
            if path != layer:
                write(directory, path, data)
        write(directory, "partial", files[layer][:150_000])
        file = directory.reopen("partial", Digest(archives.digest(files[layer][:150_000])))
        file.write(files[layer][149_500:], 149_500)
        directory.put("partial", file)
        for arrived in directory.rename("partial", layer):
            directory.arrived(*arrived)
        assert not directory.missing
    assert images(engine) == ["app:1"]


def in_sha512(image: ImageParts) -> Files:
    """A layout whose blobs are named by another digest than that of their temporary names."""

    def described(data: bytes, media_type: str) -> dict[str, object]:
        return archives.descriptor(data, media_type) | {"digest": archives.digest(data, "sha512")}

    manifest = archives.to_json(
        {
            "schemaVersion": 2,
            "mediaType": archives.OCI_MANIFEST,
            "config": described(image.config, archives.OCI_CONFIG),
            "layers": [described(layer, archives.OCI_LAYER) for layer in image.layers],
        }
    )
    blobs = (manifest, image.config, *image.layers)
    index = {"schemaVersion": 2, "manifests": [described(manifest, archives.OCI_MANIFEST)]}
    return {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": archives.to_json(index),
        **{f"blobs/sha512/{archives.digest(blob, 'sha512')[7:]}": blob for blob in blobs},
    }


def test_a_small_blob_has_another_digest_by_its_later_name(engine: LocalEngine) -> None:
    with DirectoryImport(engine.store, ImportOptions(), "app") as directory:
        for path, data in in_sha512(APP).items():
            write(directory, f"{path}.tmp", data)
            for arrived in directory.rename(f"{path}.tmp", path):
                directory.arrived(*arrived)
        assert (directory.error, directory.missing) == (None, ())
    assert images(engine) == ["app:latest"]
    assert list(engine.check()) == []


def test_a_second_name_of_a_file_completes_a_layout(engine: LocalEngine) -> None:
    files = oci_layout(APP, tags=["1"])
    layer = max(files, key=lambda path: len(files[path]))
    with DirectoryImport(engine.store, ImportOptions(), "app") as directory:
        write(directory, "a", files[layer])
        directory.copy_name("a", layer)
        for path, data in files.items():
            if path != layer:
                write(directory, path, data)
    assert images(engine) == ["app:1"]


def test_a_large_file_has_two_names_in_an_unpacked_archive(engine: LocalEngine) -> None:
    files = dict(archives.members(archives.docker_archive((APP, ["app:1"]))))
    layer = max(files, key=lambda path: len(files[path]))
    assert len(files[layer]) > 64 << 10
    with DirectoryImport(engine.store, ImportOptions(), "app") as directory:
        write(directory, "a", files[layer])
        directory.copy_name("a", layer)
        for path, data in files.items():
            if path != layer:
                write(directory, path, data)
        directory.remove("a")
    assert images(engine) == ["app:1"]
    assert list(engine.check()) == []


def test_a_layout_that_is_wrong_is_reported_by_what_completes_it(engine: LocalEngine) -> None:
    app = ImageParts(layers=[archives.layer("app")])
    wrong = archives.digest(b"another layer").encode()
    config = app.config.replace(archives.digest(app.layers[0]).encode(), wrong)
    manifest = json.loads(app.manifest())
    manifest["config"] |= {"digest": archives.digest(config), "size": len(config)}
    data = archives.to_json(manifest)
    files = archives.oci_members(
        [archives.descriptor(data, archives.OCI_MANIFEST)], [config, data, *app.layers]
    )
    with DirectoryImport(engine.store, ImportOptions(), "app") as directory:
        for path, each in files[:-1]:
            write(directory, path, each)
        with pytest.raises(DigestMismatch):
            write(directory, *files[-1])
        assert directory.error is not None
    assert images(engine) == []


def test_an_error_stays_until_the_layout_has_been_read_again(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Exception | None] = []

    def read(*arguments: Any) -> Inventory:
        seen.append(directory.error)
        return read_growing(*arguments)

    files = oci_layout(APP, tags=["1"])
    index = files.pop("index.json")
    with DirectoryImport(engine.store, ImportOptions(), "app") as directory:
        for path, data in files.items():
            write(directory, path, data)
        with pytest.raises(InvalidDocument):
            write(directory, "index.json", b"[")
        error = directory.error
        assert error is not None
        monkeypatch.setattr(growing_layout, "read_growing", read)
        write(directory, "index.json", index)
        assert (seen, directory.error) == ([error], None)
    assert images(engine) == ["app:1"]


def tables(engine: LocalEngine) -> dict[str, bytes]:
    kept = ((found.digest or "", found.path.read_bytes()) for found in engine.store.tables.files())
    return dict(kept)


def table(engine: LocalEngine, digest: str) -> bytes:
    """Return the table that a pass over a stored layer makes."""
    with engine.content.open(digest) as reader:
        return dump(learn(reader, digest, ignore).table)


def test_a_blob_arrives_at_a_layout_that_a_passing_error_has_stopped(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    blobs = [f"blobs/sha256/{archives.digest(blob)[7:]}" for blob in OTHER.blobs(True)]
    rest = [path for path in blobs if path not in oci_layout(APP)]
    with DirectoryImport(engine.store, ImportOptions(), "app") as directory:
        first = [path for path in LAYOUT if path not in rest]
        for path in first[:-1]:
            write(directory, path, LAYOUT[path])
        monkeypatch.setattr(Publisher, "publish", full)
        with pytest.raises(OSError, match="No space left"):
            write(directory, first[-1], LAYOUT[first[-1]])
        monkeypatch.undo()
        for path in rest:
            write(directory, path, LAYOUT[path])
        assert (directory.error, directory.missing) == (None, ())
    assert images(engine) == ["app:1", "app:2"]


def test_a_blob_arrives_at_a_layout_that_waits_for_another_file_too(engine: LocalEngine) -> None:
    items = [{"Config": "zzz.json", "RepoTags": ["x:1"], "Layers": []}]
    with DirectoryImport(engine.store, ImportOptions(), "app") as directory:
        write(directory, "manifest.json", archives.to_json(items))
        for path in sorted(LAYOUT, reverse=True):
            write(directory, path, LAYOUT[path])
        assert directory.missing == ("zzz.json",)
    assert images(engine) == ["app:1", "app:2"]


def test_an_image_is_published_without_reading_the_others_again(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    parse = oci.parse_index

    def counted(data: bytes, subject: str) -> oci.Index:
        index = parse(data, subject)
        seen.extend(index.manifests)
        return index

    parts = [ImageParts(layers=[archives.layer(f"{number}")]) for number in range(30)]
    files = oci_layout(*parts, tags=[f"{number}" for number in range(30)])
    documents = ("oci-layout", "index.json")
    monkeypatch.setattr(oci, "parse_index", counted)
    with DirectoryImport(engine.store, ImportOptions(), "app") as directory:
        for path in (*documents, *(path for path in files if path not in documents)):
            write(directory, path, files[path])
        assert (directory.error, directory.missing) == (None, ())
        assert directory.loaded.left_out == ()
    assert len(images(engine)) == 30
    assert len(seen) < 300


def put(directory: DirectoryImport, path: str, data: bytes) -> None:
    """Write a file as skopeo does: by another name first."""
    write(directory, f"{path}.tmp", data)
    for arrived in directory.rename(f"{path}.tmp", path):
        directory.arrived(*arrived)


def small_images(count: int) -> list[ImageParts]:
    layers = [archives.layer(f"{number}") for number in range(5)]
    return [ImageParts(layers=layers, created=f"2024-02-03T04:05:{n:02}Z") for n in range(count)]


SMALL = ImportOptions(limits=Limits(max_document_bytes=40_000))
"""Enough for what is kept of 10 small images."""


def test_a_layout_grows_image_by_image(engine: LocalEngine) -> None:
    parts, files = small_images(10), Files()
    with DirectoryImport(engine.store, SMALL, "app") as directory:
        for count in range(1, len(parts) + 1):
            now = oci_layout(*parts[:count], tags=[f"{n}" for n in range(count)])
            for path in (*(path for path in now if path not in files), "index.json"):
                put(directory, path, now[path])
            files |= now
            assert (directory.error, len(images(engine))) == (None, count)


def test_documents_that_are_replaced_do_not_count(engine: LocalEngine) -> None:
    with DirectoryImport(engine.store, SMALL, "app") as directory:
        for part in small_images(50):
            for path, data in oci_layout(part, tags=["1"]).items():
                put(directory, path, data)
        assert directory.error is None
    assert len(images(engine)) == 50


def test_a_document_counts_once_while_blobs_arrive(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = small_images(10)
    files = oci_layout(*parts, tags=[f"{n}" for n in range(10)])
    layers = {f"blobs/sha256/{archives.digest(b)[7:]}" for b in parts[0].blobs(True)[2:]}
    parsed: list[str] = []
    parse = oci.parse_manifest

    def counted(data: bytes, subject: str) -> oci.Manifest:
        parsed.append(subject)
        return parse(data, subject)

    monkeypatch.setattr(oci, "parse_manifest", counted)
    with DirectoryImport(engine.store, SMALL, "app") as directory:
        for path in sorted(files, key=lambda path: (path in layers, path.startswith("blobs"))):
            write(directory, path, files[path])
    assert len(images(engine)) == 10
    assert len(parsed) == 2 * 10, "by a walk and by the publication"


def test_what_an_image_still_lacks_is_stated_anew(engine: LocalEngine) -> None:
    _, config, *layers = (f"blobs/sha256/{archives.digest(b)[7:]}" for b in OTHER.blobs(True))
    with DirectoryImport(engine.store, ImportOptions(), "app") as directory:
        for path, data in LAYOUT.items():
            if path not in (config, layers[-1]):
                write(directory, path, data)
        (one,) = directory.loaded.left_out
        assert one.missing == (config, layers[-1])
        write(directory, config, LAYOUT[config])
        (one,) = directory.loaded.left_out
        assert (one.name, one.missing) == ("2", (layers[-1],))
        assert directory.missing == (layers[-1],)


def test_an_image_without_a_name_comes_between_others(engine: LocalEngine) -> None:
    files = oci_layout(APP, OTHER, ImageParts(), tags=["1", "", "3"])
    last = f"blobs/sha256/{archives.digest(OTHER.manifest(gzipped=True))[7:]}"
    with DirectoryImport(engine.store, ImportOptions(), "app") as directory:
        for path in (*(path for path in files if path != last), last):
            write(directory, path, files[path])
    assert images(engine) == ["app:1", "app:3", "app:latest"]


@pytest.mark.parametrize("files", [LAYOUT, DOCKER], ids=["oci", "docker"])
def test_each_layer_has_its_table_when_its_image_is_published(
    engine: LocalEngine, files: Files
) -> None:
    load(engine, "app", files.items())
    layers = {
        layer.digest
        for image in engine.images.all()
        for layer in engine.details(image.familiar).manifest.manifest.layers
    }
    assert tables(engine) == {digest: table(engine, digest) for digest in layers}


@pytest.mark.parametrize("large", [LARGE, archives.compressed(LARGE)], ids=["plain", "gzip"])
@pytest.mark.parametrize("cut", [70_000, 199_999])
def test_the_table_of_a_blob_that_is_closed_and_continued(
    engine: LocalEngine, large: bytes, cut: int
) -> None:
    digest = Digest(archives.digest(large))
    path = f"blobs/sha256/{digest.encoded}"
    with DirectoryImport(engine.store, ImportOptions(), "app") as directory:
        file = directory.new_file(path)
        file.write(large[:cut], 0)
        with pytest.raises(DigestMismatch):
            directory.put(path, file)
        assert tables(engine) == {}
        file.write(large[cut:], cut)
        directory.put(path, file)
        assert tables(engine) == {digest: table(engine, digest)}


def test_the_table_of_a_blob_that_came_out_of_order_is_made_when_it_is_needed(
    engine: LocalEngine,
) -> None:
    layer = archives.compressed(LARGE)
    digest = Digest(archives.digest(layer))
    path = f"blobs/sha256/{digest.encoded}"
    with DirectoryImport(engine.store, ImportOptions(), "app") as directory:
        file = directory.new_file(path)
        for offset in (100_000, 0):
            file.write(layer[offset : offset + 150_000 - offset // 2], offset)
        file.write(layer[150_000:], 150_000)
        directory.put(path, file)
        assert tables(engine) == {}
        assert len(engine.layers.table(digest)) == 1
        assert tables(engine) == {digest: table(engine, digest)}


def test_a_blob_that_is_no_layer_has_no_table(engine: LocalEngine) -> None:
    data = os.urandom(4) + bytes(100_000)
    with DirectoryImport(engine.store, ImportOptions(), "app") as directory:
        write(directory, f"blobs/sha256/{Digest(archives.digest(data)).encoded}", data)
        assert tables(engine) == {}


def test_a_hidden_directory_has_images_once_it_is_renamed(engine: LocalEngine) -> None:
    with DirectoryImport(engine.store, ImportOptions(), ".new") as directory:
        for path, data in oci_layout(APP, tags=["2"]).items():
            write(directory, path, data)
        assert (images(engine), directory.loaded.images) == ([], ())
        directory.name = "app"
        for arrived in directory.files():
            directory.arrived(*arrived)
        assert images(engine) == ["app:2"]
        assert (directory.error, directory.missing) == (None, ())


def test_too_many_files(engine: LocalEngine) -> None:
    options = ImportOptions(limits=Limits(max_table_bytes=5_000))
    with DirectoryImport(engine.store, options, "app") as directory, pytest.raises(LimitExceeded):
        write_many(directory, 1000)


def link_many(directory: DirectoryImport, count: int) -> None:
    for number in range(count):
        directory.link(f"{number}", "t" * 4000)


def name_many(directory: DirectoryImport, count: int) -> None:
    write(directory, "file", b"data")
    for number in range(count):
        directory.copy_name("file", f"{number}")


@pytest.mark.parametrize("add", [link_many, name_many])
def test_too_many_names(engine: LocalEngine, add: Callable[[DirectoryImport, int], None]) -> None:
    options = ImportOptions(Limits(max_table_bytes=10_000))
    with DirectoryImport(engine.store, options, "app") as directory:
        with pytest.raises(LimitExceeded, match="bytes of a table"):
            add(directory, 1000)
        assert len(directory.files()) < 100


def test_too_large_a_file(engine: LocalEngine) -> None:
    options = ImportOptions(limits=Limits(max_archive_bytes=100))
    with DirectoryImport(engine.store, options, "app") as directory:
        file = directory.new_file("x")
        with pytest.raises(LimitExceeded):
            file.write(b"x", 100)


@given(
    pieces=st.lists(
        st.tuples(
            st.integers(0, 200_000), st.integers(0, 100_000), st.binary(min_size=1, max_size=1)
        ),
        max_size=12,
    ),
    cut=st.integers(0, 250_000),
)
@settings(max_examples=60, deadline=None)
def test_writes_in_any_order_are_those_of_a_file(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[int, int, bytes]], cut: int
) -> None:
    expected = tmp_path_factory.mktemp("file") / "x"
    with (
        LocalEngine(tmp_path_factory.mktemp("store")) as engine,
        DirectoryImport(engine.store, ImportOptions(), "app") as directory,
        expected.open("wb", buffering=0) as model,
    ):
        file = directory.new_file("x")
        for offset, size, byte in pieces:
            if size:
                os.pwrite(model.fileno(), byte * size, offset)
                file.write(byte * size, offset)
        model.truncate(cut)
        file.truncate(cut)
        assert file.size == cut
        digest = directory.put("x", file)
        assert digest == archives.digest(expected.read_bytes())
        with directory.open(digest) as reader:
            assert reader.pread(1 << 20, 0) == expected.read_bytes()

"""A commit: from directories to an image in a store."""

import gzip
import io
import json
import os
import random
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.commit.config import InvalidConfig
from engine.commit.image_writer import InvalidSource
from engine.commit.instructions import InvalidInstruction
from engine.commit.layer_progress import LayerProgress
from engine.commit.overlay import ForeignUpper
from engine.commit.source import (
    CommitOptions,
    PlatformSource,
    Ref,
    RootArchive,
    Source,
    Upper,
    parse_names,
)
from engine.compression.compressor import BLOCK
from engine.compression.options import Compression
from engine.content.blobs import read_blob
from engine.errors import ChangedFile, InvalidReference, NotFound
from engine.filetree.directory import scan
from engine.filetree.merged import MergedImage
from engine.layers import table_codec
from engine.layers.learning import learn
from engine.progress import ignore
from engine.spec import docker, go_json, oci
from tests import archives
from tests.commit.configs import ODD, OddImage
from tests.local_engine import LocalEngine
from tests.trees import picture

OPTIONS = CommitOptions(created="2024-01-01T00:00:00Z")
NAME = "docker.io/library/app:1"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    with LocalEngine(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    (path / "etc").mkdir(parents=True)
    (path / "etc/motd").write_text("hello\n")
    return path


def picture_of_store(engine: LocalEngine) -> object:
    tables = ("blobs", "images", "targets", "members", "leases", "lease_resources")
    rows = [engine.database.read(f"SELECT * FROM {table}") for table in tables]
    files = sorted(str(p) for p in engine.path.rglob("*") if "imgfs.db" not in p.name)
    return rows, files


def commit(engine: LocalEngine, root: Path, base: str = "", name: str = NAME) -> str:
    return str(
        engine.commit(
            Source((PlatformSource(None, Ref(root)),), base), (name,), OPTIONS
        ).target.digest
    )


def layers(engine: LocalEngine, name: str = "app:1") -> tuple[oci.Descriptor, ...]:
    return engine.details(name).manifest.manifest.layers


def test_an_image_is_there_with_all_its_names(engine: LocalEngine, root: Path) -> None:
    steps: list[str] = []

    def tell(step: str, size: int) -> None:
        steps.append(f"{step}, {size}" if size else step)

    names = parse_names("app:1,ghcr.io/org/app,app:1")
    made = engine.commit(Source((PlatformSource(None, Ref(root)),)), names, OPTIONS, tell)
    assert [image.name for image in engine.images.all()] == [NAME, "ghcr.io/org/app:latest"]
    assert steps[0] == "exporting layers"
    assert steps[-1] == "naming to ghcr.io/org/app:latest"
    manifest = engine.details("app:1").manifest.manifest
    told = made.metadata()
    assert told["containerimage.digest"] == made.target.digest
    assert told["containerimage.config.digest"] == manifest.config.digest
    assert json.dumps(told["containerimage.descriptor"])
    merged = MergedImage(engine.layers, manifest)
    assert picture(merged.tree) == picture(scan(root))
    assert b"".join(merged.read("etc/motd")) == b"hello\n"


def test_a_directory_that_has_not_changed_is_not_read_again(
    engine: LocalEngine, root: Path
) -> None:
    commit(engine, root)
    (layer,) = layers(engine)
    os.truncate(engine.path / "blobs" / layer.digest.replace(":", "/"), 0)
    assert not engine.content.exists(layer.digest)
    again = commit(engine, root, name="docker.io/library/app:2")
    assert engine.content.exists(layer.digest), "a blob that was lost is made again"
    before = os.stat(root / "etc/motd").st_atime_ns
    assert commit(engine, root, name="docker.io/library/app:3") == again
    assert os.stat(root / "etc/motd").st_atime_ns == before


def test_the_same_tree_with_another_compression_is_another_layer(
    engine: LocalEngine, root: Path
) -> None:
    commit(engine, root)
    (first,) = layers(engine)
    options = replace(OPTIONS, compression=Compression("zstd"))
    engine.commit(Source((PlatformSource(None, Ref(root)),)), (NAME,), options)
    (second,) = layers(engine)
    assert second.media_type == oci.LAYER_ZSTD
    labels = [engine.content.info(layer.digest).labels for layer in (first, second)]
    diff_ids = {label["containerd.io/uncompressed"] for label in labels}
    assert len(diff_ids) == 1
    sizes = {label["imgfs.uncompressed.size"] for label in labels}
    assert sizes == {str(len(gzip.decompress(read_blob(engine.content, first.digest))))}


def test_against_a_base(engine: LocalEngine, root: Path) -> None:
    commit(engine, root)
    (root / "new").write_text("x")
    (root / "etc/motd").unlink()
    commit(engine, root, "app:1", "docker.io/library/app:2")
    below, above = layers(engine, "app:2")
    assert below == layers(engine)[0]
    assert above.size < 1000
    merged = MergedImage(engine.layers, engine.details("app:2").manifest.manifest)
    assert picture(merged.tree) == picture(scan(root))
    config = json.loads(engine.details("app:2").raw_config)
    assert len(config["rootfs"]["diff_ids"]) == len(config["history"]) == 2


def test_nothing_new_against_a_base_is_no_layer(engine: LocalEngine, root: Path) -> None:
    commit(engine, root)
    commit(engine, root, "app:1", "docker.io/library/app:2")
    assert layers(engine, "app:2") == layers(engine)
    history = json.loads(engine.details("app:2").raw_config)["history"]
    assert [entry.get("empty_layer", False) for entry in history] == [False, True]


def test_a_chain_of_directories(engine: LocalEngine, root: Path, tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    (upper / "etc").mkdir(parents=True)
    (upper / "etc/issue").write_text("x")
    ref = Ref(root, Ref(root, description="lower"), "upper")
    engine.commit(Source((PlatformSource(None, replace(ref, directory=upper)),)), (NAME,), OPTIONS)
    assert len(layers(engine)) == 2
    merged = MergedImage(engine.layers, engine.details("app:1").manifest.manifest)
    assert picture(merged.tree) == picture(scan(upper))
    history = json.loads(engine.details("app:1").raw_config)["history"]
    assert [entry["created_by"] for entry in history] == ["lower", "upper"]


def test_instructions_and_author(engine: LocalEngine, root: Path) -> None:
    options = replace(OPTIONS, instructions=("USER me", "ENV A=1"), author="me <x@y>")
    engine.commit(Source((PlatformSource(None, Ref(root)),)), (NAME,), options)
    config = json.loads(engine.details("app:1").raw_config)
    assert config["config"]["User"] == "me"
    assert config["config"]["Env"][-1] == "A=1"
    assert config["author"] == "me <x@y>"
    assert config["created"] == OPTIONS.created


def test_a_command_before_an_entrypoint_is_kept(engine: LocalEngine, root: Path) -> None:
    options = replace(OPTIONS, instructions=('CMD ["a"]', 'ENTRYPOINT ["b"]'))
    engine.commit(Source((PlatformSource(None, Ref(root)),)), (NAME,), options)
    config = json.loads(engine.details("app:1").raw_config)["config"]
    assert (config["Entrypoint"], config["Cmd"]) == (["b"], ["a"])


def test_reproducible(root: Path, tmp_path: Path) -> None:
    options = replace(OPTIONS, epoch=0, rewrites_times=True, created="1970-01-01T00:00:00Z")
    found = set()
    for number in range(2):
        os.utime(root / "etc/motd")
        with LocalEngine(tmp_path / f"store{number}") as engine:
            made = engine.commit(Source((PlatformSource(None, Ref(root)),)), (NAME,), options)
            found.add(made.target.digest)
            merged = MergedImage(engine.layers, engine.details("app:1").manifest.manifest)
            assert {entry.mtime_ns for path, entry in merged.tree.items() if path} == {0}
    assert len(found) == 1


def test_reproducible_against_a_base(engine: LocalEngine, root: Path) -> None:
    options = replace(OPTIONS, epoch=0, rewrites_times=True, created="1970-01-01T00:00:00Z")
    ref = PlatformSource(None, Ref(root))
    engine.commit(Source((ref,)), (NAME,), options)
    (root / "new").write_text("x")
    engine.commit(Source((ref,), "app:1"), ("docker.io/library/app:2",), options)
    _, above = layers(engine, "app:2")
    with engine.content.open(above.digest) as reader:
        data = reader.pread(reader.size, 0)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getnames() == ["new"], "what has not changed is not told for its time"


AMD, ARM = oci.Platform("amd64", "linux"), oci.Platform("arm64", "linux")


def failing(root: Path) -> dict[str, tuple[Source, CommitOptions, type[Exception], str]]:
    ref = Ref(root)
    gone = Ref(root / "nowhere")
    changes = replace(OPTIONS, instructions=("RUN x",))
    return {
        "no directory": (
            Source((PlatformSource(None, gone),)),
            OPTIONS,
            FileNotFoundError,
            "nowhere",
        ),
        "a file": (
            Source((PlatformSource(None, Ref(root / "etc/motd")),)),
            OPTIONS,
            NotADirectoryError,
            "motd",
        ),
        "no platforms": (
            Source((PlatformSource(None, ref), PlatformSource(ARM, ref))),
            OPTIONS,
            InvalidSource,
            "missing platforms mapping",
        ),
        "a platform twice": (
            Source((PlatformSource(ARM, ref), PlatformSource(ARM, ref))),
            OPTIONS,
            InvalidSource,
            "arm64",
        ),
        "one of two directories": (
            Source((PlatformSource(AMD, ref), PlatformSource(ARM, gone))),
            OPTIONS,
            FileNotFoundError,
            "nowhere",
        ),
        "no refs": (Source(()), OPTIONS, InvalidSource, "at least one"),
        "no base": (Source((PlatformSource(None, ref),), "nope:1"), OPTIONS, NotFound, "nope:1"),
        "no such instruction": (
            Source((PlatformSource(None, ref),)),
            changes,
            InvalidInstruction,
            "RUN x",
        ),
        "a null config": (
            Source((PlatformSource(None, ref, b"null"),)),
            OPTIONS,
            InvalidConfig,
            "null config",
        ),
    }


@pytest.mark.parametrize("name", failing(Path()))
def test_what_fails_leaves_the_store_as_it_was(engine: LocalEngine, root: Path, name: str) -> None:
    commit(engine, root)
    (root / "etc/motd").write_text("changed since then\n")
    before = picture_of_store(engine)
    source, options, kind, words = failing(root)[name]
    with pytest.raises(kind, match=words):
        engine.commit(source, ("docker.io/library/new:1",), options)
    assert picture_of_store(engine) == before


def test_a_file_that_changes_meanwhile(
    engine: LocalEngine, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(path: Path) -> object:
        tree = scan(path)
        (path / "etc/motd").write_text("something else")
        return tree

    monkeypatch.setattr("engine.commit.platform_images.directory.scan", changed)
    before = picture_of_store(engine)
    with pytest.raises(ChangedFile, match="motd"):
        commit(engine, root)
    assert picture_of_store(engine) == before


def test_an_upper_directory_that_needs_its_lower_ones(engine: LocalEngine, tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    (upper / "moved").mkdir(parents=True)
    os.setxattr(upper / "moved", "user.overlay.redirect", b"/old")
    with pytest.raises(ForeignUpper, match=r"moved: has the attribute overlay\.redirect"):
        engine.commit(Source((PlatformSource(None, Upper(upper)),)), (NAME,), OPTIONS)


@pytest.mark.parametrize("text", ["UPPER", "a@sha256:" + "0" * 64, "a,b:c:d"])
def test_names_that_no_image_can_be_given(text: str) -> None:
    with pytest.raises(InvalidReference):
        parse_names(text)


@pytest.mark.parametrize("kind", ["uncompressed", "gzip", "zstd"])
def test_a_commit_keeps_the_table_of_its_layer(engine: LocalEngine, root: Path, kind: str) -> None:
    (root / "large").write_bytes(bytes(range(256)) * (20 << 10))
    (root / "larger").write_bytes(random.Random(1).randbytes(5 << 20))
    options = replace(OPTIONS, compression=Compression(kind))
    engine.commit(Source((PlatformSource(None, Ref(root)),)), (NAME,), options)
    (layer,) = layers(engine)
    data = engine.store.tables.get(layer.digest)
    assert data is not None
    kept = table_codec.load(data)
    with engine.content.open(layer.digest) as reader:
        learnt = learn(reader, layer.digest, ignore).table
    assert kept is not None
    assert [kept.entry(n) for n in range(len(kept))] == [
        learnt.entry(n) for n in range(len(learnt))
    ]
    assert kept.checksums == learnt.checksums
    assert (len(kept.points) > 4) == (kind == "gzip")
    with engine.layers.open(layer.digest) as opened:
        for path in (b"large", b"larger"):
            entry = kept.entry(list(kept.paths).index(path))
            expected = (root / path.decode()).read_bytes()
            assert opened.pread(entry, 100_000, 4 << 20) == expected[4 << 20 :][:100_000]


def waiting(
    monkeypatch: pytest.MonkeyPatch, begun: threading.Event
) -> tuple[RootArchive, list[int]]:
    """An endless tar, of which only a stop of the commit gives more than the beginning; and the
    sizes that were read after it.
    """
    stopped = threading.Event()
    stop = LayerProgress.stop

    def noticed(progress: LayerProgress) -> None:
        stop(progress)
        stopped.set()

    monkeypatch.setattr(LayerProgress, "stop", noticed)
    header = tarfile.TarInfo("endless")
    header.size = 1 << 32
    pieces = iter([header.tobuf()])
    read: list[int] = []

    def read_some(size: int) -> bytes:
        if piece := next(pieces, b""):
            return piece
        begun.set()
        assert stopped.wait(60), "nobody stops the others"
        read.append(size)
        return bytes(size)

    return RootArchive(read_some), read


def test_a_platform_that_fails_stops_the_others(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()
    endless, read = waiting(monkeypatch, begun)

    def failing_read(_: int) -> bytes:
        assert begun.wait(60)
        raise FileNotFoundError("it is gone")

    parts = (
        PlatformSource(AMD, archive=endless),
        PlatformSource(ARM, archive=RootArchive(failing_read)),
    )
    before = picture_of_store(engine)
    with pytest.raises(FileNotFoundError, match="it is gone"):
        engine.commit(Source(parts), (NAME,), OPTIONS)
    assert sum(read) <= 4 * BLOCK
    assert picture_of_store(engine) == before


def test_an_interrupt_stops_all_platforms(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()
    endless, read = waiting(monkeypatch, begun)

    def interrupted(*_: object, **__: object) -> None:
        assert begun.wait(60)
        raise KeyboardInterrupt

    monkeypatch.setattr("concurrent.futures.wait", interrupted)
    parts = (PlatformSource(AMD, archive=endless), PlatformSource(ARM, archive=endless))
    with pytest.raises(KeyboardInterrupt):
        engine.commit(Source(parts), (NAME,), OPTIONS)
    assert sum(read) <= 4 * BLOCK


def stock(engine: LocalEngine, members: bytes) -> None:
    with engine.begin_import() as session:
        session.feed(archives.oci_archive((OddImage(members=members), NAME)))
        session.finish()


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("changes", [(), ("ENV X=1",)])
def test_an_odd_config_is_a_base(engine: LocalEngine, name: str, changes: tuple[str, ...]) -> None:
    stock(engine, ODD[name])
    options = replace(OPTIONS, instructions=changes, epoch=0)
    source = Source((PlatformSource(),), "app:1")
    engine.commit(source, ("docker.io/library/app:2",), options)
    config = engine.details("app:2").raw_config
    env = docker.parse_process(config, "config")["Env"]
    added = ["X=1"] if changes else []
    assert [entry for entry in env if entry] == ["A=b", *added]
    if changes:
        members = go_json.members(config, "config")
        assert "Config" not in members
        assert list(go_json.loads(bytes(members["config"]), "config")).count("env") == 0


def test_members_that_no_instruction_changes_are_kept_as_they_are(engine: LocalEngine) -> None:
    kept = b'"Healthcheck":{"Test":["CMD","x"],"Interval":5},"User":"","x":1e999,"y":{"b":1,"a":[]}'
    stock(engine, b'"config":{"Labels":{"b":"1","a":"2"},%s}' % kept)
    options = replace(OPTIONS, instructions=("ENV X=1",))
    engine.commit(Source((PlatformSource(),), "app:1"), (NAME,), options)
    assert bytes(go_json.members(engine.details("app:1").raw_config, "config")["config"]) == (
        b'{"Env":["X=1"],"Healthcheck":{"Test":["CMD","x"],"Interval":5},'
        b'"Labels":{"a":"2","b":"1"},"x":1e999,"y":{"b":1,"a":[]}}'
    )


@pytest.mark.parametrize("members", [b'"config":{"Env":5}', b'"config":{"Labels":{"k":1}}'])
def test_a_config_that_docker_cannot_read_is_no_base(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch, members: bytes
) -> None:
    with monkeypatch.context() as unchecked:  # as in a store that another program has written
        unchecked.setattr("engine.spec.docker.check_config", lambda *_: None)
        stock(engine, members)
    options = replace(OPTIONS, instructions=("ENV X=1",))
    with pytest.raises(InvalidConfig, match=r"^image config: invalid image config: Expected"):
        engine.commit(Source((PlatformSource(),), "app:1"), (NAME,), options)

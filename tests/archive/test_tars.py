"""Archives behind one another in one stream, and what else may be there."""

import bz2
import gzip
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.archive.import_options import ImportOptions
from engine.archive.importer import Import
from engine.archive.loaded import Loaded
from engine.archive.tars import NextArchive, Tars
from engine.content.blobs import read_blob
from engine.errors import BrokenArchive, EngineError, LimitExceeded
from engine.limits import Limits
from engine.tar.reader import MemberData, MemberStart
from tests import archives
from tests.archives import ImageParts
from tests.local_engine import LocalEngine
from tests.tar import raw_tar

ONE = ImageParts(layers=[archives.layer("one")])
TWO = ImageParts(layers=[archives.layer(), archives.layer("two", b"2" * 100_000)])
FIRST = archives.docker_archive((ONE, ["one:1"]))
SECOND = archives.oci_archive((TWO, "docker.io/library/two:1"))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEngine]:
    """For the whole module: what is loaded again is loaded as before."""
    with LocalEngine(tmp_path_factory.mktemp("tars") / "store") as engine:
        yield engine


def load(session: Import, *pieces: bytes) -> Loaded:
    for piece in pieces:
        session.feed(piece)
    return session.finish()


def names(loaded: Loaded) -> list[str]:
    return [name.rpartition("/")[2] for image in loaded.images for name in image.names]


PAIRS = {
    "as they are": [FIRST, SECOND],
    "turned": [SECOND, FIRST],
    "zeros between them": [FIRST, bytes(1 << 20), SECOND, bytes(99_999)],
    "zeros that are no blocks": [FIRST, bytes(777), SECOND],
    "zeros before them": [bytes(5120), FIRST, SECOND],
    "a single block of zeros before": [bytes(512), FIRST, SECOND],
    "compressed": [gzip.compress(FIRST), gzip.compress(SECOND)],
    "compressed together": [bz2.compress(FIRST + SECOND)],
    "without padding": [FIRST.rstrip(b"\0") + bytes(2048), SECOND],
    "three": [FIRST, SECOND, archives.docker_archive((TWO, ["three:1"]))],
}


@pytest.mark.parametrize("name", PAIRS)
def test_all_archives_of_a_file_are_loaded(engine: LocalEngine, name: str) -> None:
    with engine.begin_import() as session:
        loaded = load(session, *PAIRS[name])
    assert {"one:1", "two:1"} <= set(names(loaded))
    assert len(loaded.images) == (3 if name == "three" else 2)
    assert {image.id for image in loaded.images} == {ONE.id, TWO.id}


def test_an_archive_in_two_tars_is_one(engine: LocalEngine) -> None:
    """As tar -i takes it: the layers in one, the documents in another."""
    layers = archives.tar([("a.tar", ONE.layers[0])])
    items = [{"Config": "c.json", "RepoTags": ["split:1"], "Layers": ["a.tar"]}]
    documents = archives.tar([("c.json", ONE.config), ("manifest.json", archives.to_json(items))])
    with engine.begin_import() as session:
        assert names(load(session, layers, documents)) == ["split:1"]


def test_the_later_of_two_images_has_the_name(engine: LocalEngine) -> None:
    with engine.begin_import() as session:
        load(session, FIRST, archives.docker_archive((TWO, ["one:1"])))
    target = engine.images.get("docker.io/library/one:1").target
    assert TWO.id.encode() in read_blob(engine.content, target.digest)


def test_a_member_of_the_first_is_not_taken_for_the_second(engine: LocalEngine) -> None:
    items = [{"Config": f"{ONE.id[7:]}.json", "RepoTags": ["x:1"], "Layers": []}]
    with engine.begin_import() as session, pytest.raises(BrokenArchive, match="is missing from"):
        load(session, FIRST, archives.tar([("manifest.json", archives.to_json(items))]))


def test_a_flush_between_two_archives(engine: LocalEngine) -> None:
    with engine.begin_import() as session:
        assert names(load(session, FIRST)) == ["one:1"]
        assert session.ended
        with pytest.raises(BrokenArchive, match="truncated"):
            load(session, SECOND[:2000])
        assert names(load(session, SECOND[2000:])) == ["one:1", "two:1"]
        assert session.ended


BEHIND = {
    "text": (b"-- \nsent from my phone\n", "has text (-- sent from my phone) behind its end"),
    "noise": (bytes(range(250, 0, -1)) * 300, "has something that begins with '\\xfa\\xf9"),
    "one byte": (b"\x01", "has something that begins with '\\x01' behind its end"),
    "gzip": (gzip.compress(FIRST), "has a gzip stream behind its end"),
    "zip": (b"PK\3\4" * 100, "has a zip archive behind its end"),
    "another tar": (
        archives.tar([("README", b"x")]),
        "that is no image archive behind its end: take",
    ),
    "a root": (archives.tar([("etc/passwd", b"x")]), "has the tar archive of a root file system"),
    "half an archive": (SECOND[:40_000], "truncated"),
    "half a header": (SECOND[:300], "behind its end"),
    "a bad archive": (SECOND.replace(b"2" * 100, b"3" * 100), "digest"),
}


@pytest.mark.parametrize("zeros", [0, 1000, 70_000])
@pytest.mark.parametrize("name", BEHIND)
def test_what_is_behind_the_end_is_told(engine: LocalEngine, name: str, zeros: int) -> None:
    data, says = BEHIND[name]
    with engine.begin_import() as session, pytest.raises(EngineError) as raised:
        load(session, FIRST, bytes(zeros), data)
    assert says in str(raised.value)


def test_the_limits_hold_for_all_archives_together(engine: LocalEngine) -> None:
    for limits, says in (
        (Limits(max_members=8), "members"),
        (Limits(max_images=3), "images"),
        (Limits(max_table_bytes=2500), "table"),
    ):
        with (
            engine.begin_import(ImportOptions(limits)) as session,
            pytest.raises(LimitExceeded, match=says),
        ):
            load(session, *[archives.docker_archive((ONE, [f"n:{n}"])) for n in range(5)])


def test_there_are_not_too_many_archives() -> None:
    tars = Tars(Limits())
    data = raw_tar.member(b"f") + raw_tar.END
    assert sum(isinstance(event, NextArchive) for event in tars.feed(memoryview(data * 100))) == 99
    with pytest.raises(LimitExceeded, match="archives behind one another: limit 100"):
        list(tars.feed(memoryview(data)))


MEMBERS = st.lists(
    st.tuples(st.sampled_from("abc"), st.binary(max_size=600)), min_size=1, max_size=3
)
STREAMS = st.lists(st.tuples(MEMBERS, st.integers(0, 1500)), min_size=1, max_size=4)


@given(STREAMS, st.lists(st.integers(1, 3000), min_size=1, max_size=5))
def test_a_stream_is_read_alike_however_it_comes(
    stream: list[tuple[list[tuple[str, bytes]], int]], sizes: Sequence[int]
) -> None:
    data, expected = b"", []
    for members, zeros in stream:
        data += b"".join(raw_tar.member(n.encode(), d) for n, d in members) + raw_tar.END
        data += bytes(zeros)
        expected.append(members)
    tars, position, turn = Tars(Limits()), 0, 0
    found: list[list[tuple[str, bytes]]] = [[]]
    while position < len(data):
        size = sizes[turn % len(sizes)]
        for event in tars.feed(memoryview(data)[position : position + size]):
            match event:
                case NextArchive():
                    found.append([])
                case MemberStart(member):
                    found[-1].append((member.name, b""))
                case MemberData(piece):
                    name, before = found[-1][-1]
                    found[-1][-1] = name, before + bytes(piece)
        position, turn = position + size, turn + 1
    tars.finish()
    assert tars.ended
    assert found == expected

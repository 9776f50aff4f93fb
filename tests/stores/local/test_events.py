"""What is told of changes to images."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.commit.source import CommitOptions, PlatformSource, Ref, Source
from engine.layouts import combined, selection
from engine.stores.local import events
from engine.stores.local.events import LocalEvents
from engine.stores.records import Event
from tests import archives
from tests.archives import ImageParts
from tests.local_engine import LocalEngine

APP, OTHER = ImageParts(), ImageParts(layers=[archives.layer("other")])
NAME = "docker.io/library/app:1"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    with LocalEngine(tmp_path / "store") as opened:
        yield opened


def load(engine: LocalEngine, *images: tuple[ImageParts, list[str] | None]) -> None:
    with engine.begin_import() as session:
        session.feed(archives.docker_archive(*images))
        session.finish()


def told(engine: LocalEngine, after: int = 0) -> list[tuple[str, str]]:
    return [(event.action, event.name) for event in engine.events.after(after)]


def test_an_image_comes_and_goes(engine: LocalEngine) -> None:
    load(engine, (APP, ["app:1"]))
    engine.tag("app:1", "app:2")
    target = engine.find_one("app:1").target.digest
    engine.write(engine.find("app:1"), combined.Options(fallback=selection.any_complete), len)
    engine.remove("app:1")
    engine.remove("app:2")
    second = "docker.io/library/app:2"
    assert told(engine) == [
        ("load", NAME),
        ("tag", NAME),
        ("tag", second),
        ("save", NAME),
        ("untag", NAME),
        ("untag", second),
        ("delete", ""),
    ]
    assert {event.target for event in engine.events.after()} == {target}


def test_a_tag_that_moves(engine: LocalEngine) -> None:
    load(engine, (APP, ["app:1"]))
    last = engine.events.last()
    load(engine, (APP, ["app:1"]))
    assert told(engine, last) == [("load", NAME)], "it is the same image"
    last = engine.events.last()
    load(engine, (OTHER, ["app:1"]))
    assert told(engine, last) == [("load", NAME), ("tag", NAME)]


def test_without_a_name(engine: LocalEngine) -> None:
    load(engine, (APP, None))
    assert told(engine) == [("load", "")]
    engine.remove(APP.id)
    assert told(engine) == [("load", ""), ("delete", "")]


def test_a_commit(engine: LocalEngine, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    source = Source((PlatformSource(ref=Ref(tmp_path / "root")),))
    engine.commit(source, (NAME,), CommitOptions())
    assert told(engine) == [("commit", NAME), ("tag", NAME)]


def test_what_is_taken_back_is_not_told(engine: LocalEngine) -> None:
    def fail() -> None:
        with engine.database.transaction():
            load(engine, (APP, ["app:1"]))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert told(engine) == []
    assert engine.events.last() == 0


def test_only_the_last_are_kept(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "EVENTS_KEPT", 3)
    log = LocalEvents(engine.database, clock=lambda: 5)
    for number in range(1, 6):
        log.add("tag", f"sha256:{number}")
    assert [event.number for event in log.after()] == [3, 4, 5]
    assert [event.number for event in log.after(4)] == [5]
    assert log.last() == 5


def test_a_line_is_as_docker_writes_it() -> None:
    event = Event(7, 1_700_000_000_123_456_789, "tag", "sha256:0", "docker.io/library/app:1")
    line = event.render()
    assert line.endswith(b"}\n")
    assert json.loads(line) == {
        "Type": "image",
        "Action": "tag",
        "Actor": {"ID": "sha256:0", "Attributes": {"name": "docker.io/library/app:1"}},
        "scope": "local",
        "time": 1_700_000_000,
        "timeNano": 1_700_000_000_123_456_789,
    }


def test_a_failure_is_told_whatever_bytes_are_in_it(engine: LocalEngine) -> None:
    engine.events.add_failure("caf\udce9.tar", "caf\udce9.tar: No space left on device")
    (event,) = engine.events.after()
    assert (event.name, event.error) == ("caf?.tar", "caf?.tar: No space left on device")

"""Tests of changes of names, with changes by others at the same time."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from imgfs.vfs.name_changes import NameChanges
from tests import archives
from tests.archives import ImageParts
from tests.local_engine import LocalEngine

OLD, NEW = ImageParts(), ImageParts(layers=[archives.layer("new")])


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    with LocalEngine(tmp_path / "store") as opened:
        with opened.begin_import() as session:
            session.feed(archives.docker_archive((OLD, ["app:1"]), (NEW, ["new:1"])))
            session.finish()
        yield opened


@pytest.fixture
def before_the_lock(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[], object]], None]:
    """Return a function that lets another's change happen while the next one waits for the lock."""
    begin = engine.store.transaction

    def arrange(change: Callable[[], object]) -> None:
        def changed_first() -> AbstractContextManager[object]:
            monkeypatch.setattr(engine.store, "transaction", begin)
            change()
            return begin()

        monkeypatch.setattr(engine.store, "transaction", changed_first)

    return arrange


def names(engine: LocalEngine) -> dict[str, str]:
    return {image.familiar: image.target.digest for image in engine.images.all()}


def test_a_rename_takes_the_image_that_has_the_name_once_it_holds_the_lock(
    engine: LocalEngine, before_the_lock: Callable[[Callable[[], object]], None]
) -> None:
    old, new = (names(engine)[name] for name in ("app:1", "new:1"))

    def load() -> None:
        engine.tag("new:1", "app:1")
        engine.remove("new:1")

    before_the_lock(load)
    NameChanges(engine.store).rename("app:1", "app:old")
    assert names(engine) == {"app:old": new, old: old}


def test_a_rename_of_a_name_that_goes_meanwhile_is_refused(
    engine: LocalEngine, before_the_lock: Callable[[Callable[[], object]], None]
) -> None:
    before_the_lock(lambda: engine.remove("app:1"))
    with pytest.raises(PermissionError):
        NameChanges(engine.store).rename("app:1", "app:old")
    assert list(names(engine)) == ["new:1"]

"""The engine as a library."""

import io
from pathlib import Path

import pytest

from engine.archive.save import Output
from engine.engine import Engine
from engine.errors import StoreMissing
from engine.layouts import combined
from tests import archives
from tests.archives import ImageParts

APP = archives.docker_archive((ImageParts(layers=[archives.layer("app")]), ["app:1"]))


def test_an_image_goes_in_and_out(tmp_path: Path) -> None:
    saved = io.BytesIO()
    with Engine(tmp_path / "store") as engine:
        with engine.begin_import() as load:
            load.feed(APP)
            load.finish()
        engine.tag("app:1", "app:2")
        assert [image.familiar for image in engine.find("app")] == ["app:1", "app:2"]
        assert engine.details("app:1").config is not None
        engine.save([engine.find_one("app:2")], combined.Options(), Output(saved.write))
        engine.remove("app:1")
    with Engine.open(tmp_path / "store") as engine, engine.begin_import() as load:
        load.feed(saved.getvalue())
        assert [image.names for image in load.finish().images] == [("docker.io/library/app:2",)]
        assert engine.images.count() == 1
        actions = {event.action for event in engine.events.after()}
        assert actions == {"load", "tag", "save", "untag"}


def test_open_makes_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing):
        Engine.open(tmp_path / "store")
    assert not (tmp_path / "store").exists()

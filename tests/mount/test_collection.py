"""Collections of garbage while images are mounted and read."""

import mmap
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.local_engine import LocalEngine
from tests.mounts import IMGFS, Mounted, run
from tests.waiting import wait_until

CONTENT = os.urandom(300_000) * 10
APP = ImageParts(layers=[archives.layer("app", CONTENT)])
OTHER = ImageParts(layers=[archives.layer("other")])
LAYER = archives.digest(APP.layers[0])
ARCHIVE = archives.docker_archive((APP, ["app:1"]))


def stored(mounted: Mounted) -> Path:
    return mounted.store / "blobs" / LAYER.replace(":", "/")


def collect(mounted: Mounted) -> None:
    run(*IMGFS, "--store", mounted.store, "gc")


def test_an_open_blob_stays_readable_after_its_collection(mounted: Mounted) -> None:
    mounted.load(ARCHIVE)
    layer = mounted.path / "app:1" / "blobs" / LAYER.replace(":", "/")
    with (
        layer.open("rb", buffering=0) as reading,
        layer.open("rb") as mapped,
        mmap.mmap(mapped.fileno(), 0, access=mmap.ACCESS_READ) as mapping,
    ):
        start = reading.read(1000)
        run(*IMGFS, "--store", mounted.store, "rm", "app:1")
        collect(mounted)
        assert not stored(mounted).exists()
        rest = b"".join(iter(lambda: reading.read(1 << 16), b""))
        assert start + rest == APP.layers[0]
        assert mapping[:] == APP.layers[0]
    assert mounted.names() == ["import"]


def test_an_open_layer_of_the_docker_layout_stays_readable_after_its_collection(
    mount: Callable[..., Mounted],
) -> None:
    mounted = mount(options=("--layout", "docker"))
    mounted.load(archives.oci_archive((APP, "docker.io/library/app:1"), gzipped=True))
    (layer,) = (mounted.path / "app:1" / "blobs" / "sha256").glob(LAYER.partition(":")[2])
    with layer.open("rb", buffering=0) as reading:
        start = reading.read(1000)
        run(*IMGFS, "--store", mounted.store, "rm", "app:1")
        collect(mounted)
        rest = b"".join(iter(lambda: reading.read(1 << 16), b""))
        assert start + rest == APP.layers[0]


def test_a_collected_image_can_be_loaded_again(mounted: Mounted) -> None:
    mounted.load(ARCHIVE)
    run(*IMGFS, "--store", mounted.store, "rm", "app:1")
    collect(mounted)
    mounted.load(ARCHIVE, "y.tar")
    layer = mounted.path / "app:1" / "blobs" / LAYER.replace(":", "/")
    assert layer.read_bytes() == APP.layers[0]
    assert layer.stat().st_nlink == 1


@pytest.mark.parametrize("options", [("--gc-interval", "0.05s"), ("-o", "gc_interval=0.05")])
def test_a_mount_with_gc_interval_collects_regularly(
    mount: Callable[..., Mounted], options: tuple[str, ...]
) -> None:
    mounted = mount(options=options)
    mounted.load(ARCHIVE)
    mounted.load(archives.docker_archive((OTHER, ["other:1"])), "y.tar")
    run(*IMGFS, "--store", mounted.store, "rm", "app:1")
    wait_until(lambda: not stored(mounted).exists(), "the layer is collected")
    with LocalEngine(mounted.store) as engine:
        wait_until(
            lambda: set(engine.content.files()) == set(engine.blobs_of(engine.images.all())),
            "only what other:1 needs is left",
        )
        assert list(engine.check()) == []
    events = mounted.path / ".imgfs" / "events"
    wait_until(lambda: b'"Action":"gc"' in events.read_bytes(), "the event is written")

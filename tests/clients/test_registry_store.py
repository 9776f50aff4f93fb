"""A mount of a registry, and skopeo at the same registry."""

import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from engine.stores.open import open_store
from tests.archives import ImageParts, compressed, digest, docker_archive, layer, tar
from tests.clients.client import Client, shell
from tests.clients.registries import mount_registry
from tests.local_engine import LocalEngine
from tests.mounts import Mounted, run
from tests.stores.registry.proxy import BLOB, Proxy, proxy
from tests.stores.registry.server import lacking, load_into, registry
from tests.waiting import wait_until

NUMBERS = b"".join(n.to_bytes(4, "big") for n in range(1 << 20))
APP = ImageParts(layers=(layer("numbers", NUMBERS), layer("etc/small", b"small\n")))
BLOB_FILE = f"blobs/sha256/{digest(APP.layers[0])[7:]}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the directory of a registry."""
    if reason := lacking():
        pytest.skip(reason)
    path = tmp_path / "registry"
    path.mkdir()
    return path


@pytest.fixture
def host(root: Path) -> Iterator[str]:
    with registry(root) as running:
        yield running


@pytest.fixture
def before(host: str, tmp_path: Path) -> Iterator[Proxy]:
    """Return a proxy before a registry that has the image app:1."""
    load_into(f"registry://{host}?cache={tmp_path}/pushed", APP)
    with proxy(host) as found:
        yield found


@pytest.fixture
def shown(before: Proxy, mount: Callable[..., Mounted], tmp_path: Path) -> Mounted:
    return mount_registry(mount, f"registry://{before.host}?cache={tmp_path}/cache")


def is_cached(cache: Path, digest: str) -> bool:
    with LocalEngine(cache) as engine:
        return engine.content.exists(digest)


def size_below(directory: Path) -> int:
    sizes = [0]
    for file in directory.rglob("*"):
        with suppress(FileNotFoundError):  # evicted meanwhile
            sizes.append(file.stat().st_size)
    return sum(sizes)


def test_an_image_directory_is_an_archive(
    shown: Mounted, before: Proxy, skopeo: Client, tmp_path: Path
) -> None:
    assert shown.names() == [before.host, "import"]
    assert shown.names(before.host) == ["app:1"]
    assert (shown / "app:1" / BLOB_FILE).read_bytes() == APP.layers[0]
    assert (shown / "rootfs/app:1/etc/small").read_bytes() == b"small\n"
    assert sorted(os.listdir(shown / "rootfs/app:1")) == ["etc", "numbers"]
    archive = tmp_path / "app.tar"
    shell(f"tar -C {shown / 'app:1'} -c . > {archive}")
    assert json.loads(skopeo("inspect", f"oci-archive:{archive}"))["Digest"] == digest(
        APP.manifest()
    )
    config = skopeo.output("inspect", "--config", "--raw", f"docker-archive:{archive}")
    assert config == APP.config


def test_what_is_copied_into_import_is_pushed(
    shown: Mounted, before: Proxy, skopeo: Client
) -> None:
    def inspect(name: str) -> str:
        at = f"docker://{before.host}/{name}"
        return str(json.loads(skopeo("inspect", "--tls-verify=false", at))["Digest"])

    def tags() -> list[str]:
        at = f"docker://{before.host}/new"
        return sorted(json.loads(skopeo("list-tags", "--tls-verify=false", at))["Tags"])

    shown.load(docker_archive((ImageParts(), ["new:1"])))
    assert shown.report()["status"] == "loaded"
    pushed = inspect("new:1")
    namespace = shown / before.host
    os.rename(namespace / "new:1", namespace / "new:2")
    os.symlink("new:2", namespace / "new:latest")
    assert tags() == ["2", "latest"]
    assert {inspect("new:2"), inspect("new:latest")} == {pushed}
    (namespace / "new:2").rmdir()
    assert tags() == ["latest"]
    assert (namespace / "new:latest/index.json").exists()


def test_eight_readers_make_one_download(shown: Mounted, before: Proxy) -> None:
    def read(_: int) -> bytes:
        return (shown / "app:1" / BLOB_FILE).read_bytes()

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(read, range(8))) == [APP.layers[0]] * 8
    (once,) = before.matching(f"{BLOB}:{BLOB_FILE[-64:]}")
    assert (once.status, once.size) == (200, len(APP.layers[0]))


def test_without_the_registry_what_is_cached_is_there_at_once(
    root: Path, mount: Callable[..., Mounted], tmp_path: Path
) -> None:
    def unreachable(path: Path) -> None:
        with pytest.raises(OSError, match="No route to host"):
            path.read_bytes()

    with registry(root) as host:
        load_into(f"registry://{host}?cache={tmp_path}/pushed", APP)
        shown = mount_registry(mount, f"registry://{host}?cache={tmp_path}/cache")
        assert (shown / "app:1" / BLOB_FILE).read_bytes() == APP.layers[0]
        cached = partial(is_cached, tmp_path / "cache", digest(APP.layers[0]))
        wait_until(cached, "the blob is in the cache")
    again = mount(f"registry://{host}?cache={tmp_path}/cache", at="again")
    for each in (shown, again):
        assert each.names(host) == ["app:1"]
        assert (each / host / "app:1" / BLOB_FILE).read_bytes() == APP.layers[0]
        unreachable(each / "app:1/blobs/sha256" / digest(APP.layers[1])[7:])
        unreachable(each / "other:1")


def test_what_was_read_least_recently_leaves_the_cache(
    host: str, mount: Callable[..., Mounted], tmp_path: Path
) -> None:
    images = {name: ImageParts(layers=(layer(name, NUMBERS),)) for name in "abcd"}
    for name, image in images.items():
        load_into(
            f"registry://{host}?cache={tmp_path}/pushed", image, f"docker.io/library/{name}:1"
        )
    options = ("--cache", str(tmp_path / "cache"), "--cache-size", "13M")
    with proxy(host) as before:
        names = tuple(f"{name}:1" for name in images)
        shown = mount_registry(mount, f"registry://{before.host}", options=options, names=names)

        def path(name: str) -> Path:
            return shown / f"{name}:1/blobs/sha256" / digest(images[name].layers[0])[7:]

        def is_stored(name: str) -> bool:
            return is_cached(tmp_path / "cache", digest(images[name].layers[0]))

        def downloads() -> list[str]:
            whole = {f"sha256:{path(name).name}": name for name in images}
            found = (whole.get(each.path.rpartition("/")[2]) for each in before.matching(BLOB))
            return [name for name in found if name]

        with path("b").open("rb") as kept:
            for name in "abcacd":
                assert path(name).read_bytes() == images[name].layers[0]
                wait_until(partial(is_stored, name), "the blob is in the cache")
            assert downloads() == ["a", "b", "c", "d"]
            assert kept.read() == images["b"].layers[0]
            wait_until(lambda: not is_stored("b"), "what was read least recently is not")
        for name in "acd":
            assert path(name).read_bytes() == images[name].layers[0]
        assert downloads() == ["a", "b", "c", "d"]
        with path("b").open("rb") as again:
            os.posix_fadvise(again.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            assert again.read() == images["b"].layers[0]
        assert downloads() == ["a", "b", "c", "d", "b"]
    wait_until(lambda: size_below(tmp_path / "cache/blobs") < 14 << 20, "the cache is small")


def test_one_file_of_an_evicted_layer_is_read_by_a_range(
    host: str, mount: Callable[..., Mounted], tmp_path: Path
) -> None:
    noise = random.Random(1).randbytes(40 << 20)  # of less, these parts would fetch the whole
    image = ImageParts(layers=(tar([("first", b"1\n"), ("noise", noise), ("last", b"2\n")]),))
    stored = digest(compressed(image.layers[0]))
    load_into(f"registry://{host}?cache={tmp_path}/pushed", image, gzipped=True)
    with proxy(host) as before:
        url = f"registry://{before.host}?cache={tmp_path}/cache"
        shown = mount_registry(mount, url)
        assert (shown / "rootfs/app:1/last").read_bytes() == b"2\n"
        wait_until(lambda: is_cached(tmp_path / "cache", stored), "the layer is in the cache")
        with open_store(url) as store:
            store.content.delete(stored)
        before.seen.clear()
        again = mount_registry(mount, url, at="again")
        root = again / "rootfs/app:1"
        assert sorted(os.listdir(root)) == ["first", "last", "noise"]
        assert (root / "last").read_bytes() == b"2\n"
        assert (root / "first").read_bytes() == b"1\n"
        asked = before.matching(f"{BLOB}:{stored[7:]}")
        assert {each.status for each in asked} == {206}
        assert sum(each.size for each in asked) <= 5 << 20  # points are 4 MiB apart


def test_a_blob_is_opened_again_while_its_first_reader_has_it(
    shown: Mounted, tmp_path: Path
) -> None:
    path = shown / "app:1" / BLOB_FILE
    with path.open("rb") as first:
        assert first.read() == APP.layers[0]
        stored = tmp_path / "cache" / BLOB_FILE
        wait_until(stored.exists, "the blob is in the cache")
        for _ in range(3):
            assert path.read_bytes() == APP.layers[0]
        first.seek(0)
        assert first.read() == APP.layers[0]


def test_a_list_shows_at_once_what_a_command_has_changed(
    shown: Mounted, before: Proxy, tmp_path: Path
) -> None:
    url = f"registry://{before.host}?cache={tmp_path}/cache"

    def imgfs(*words: str) -> None:
        run(sys.executable, "-m", "imgfs", "--store", url, *words)

    assert shown.names(before.host) == ["app:1"]
    imgfs("tag", "app:1", "app:new")
    assert shown.names(before.host) == ["app:1", "app:new"]
    imgfs("rm", "app:1")
    assert shown.names(before.host) == ["app:new"]


def test_a_directory_by_digest_is_neither_moved_nor_removed(shown: Mounted, before: Proxy) -> None:
    path = shown / before.host / f"app@{digest(APP.manifest())}"
    assert (path / BLOB_FILE).read_bytes() == APP.layers[0]
    assert (shown / f"app@{digest(APP.manifest())}" / "index.json").exists()
    with pytest.raises(PermissionError):
        path.rename(shown / before.host / "app:new")
    with pytest.raises(PermissionError):
        path.rmdir()
    shutil.rmtree(path, ignore_errors=True)
    assert shown.names(before.host) == ["app:1"]
    assert not before.matching("DELETE")
    assert (path / BLOB_FILE).read_bytes() == APP.layers[0]

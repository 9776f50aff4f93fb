"""The registry store over a real registry."""

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.archive.import_options import ImportOptions
from engine.archive.importer import Import
from engine.content.blobs import read_blob
from engine.errors import AccessDenied, InvalidReference, Unreachable
from engine.names import remove, tag
from engine.stores.open import open_store
from engine.stores.protocols import Store
from tests.archives import ImageParts, digest, layer, multi_platform, oci_archive
from tests.stores.registry.server import basic, lacking, registry

AMD64, ARM64 = ImageParts(), ImageParts(architecture="arm64")
LARGE = ImageParts(layers=(layer("large", bytes(range(256)) * 4096), layer()))


@pytest.fixture
def host(tmp_path: Path) -> Iterator[str]:
    if reason := lacking():
        pytest.skip(reason)
    directory = tmp_path / "registry"
    directory.mkdir()
    with registry(directory) as running:
        yield running


def opened(host: str, cache: Path, prefix: str = "") -> Store:
    return open_store(f"registry://{host}{prefix}?cache={cache}")


def load(store: Store, name: str | None = "docker.io/library/app:1") -> None:
    with Import(store, ImportOptions()) as importing:
        importing.feed(oci_archive((LARGE, name)))
        importing.finish()


def test_what_is_loaded_is_pushed_and_another_cache_reads_it(host: str, tmp_path: Path) -> None:
    with opened(host, tmp_path / "a") as store:
        load(store)
    with opened(host, tmp_path / "b") as store:
        (image,) = store.images.all()
        assert image.name == f"{host}/app:1"
        assert [name for name, _ in store.images.listed("")] == [host]
        assert [name for name, _ in store.images.listed(f"{host}/")] == ["app:1"]
        for path in ("app:1", f"{host}/app:1"):
            place = store.images.place_at(path)
            assert place is not None
            assert place.name == image.name
        assert store.images.place_at("app:2") is None
        for data in LARGE.layers:
            digest = next(
                d
                for d in store.images.summary(image.target.digest).blobs
                if store.content.sizes([d])[d] == len(data)
            )
            assert read_blob(store.content, digest) == data


def test_eight_readers_make_one_ingest(host: str, tmp_path: Path) -> None:
    with opened(host, tmp_path / "a") as store:
        load(store)
    with opened(host, tmp_path / "b") as store:
        (image,) = store.images.all()
        digest = max(
            store.content.sizes(store.images.summary(image.target.digest).blobs).items(),
            key=lambda item: item[1],
        )[0]
        with ThreadPoolExecutor(8) as threads:
            read = list(threads.map(lambda _: read_blob(store.content, digest), range(8)))
        assert read == [LARGE.layers[0]] * 8


def test_tags_come_and_go(host: str, tmp_path: Path) -> None:
    with opened(host, tmp_path / "a") as store:
        load(store)
        tag(store, "app:1", "app:2")
        remove(store, "app:1")
    with opened(host, tmp_path / "b") as store:
        assert [image.name for image in store.images.all()] == [f"{host}/app:2"]


def test_a_prefix_is_the_start_of_every_name(host: str, tmp_path: Path) -> None:
    with opened(host, tmp_path / "a", "/team") as store:
        with pytest.raises(InvalidReference, match="needs a name"):
            load(store, None)
        load(store)
        assert [image.name for image in store.images.all()] == [f"{host}/team/app:1"]
        with pytest.raises(InvalidReference, match="expected a name of the registry"):
            load(store, "quay.io/team/app:1")


def test_what_is_cached_needs_no_registry(tmp_path: Path) -> None:
    if reason := lacking():
        pytest.skip(reason)
    (tmp_path / "registry").mkdir()
    with registry(tmp_path / "registry") as host, opened(host, tmp_path / "a") as store:
        load(store)
    with opened(host, tmp_path / "a") as store:
        (image,) = store.images.all()
        for digest in store.images.summary(image.target.digest).blobs:
            read_blob(store.content, digest)
    with opened(host, tmp_path / "b") as store, pytest.raises(Unreachable, match="does not answer"):
        store.images.find(f"{host}/app:1")


def test_credentials_of_docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := lacking():
        pytest.skip(reason)
    (tmp_path / "registry").mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    with registry(tmp_path / "registry", basic(tmp_path)) as host:
        refused = opened(host, tmp_path / "a")
        with refused as store, pytest.raises(AccessDenied, match="docker or podman login"):
            store.images.find(f"{host}/app:1")
        auth = base64.b64encode(b"u:secret").decode()
        file = json.dumps({"auths": {host: {"auth": auth}}})
        (tmp_path / "config.json").write_text(file)
        with opened(host, tmp_path / "b") as store:
            load(store)
            assert store.images.find(f"{host}/app:1") is not None


def test_a_local_store_imports_no_http_client(tmp_path: Path) -> None:
    program = (
        "import sys; from engine.stores.open import create_store;"
        f"create_store({str(tmp_path / 'store')!r}).close();"
        "sys.exit('urllib3' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_commands_on_a_registry(host: str, tmp_path: Path) -> None:
    url = f"registry://{host}?cache={tmp_path}/cache"
    with opened(host, tmp_path / "cache") as store:
        load(store)

    def imgfs(*words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "imgfs", "--store", url, *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    info = json.loads(imgfs("info", "--format", "json").stdout)
    assert (info["store"], info["images"]) == (url, 1)
    for word in ("fsck", "gc"):
        done = imgfs(word)
        assert done.returncode == 1
        assert done.stderr.startswith(f"imgfs: {url}: ")
        assert done.stderr.count("\n") == 1


def test_a_registry_that_has_lost_its_blobs_gets_them_again(host: str, tmp_path: Path) -> None:
    with opened(host, tmp_path / "cache") as store:
        load(store)
        for blob in (tmp_path / "registry/data").rglob("*/_layers/sha256/*"):
            shutil.rmtree(blob)
        load(store, "docker.io/library/app:2")
    with opened(host, tmp_path / "other") as store:
        image = store.images.get(f"{host}/app:2")
        assert read_blob(store.content, digest(LARGE.layers[0])) == LARGE.layers[0]
        assert image.target.digest == digest(LARGE.manifest())


def test_many_indexes_are_looked_up_at_once(host: str, tmp_path: Path) -> None:
    """More than there are threads, each with manifests that are fetched concurrently."""
    with opened(host, tmp_path / "a") as store:
        with Import(store, ImportOptions()) as importing:
            importing.feed(multi_platform("docker.io/library/app:1", [AMD64, ARM64]))
            importing.finish()
        for number in range(2, 13):
            tag(store, "app:1", f"app:{number}")
    with opened(host, tmp_path / "b") as store:
        assert len(store.images.all(f"{host}/app")) == 12


@pytest.mark.parametrize("change", ["tag", "tag onto", "load onto", "remove"])
def test_an_index_that_is_new_to_the_cache_is_changed_at_once(
    host: str, tmp_path: Path, change: str
) -> None:
    """Its manifests are fetched by threads that need the lock of the cache."""
    with opened(host, tmp_path / "a") as store, Import(store, ImportOptions()) as importing:
        importing.feed(multi_platform("docker.io/library/app:1", [AMD64, ARM64]))
        importing.finish()
    with opened(host, tmp_path / "b") as store:
        if change == "tag":
            tag(store, "app:1", "app:2")
            names = [image.name for image in store.images.all()]
            assert names == [f"{host}/app:1", f"{host}/app:2"]
        elif change == "tag onto":
            load(store, "docker.io/library/app:2")
            image = tag(store, "app:2", "app:1")
            assert [found.target for found in store.images.all()] == [image.target] * 2
        elif change == "load onto":
            load(store)
            (found,) = store.images.all()
            assert len(store.images.manifests(found.target.digest)) == 1
        else:
            assert [image.name for image in remove(store, "app:1")] == [f"{host}/app:1"]

"""Passwords, tokens and signed addresses are shown nowhere; where credentials come from."""

import base64
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.content.blobs import read_blob
from engine.errors import EngineError, Unreachable
from engine.stores.open import open_store
from tests.archives import ImageParts, digest, docker_archive
from tests.mounts import IMGFS, Mounted
from tests.stores.registry.proxy import proxy
from tests.stores.registry.server import basic, lacking, load_into, registry

IMAGE = ImageParts()
PASSWORD = "secret"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    if reason := lacking():
        pytest.skip(reason)
    (tmp_path / "registry").mkdir()
    return tmp_path / "registry"


@pytest.fixture
def host(root: Path) -> Iterator[str]:
    """Run a registry that asks for a user and a password."""
    with registry(root, basic(root)) as running:
        yield running


def credentials(host: str, password: str = PASSWORD) -> str:
    auth = base64.b64encode(f"u:{password}".encode()).decode()
    return json.dumps({"auths": {host: {"auth": auth}}})


@pytest.mark.parametrize(
    ("variable", "file"),
    [
        ("REGISTRY_AUTH_FILE", "login.json"),
        ("XDG_RUNTIME_DIR", "containers/auth.json"),
        ("XDG_CONFIG_HOME", "containers/auth.json"),
        ("DOCKER_CONFIG", "config.json"),
    ],
)
def test_credentials_are_those_of_podman_and_docker(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, file: str
) -> None:
    directory = tmp_path / "credentials"
    path = directory / file
    path.parent.mkdir(parents=True)
    path.write_text(credentials(host))
    monkeypatch.setenv(variable, str(path if variable == "REGISTRY_AUTH_FILE" else directory))
    url = f"registry://{host}?cache={tmp_path}/cache"
    load_into(url, IMAGE)
    with open_store(url.replace("/cache", "/more")) as store:
        assert store.images.get(f"{host}/app:1").target.digest == digest(IMAGE.manifest())


def test_podman_logs_in(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (podman := shutil.which("skopeo")):
        pytest.skip("skopeo is not installed")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    command = [podman, "login", "--tls-verify=false", "-u", "u", "--password-stdin", host]
    subprocess.run(command, input=PASSWORD.encode(), check=True, capture_output=True)
    load_into(f"registry://{host}?cache={tmp_path}/cache", IMAGE)


@pytest.mark.parametrize("password", [PASSWORD, f"not the {PASSWORD}"], ids=["right", "wrong"])
def test_passwords_are_shown_nowhere(
    host: str,
    home: Path,
    mount: Callable[..., Mounted],
    tmp_path: Path,
    password: str,
) -> None:
    (home / ".docker").mkdir()
    (home / ".docker/config.json").write_text(credentials(host, password))
    secrets = (password.encode(), credentials(host, password).split('"')[-2].encode())
    url = f"registry://{host}?cache={tmp_path}/cache"
    shown = mount(url)
    try:
        shown.load(docker_archive((IMAGE, ["app:1"])))
    except PermissionError:
        assert password != PASSWORD
    command = [*IMGFS, "--store", url]
    said = b""
    for words in (("images",), ("inspect", "app:1"), ("inspect", "no:1"), ("rm", "no:1")):
        done = subprocess.run([*command, *words], capture_output=True, check=False)
        said += done.stdout + done.stderr
    process = Path(f"/proc/{shown.pid}")
    said += (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    files = [each for each in (tmp_path / "cache").rglob("*") if each.is_file()]
    files += (shown / ".imgfs/status.json", *(shown / ".imgfs/imports").iterdir())
    said += b"".join(each.read_bytes() for each in files)
    assert [secret for secret in secrets if secret in said] == []
    assert b"Traceback" not in said


def test_signed_addresses_are_not_in_errors(root: Path, tmp_path: Path) -> None:
    with registry(root) as host, proxy(host) as between:
        url = f"registry://{between.host}?cache={tmp_path}"
        load_into(f"{url}/cache", IMAGE)
        between.faults = ["signed"] * 9
        with open_store(f"{url}/more") as store, pytest.raises(Unreachable) as caught:
            read_blob(
                store.content,
                store.images.summary(store.images.get(f"{between.host}/app:1").target.digest).blobs[
                    0
                ],
            )
    assert PASSWORD not in str(caught.value)


def test_a_proxy_of_the_environment_is_used(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with registry(root) as host, proxy(host) as between:
        monkeypatch.setenv("http_proxy", f"http://u:{PASSWORD}@{between.host}")
        load_into(f"registry+http://registry.example?cache={tmp_path}/cache", IMAGE)
        assert between.matching("PUT .*/v2/app/manifests/1")
        between.seen.clear()
        monkeypatch.setenv("no_proxy", "127.0.0.1,other.example")
        with open_store(f"registry://{host}?cache={tmp_path}/more") as store:
            assert store.images.get(f"{host}/app:1").target.digest == digest(IMAGE.manifest())
        assert between.seen == []


def test_a_proxy_that_is_not_there_is_an_error_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://u:{PASSWORD}@127.0.0.1:1")
    store = open_store(f"registry+http://registry.example?cache={tmp_path}/cache")
    with store, pytest.raises(EngineError) as caught:
        store.images.get("registry.example/app:1")
    assert PASSWORD not in str(caught.value)

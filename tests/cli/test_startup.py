"""The modules that a command imports before it works; each one delays its start."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import archives
from tests.archives import ImageParts

APP = "docker.io/library/app:1"
ARCHIVE = archives.oci_archive((ImageParts(layers=[archives.layer()]), APP))

MOUNTS = {"pyfuse3", "trio", "asyncio", "ssl"}
PRINTS = {"rich", "logging", "importlib.metadata", "email", "platformdirs", "opentelemetry"}
CODECS = {"isal", "lz4", "zlib_ng", "backports.zstd", "compression.zstd", "bz2", "lzma"}
PROCESSES = {"subprocess", "multiprocessing", "concurrent.futures", "ctypes", "tempfile", "secrets"}
TYPES = {"inspect", "dataclasses"}
if sys.version_info < (3, 14):  # its annotationlib, which msgspec needs, imports this
    TYPES.add("ast")
OTHER_STORES = {"grpc", "google", "urllib3", "engine.stores.containerd", "engine.stores.registry"}
NEVER = MOUNTS | PRINTS | CODECS | PROCESSES | TYPES | OTHER_STORES | {"shutil", "difflib"}
CONTENT = {
    "hashlib",
    "engine.stores.local.ingests",
    "engine.graph",
    "engine.layouts",
    "engine.archive",
}
DOCUMENTS = {"json", "engine.spec.oci", "engine.spec.go_json", "engine.spec.platforms"}


@pytest.fixture
def imported(store: Path) -> Callable[..., set[str]]:
    """Return the modules that a command imports, with those of Python's start.
    typing_extensions, which msgspec imports if present, is hidden: only development tools install
    it.
    """
    program = (
        "import sys; sys.modules['typing_extensions'] = None\n"
        "from imgfs.__main__ import main; main()"
    )
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("COVERAGE", "OTEL"))}

    def run(*arguments: str | Path) -> set[str]:
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", program, "--store", store, *arguments],
            env=variables,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=True,
        )
        return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}

    return run


@pytest.mark.parametrize(
    ("command", "needless"),
    [
        (("images",), NEVER | CONTENT | DOCUMENTS),
        (("images", "app"), NEVER | CONTENT | DOCUMENTS),
        (("tag", "app:1", "app:2"), NEVER | CONTENT),
        (("rm", "app:1"), NEVER | CONTENT),
        (("events", "--since", "0", "--until", "0s"), NEVER | CONTENT),
        (("inspect", "app:1"), NEVER | {"engine.stores.local.ingests", "engine.archive"}),
        (("history", "app:1"), NEVER | {"engine.stores.local.ingests", "engine.archive"}),
        (
            ("gc",),
            NEVER
            | {"engine.graph", "engine.layouts", "engine.archive", "engine.stores.local.fsck"},
        ),
        (("save", "-o", os.devnull, "app:1"), NEVER | {"engine.layouts.docker_save"}),
    ],
    ids=lambda value: "-".join(value[:2]) if isinstance(value, tuple) else "",
)
def test_a_command_imports_only_what_it_needs(
    imported: Callable[..., set[str]],
    stock: Callable[..., None],
    command: tuple[str, ...],
    needless: set[str],
) -> None:
    stock(ARCHIVE)
    found = imported(*command)
    assert {"argparse", "engine.stores.local.store"} <= found
    assert not found & needless


def test_plain_layers_are_loaded_without_a_decompressor(
    imported: Callable[..., set[str]], tmp_path: Path
) -> None:
    archive = tmp_path / "app.tar"
    archive.write_bytes(ARCHIVE)
    found = imported("load", "-i", archive)
    assert not found & (MOUNTS | CODECS | OTHER_STORES | {"rich", "ctypes", "secrets"})


def test_garbage_is_collected_only_when_a_command_runs(store: Path) -> None:
    program = (
        "import gc, sys; gc.disable(); from imgfs import cli\n"
        "assert cli.run(['--store', sys.argv[1], 'images']) == 0\n"
        "assert gc.isenabled() and gc.get_freeze_count()"
    )
    subprocess.run([sys.executable, "-c", program, store], check=True, stdout=subprocess.DEVNULL)


def test_a_commit_imports_only_what_it_needs(
    imported: Callable[..., set[str]], tmp_path: Path
) -> None:
    (tmp_path / "root").mkdir()
    found = imported("commit", "-q", tmp_path / "root", "app:1")
    assert "isal" in found
    assert not found & (MOUNTS | PRINTS | PROCESSES | OTHER_STORES)

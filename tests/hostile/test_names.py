"""Images that load, with whatever may be written in them: no terminal and no path sees it raw."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import archives
from tests.archives import ImageParts, descriptor, to_json
from tests.cli.command import Command
from tests.hostile.case import NAME, PLAIN, REF, index, oci
from tests.hostile.documents import BAD_NAMES, ESCAPES
from tests.mounts import Mounted

RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters but the newline, and what turns text around."""
DEEP: Any = ESCAPES
for _ in range(150):
    DEEP = [DEEP]
PARTS = ImageParts(
    architecture=f"amd64{ESCAPES}/../..",
    os=f"lin{ESCAPES}",
    extra={
        "author": ESCAPES,
        "variant": f"../{ESCAPES}",
        "os.version": ESCAPES,
        "config": {
            "Cmd": [ESCAPES],
            "Labels": {ESCAPES: ESCAPES},
            "User": "../..",
            ESCAPES: ESCAPES,
            "deep": DEEP,
        },
        "history": [{"created_by": ESCAPES, "comment": ESCAPES, "author": ESCAPES}],
    },
)
PLATFORM = {"os": ESCAPES, "architecture": "../..", "variant": f"{ESCAPES}\0", "os.version": "/"}


def archive() -> bytes:
    """One image under a good name, and under bad ones; an index with platforms that are none."""
    document = to_json(
        {
            "schemaVersion": 2,
            "config": descriptor(PARTS.config, archives.OCI_CONFIG, annotations={"a": ESCAPES}),
            "layers": [descriptor(PLAIN, archives.OCI_LAYER, urls=[ESCAPES])],
            "annotations": {ESCAPES: ESCAPES},
        }
    )
    image = descriptor(document, archives.OCI_MANIFEST)
    several = to_json(index(image | {"platform": PLATFORM, "annotations": {REF: ESCAPES}}))
    entries = [image | {"annotations": {NAME: "docker.io/library/app:1", ESCAPES: ESCAPES}}]
    entries += [image | {"annotations": {NAME: n, REF: n, n: n}} for n in BAD_NAMES.values()]
    entries.append(
        descriptor(several, archives.OCI_INDEX, annotations={NAME: "docker.io/library/multi:1"})
    )
    return oci(entries, [document, several, PARTS.config])


@pytest.fixture(scope="module")
def imgfs(tmp_path_factory: pytest.TempPathFactory) -> Command:
    command = Command(tmp_path_factory.mktemp("names") / "store")
    assert command("load", stdin=archive()).status == 0
    return command


COMMANDS = (
    "images",
    "images --no-trunc --digests",
    "images --format json",
    "inspect app:1",
    "inspect multi:1",
    "history app:1",
    "history --no-trunc multi:1",
    "history --format json app:1",
    "events --since 1h --until 0s",
    "info",
    "gc --dry-run",
    "fsck",
    "load --format json",
    "load",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_prints_a_raw_control_character(imgfs: Command, command: str) -> None:
    done = imgfs(*command.split(), stdin=archive())
    assert (done.status, done.err) == (0, b"")
    assert not RAW.search(done.out.decode())


@pytest.mark.parametrize("command", ["images", "inspect", "history", "rm", "save", "tag x", "load"])
@pytest.mark.parametrize("name", [f"app:{ESCAPES}", "a" * 100_000])
def test_no_refusal_prints_a_raw_control_character(imgfs: Command, command: str, name: str) -> None:
    done = imgfs(*command.split(), name)
    assert done.status in (1, 2)
    assert not RAW.search((done.out + done.err).decode())
    assert len(done.err) < 4000


def paths(below: Path) -> Iterator[bytes]:
    for directory, directories, files in os.walk(os.fsencode(below)):
        yield from (os.path.join(directory, name) for name in (*directories, *files))


def test_no_path_of_a_mount_has_what_is_no_name(mount: Callable[..., Mounted]) -> None:
    mounted = mount()
    mounted.load(archive())
    found = list(paths(mounted.path))
    assert any(path.endswith(b"/app:1/index.json") for path in found)
    for path in found:
        text = path.decode()
        assert text.isprintable()
        assert ".." not in text.split("/")


def test_what_is_told_of_a_mount_has_no_raw_control_character(
    mount: Callable[..., Mounted],
) -> None:
    mounted = mount()
    mounted.load(archive())
    told = [path for path in paths(mounted / ".imgfs") if not os.path.isdir(path)]
    assert len(told) == 3
    for path in told:
        assert not RAW.search(Path(os.fsdecode(path)).read_text("utf-8"))
    for path in paths(mounted / "import"):
        for name in os.listxattr(path):
            assert not RAW.search(os.getxattr(path, name).decode())

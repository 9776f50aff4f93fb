"""What a program reads is whole, however long a name is; a table on a terminal is cut."""

import os
import pty
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import BrokenArchive, InvalidReference, NotFound
from tests import archives
from tests.archives import ImageParts
from tests.cli.command import Command, Done, refusal, succeeded

DOMAIN = f"{'.'.join(['d' * 63] * 3)}.example:65535"
PATH = f"{'p' * 120}/{'q' * 134}"
TAG = "t" * 128
NAME = f"{DOMAIN}/{PATH}:{TAG}"
COMMAND = f"RUN {'c' * 500}"
APP = ImageParts(extra={"history": [{"created_by": COMMAND, "comment": "m" * 500}]})
ARCHIVE = archives.oci_archive((APP, NAME))


@pytest.fixture
def loaded(inside: Callable[..., Done], tmp_path: Path) -> Done:
    (tmp_path / "x.tar").write_bytes(ARCHIVE)
    return succeeded(inside("load", tmp_path / "x.tar"))


def on_a_terminal(imgfs: Command, *arguments: str) -> str:
    """What a command prints there."""
    ours, theirs = pty.openpty()
    process = imgfs.start(*arguments, stdout=theirs)
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 4096):
            shown += data
    except OSError:  # as Linux says that the other side is closed
        pass
    os.close(ours)
    assert process.wait() == 0
    return shown.decode()


def test_loading_tells_it_whole(loaded: Done) -> None:
    assert len(PATH) == 255
    assert loaded.lines == [f"Loaded image: {NAME}"]


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["images"], [f"{DOMAIN}/{PATH}", TAG]),
        (["images", "--no-trunc"], [f"{DOMAIN}/{PATH}", TAG]),
        (["images", "--format", "json"], [NAME]),
        (["inspect", NAME], [NAME]),
        (["history", NAME], [COMMAND, "m" * 500]),
        (["history", "--format", "json", NAME], [COMMAND, "m" * 500]),
        (["rm", NAME], [f"Untagged: {NAME}\n"]),
    ],
    ids=lambda value: " ".join(value[:3])[:30],
)
def test_a_pipe_gets_it_whole(
    inside: Callable[..., Done], arguments: list[str], parts: list[str]
) -> None:
    told = succeeded(inside(*arguments)).out.decode()
    assert "…" not in told
    assert all(part in told for part in parts)


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize(
    ("command", "expected"),
    [("images", f"{DOMAIN}/{PATH}"[:300]), (f"history {NAME}", COMMAND[:59])],
    ids=["images", "history"],
)
def test_a_table_on_a_terminal_is_cut(imgfs: Command, command: str, expected: str) -> None:
    assert f"{expected}…" in on_a_terminal(imgfs, *command.split())
    assert "…" not in on_a_terminal(imgfs, *command.split(), "--no-trunc")


@pytest.mark.parametrize(
    "command", ["images", "inspect", "history", "rm", "save", "tag {} x", "tag {}"]
)
def test_a_refusal_names_it_whole(
    inside: Callable[..., Done], stock: Callable[..., None], command: str
) -> None:
    stock()
    words = [word.format(NAME) for word in command.split()]
    assert NAME in refusal(inside(*words, *([] if "{} " in command else [NAME])))


DIGEST = f"{NAME}@sha512:{'0' * 128}"


@pytest.mark.parametrize(
    "error",
    [
        NotFound("image", DIGEST),
        InvalidReference(DIGEST, "digest", f"expected the digest {'0' * 71}"),
        BrokenArchive("manifest.json", str(InvalidReference(DIGEST, "tag", "invalid tag"))),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_longest_name_is_whole_in_a_sentence(error: Exception) -> None:
    assert DIGEST in str(error)

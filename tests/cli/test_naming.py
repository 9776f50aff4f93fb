"""Tests of `imgfs tag` and `imgfs rm`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.cli.command import Done, names, picture, refusal, succeeded

APP = ImageParts(layers=[archives.layer("app")])
OTHER = ImageParts(layers=[archives.layer("other")])
BARE = ImageParts(layers=[archives.layer("bare")])
APP_DIGEST, OTHER_DIGEST, BARE_DIGEST = (
    archives.digest(image.manifest()) for image in (APP, OTHER, BARE)
)
ALL = {"app:1": APP.id, "app:latest": APP.id, "other:2": OTHER.id, BARE_DIGEST: BARE.id}


@pytest.fixture(autouse=True)
def _stocked(stock: Callable[..., None], store: Path) -> None:
    stock(
        archives.docker_archive((APP, ["app:1", "app:latest"]), (OTHER, ["other:2"]), (BARE, None))
    )
    assert names(store) == ALL


# -- tag ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "other:2",
        "docker.io/library/other:2",
        OTHER.id,
        OTHER.id[7:19],
        OTHER_DIGEST,
        f"other@{OTHER_DIGEST}",
    ],
)
def test_tag_adds_a_name(inside: Callable[..., Done], store: Path, source: str) -> None:
    done = succeeded(inside("tag", source, "other", "ghcr.io/me/other:3", "localhost:5000/x:1"))
    assert done.out == b""
    new = dict.fromkeys(("other:latest", "ghcr.io/me/other:3", "localhost:5000/x:1"), OTHER.id)
    assert names(store) == ALL | new


def test_a_source_without_a_tag_means_latest(inside: Callable[..., Done], store: Path) -> None:
    succeeded(inside("tag", "app", "x:1"))
    assert refusal(inside("tag", "other", "x:2")) == "image other: not found"
    assert names(store) == ALL | {"x:1": APP.id}


def test_an_untagged_image_can_be_tagged(inside: Callable[..., Done], store: Path) -> None:
    succeeded(inside("tag", BARE.id[7:19], "bare:1"))
    assert names(store) == {k: v for k, v in ALL.items() if k != BARE_DIGEST} | {"bare:1": BARE.id}


def test_tag_moves_a_name(inside: Callable[..., Done], store: Path) -> None:
    succeeded(inside("tag", "app:1", "other:2"))
    assert names(store) == ALL | {"other:2": APP.id, OTHER_DIGEST: OTHER.id}


def test_tagging_again_changes_nothing(inside: Callable[..., Done], store: Path) -> None:
    succeeded(inside("tag", "app:1", "app:1", "app:latest"))
    assert names(store) == ALL


@pytest.mark.parametrize("name", ["Upper:1", "x:1:2", "", "x y", f"x@{APP_DIGEST}", "\x1b[2J", "-"])
def test_an_invalid_name_does_not_prevent_the_others(
    inside: Callable[..., Done], store: Path, name: str
) -> None:
    refusal(inside("tag", "--", "app:1", "x:1", name, "y:1"))
    assert names(store) == ALL | {"x:1": APP.id, "y:1": APP.id}


@pytest.mark.parametrize("source", ["nope:1", f"sha256:{'0' * 64}", "Upper:1", "nope"])
def test_a_missing_source_is_an_error(
    inside: Callable[..., Done], store: Path, source: str
) -> None:
    before = picture(store)
    assert source in refusal(inside("tag", source, "x:1"))
    assert picture(store) == before


# -- rm -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["rm", "rmi"])
def test_rm_of_one_name_keeps_the_others(
    inside: Callable[..., Done], store: Path, command: str
) -> None:
    assert succeeded(inside(command, "app:1")).lines == ["Untagged: app:1"]
    assert names(store) == {k: v for k, v in ALL.items() if k != "app:1"}


def test_rm_of_the_last_name_removes_the_image(inside: Callable[..., Done], store: Path) -> None:
    done = succeeded(inside("rm", "other:2"))
    assert done.lines == ["Untagged: other:2", f"Deleted: {OTHER_DIGEST}"]
    assert names(store) == {k: v for k, v in ALL.items() if k != "other:2"}
    refusal(inside("inspect", OTHER.id))


@pytest.mark.parametrize("name", [APP.id, APP.id[7:19], APP.id[:19], APP_DIGEST])
def test_rm_by_id_removes_every_name(inside: Callable[..., Done], store: Path, name: str) -> None:
    done = succeeded(inside("rm", name))
    assert done.lines == ["Untagged: app:1", "Untagged: app:latest", f"Deleted: {APP_DIGEST}"]
    assert names(store) == {"other:2": OTHER.id, BARE_DIGEST: BARE.id}


def test_rm_removes_an_untagged_image(inside: Callable[..., Done], store: Path) -> None:
    assert succeeded(inside("rm", BARE.id[7:19])).lines == [f"Deleted: {BARE_DIGEST}"]
    assert BARE_DIGEST not in names(store)


def test_rm_without_a_tag_means_latest(inside: Callable[..., Done], store: Path) -> None:
    assert succeeded(inside("rm", "app")).lines == ["Untagged: app:latest"]
    assert names(store) == {k: v for k, v in ALL.items() if k != "app:latest"}
    assert refusal(inside("rm", "other")) == "image other: not found"


def test_rm_continues_after_a_missing_name(inside: Callable[..., Done], store: Path) -> None:
    done = inside("rm", "nope:1", "Upper:1", "app:1", "app:1", "other:2")
    assert done.status == 1
    assert done.err.decode().splitlines() == [
        "imgfs: image nope:1: not found",
        "imgfs: repository name has upper-case letters: Upper:1",
        "imgfs: image app:1: not found",
    ]
    assert names(store) == {"app:latest": APP.id, BARE_DIGEST: BARE.id}


def test_rm_refuses_an_ambiguous_id(inside: Callable[..., Done], store: Path) -> None:
    prefixes = [digest[7:8] for digest in (APP.id, OTHER.id, BARE.id, APP_DIGEST, OTHER_DIGEST)]
    prefix = next(p for p in sorted(prefixes) if prefixes.count(p) > 1)
    assert "ambiguous" in refusal(inside("rm", prefix))
    assert names(store) == ALL


def test_a_removed_image_can_be_loaded_again(
    inside: Callable[..., Done], stock: Callable[..., None], store: Path
) -> None:
    succeeded(inside("rm", "other:2"))
    stock(archives.docker_archive((OTHER, ["other:2"])))
    assert names(store) == ALL

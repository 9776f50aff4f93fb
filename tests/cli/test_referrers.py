"""Signatures, SBOMs and other manifests that refer to an image travel with it."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.archives import digest
from tests.cli.command import Command, Done, refusal, succeeded
from tests.referrers import SBOM, SIGNATURE, Signed

APP = Signed()
ARCHIVE = APP.archive("docker.io/library/app:1")


def index(archive: bytes) -> dict[str, dict[str, object]]:
    """Return the entries of the index.json of an archive, by digest."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        file = opened.extractfile("index.json")
        assert file is not None
        return {entry["digest"]: entry for entry in json.load(file)["manifests"]}


def test_save_adds_what_refers_to_an_image(
    imgfs: Command, inside: Callable[..., Done], tmp_path: Path
) -> None:
    first, second = tmp_path / "first.tar", tmp_path / "second.tar"
    first.write_bytes(ARCHIVE)
    succeeded(inside("load", "-i", first))
    alone = index(succeeded(imgfs("save", "app:1")).out)
    second.write_bytes(succeeded(imgfs("save", "--referrers", "app:1")).out)
    found = index(second.read_bytes())
    assert found.keys() - alone.keys() == APP.digests
    assert found[digest(APP.sbom)]["artifactType"] == SBOM
    assert found[digest(APP.sbom)]["annotations"] == {"org.example.kind": SBOM}
    other = Command(tmp_path / "other")
    succeeded(other("load", "-i", second))
    assert succeeded(other("save", "--referrers", "app:1")).out == second.read_bytes()


def test_what_refers_to_an_image_stays_as_long_as_the_image(
    inside: Callable[..., Done], stock: Callable[..., None]
) -> None:
    stock(ARCHIVE)

    def untagged() -> set[str]:
        rows = succeeded(inside("images", "--format", "json")).json
        return {row["digest"] for row in rows if row["name"] != "app:1"}

    (document,) = succeeded(inside("inspect", "app:1")).json
    assert {each["digest"] for each in document["Referrers"]} == APP.digests
    assert {each["artifactType"] for each in document["Referrers"]} == {SBOM, SIGNATURE}
    assert succeeded(inside("inspect", "-f", "{{len .Referrers}}", "app:1")).lines == ["3"]
    succeeded(inside("gc"))
    succeeded(inside("prune", "-f"))
    assert untagged() == APP.digests
    succeeded(inside("rm", "app:1"))
    for _ in range(2):  # that of the SBOM goes after the SBOM
        succeeded(inside("prune", "-f"))
    assert untagged() == set()


@pytest.mark.parametrize(
    "words", [["--platform", "linux"], ["--trim-index"], ["--layout", "docker"]], ids=" ".join
)
def test_options_that_exclude_referrers(inside: Callable[..., Done], words: list[str]) -> None:
    assert "--referrers takes neither" in refusal(
        inside("save", "--referrers", *words, "app:1"), status=2
    )

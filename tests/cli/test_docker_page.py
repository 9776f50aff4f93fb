"""docs/docker.md: every difference that it names is there, and it has every name of JSON."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.cli.command import Done, refusal, succeeded

PAGE = (Path(__file__).parents[2] / "docs" / "docker.md").read_text()
APP = ImageParts(
    extra={"config": {"Cmd": ["/app"], "Labels": {"a": "b"}}},
    created="2024-01-02T03:04:05.5+02:00",
    layers=[archives.layer("a")],
)
Run = Callable[..., Done]


def rows(title: str) -> Iterator[list[str]]:
    """Yield the cells of the tables in a section, without their heads."""
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    for table in re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE):
        for line in table.splitlines()[2:]:
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def names(cell: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", cell.partition("(")[0]))


@pytest.fixture
def run(stock: Callable[..., None], inside: Run) -> Run:
    stock(archives.oci_archive((APP, "app:1")), archives.docker_archive((ImageParts(), None)))

    def done(*arguments: str) -> Done:
        return succeeded(inside(*arguments))

    return done


def json_is_one_document(run: Run, _inside: Run) -> None:
    for command in (("images",), ("history", "app:1")):
        assert isinstance(run(*command, "--format", "json").json, list)
        for line in run(*command, "--format", "{{json .}}").lines:
            assert "CreatedSince" in json.loads(line)


def sizes_are_those_of_blobs(run: Run, _inside: Run) -> None:
    (found,) = run("images", "--format", "json", "app").json
    blobs = APP.layers[0], APP.config, APP.manifest()
    assert found["size"] == sum(map(len, blobs))


def digests_are_always_there(run: Run, _inside: Run) -> None:
    lines = run("images", "--format", "{{.Digest}}").lines
    assert all(line.startswith("sha256:") for line in lines)


def times_are_in_utc(run: Run, _inside: Run) -> None:
    (line,) = run("images", "--format", "{{.CreatedAt}}", "app").lines
    assert line == "2024-01-02 01:04:05 +0000 UTC"


def all_images_are_always_listed(run: Run, _inside: Run) -> None:
    assert run("images", "-a").out == run("images").out


def several_names_are_listed(run: Run, inside: Run) -> None:
    run("tag", "app:1", "other:1")
    assert len(run("images", "-q", "app", "other").lines) == 2
    assert refusal(inside("images", "-q", "app", "nope")) == "image nope: not found"


def filters_are_dockers(_run: Run, inside: Run) -> None:
    said = refusal(inside("images", "--filter", "x=y"), status=2)
    assert re.findall(r"(\w+)=…", said) == [
        "reference",
        "dangling",
        "label",
        "before",
        "since",
        "until",
    ]


def history_has_the_times_of_the_image(run: Run, _inside: Run) -> None:
    times = run("history", "--format", "{{.CreatedAt}}", "app:1").lines
    assert times == [
        one["created"] or "N/A" for one in run("history", "--format", "json", "app:1").json
    ]


def objects_are_printed_as_maps(run: Run, _inside: Run) -> None:
    assert run("inspect", "-f", "{{.Config.Labels}}", "app:1").lines == ["map[a:b]"]
    assert run("inspect", "-f", "{{.RootFS}}", "app:1").lines[0].startswith("map[")


def rm_is_silent_about_what_is_not_there(run: Run, _inside: Run) -> None:
    assert run("rm", "-f", "nope:1").out == b""


def prune_removes_all_images_and_collects(run: Run, _inside: Run) -> None:
    assert "Untagged: app:1" in run("prune", "-a", "-f").lines
    assert run("images", "-q").lines == run("gc").lines[:-1] == []


def filters_of_prune_are_dockers(_run: Run, inside: Run) -> None:
    said = refusal(inside("prune", "--filter", "x=y"), status=2)
    assert re.findall(r"([\w!]+)=…", said) == ["label", "label!", "until"]


CHECKS = {
    "`--format json` of `images`, `history`": json_is_one_document,
    "`images`: size": sizes_are_those_of_blobs,
    "`images`: digest": digests_are_always_there,
    "`images`: time zone of `CreatedAt`": times_are_in_utc,
    "`images -a`": all_images_are_always_listed,
    "`images` of several names": several_names_are_listed,
    "`images --filter`": filters_are_dockers,
    "`history`: `CreatedAt`": history_has_the_times_of_the_image,
    "`inspect -f`: values that are objects": objects_are_printed_as_maps,
    "`rm -f`": rm_is_silent_about_what_is_not_there,
    "`prune` (docker: `image prune`)": prune_removes_all_images_and_collects,
    "`prune --filter`": filters_of_prune_are_dockers,
}


@pytest.mark.parametrize("row", [cells[0] for cells in rows("Differences")])
def test_a_difference_is_as_the_page_says(row: str, run: Run, inside: Run) -> None:
    CHECKS[row](run, inside)


def test_the_page_has_all_names_of_json(run: Run) -> None:
    ours = {name for cells in rows("JSON") for name in names(cells[0])}
    dockers = {name for cells in rows("JSON") for name in names(cells[1])}
    without_value = {"Containers", "SharedSize", "UniqueSize"}
    for command in (("images", "app"), ("history", "app:1")):
        assert run(*command, "--format", "json").json[0].keys() <= ours
        (line, *_) = run(*command, "--format", "{{json .}}").lines
        assert json.loads(line).keys() - without_value <= dockers

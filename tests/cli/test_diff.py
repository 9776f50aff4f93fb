"""`imgfs diff`."""

from collections.abc import Callable

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.cli.command import Command, Done, refusal, succeeded
from tests.filetree.layers import directory, file, hardlink, layer

BASE = layer(directory("etc"), file("etc/passwd", "root"), file("gone/x", "123"), file("\x1b[m"))
MIDDLE = layer(file("etc/passwd", "root and more"), file(".wh.gone"))
TOP = layer(file("opt/new", "12"), file("etc/\udcff", "1"))
ONE = ImageParts(layers=[BASE])
TWO = ImageParts(layers=[BASE, MIDDLE, TOP])
BAD = ImageParts(layers=[BASE, layer(hardlink("a", "no"))])


@pytest.fixture(autouse=True)
def _stocked(stock: Callable[..., None]) -> None:
    stock(
        archives.docker_archive((ONE, ["app:1"]), (TWO, ["app:2"]), (BAD, ["bad:1"])),
    )


Inside = Callable[..., Done]


def test_two_images(inside: Inside) -> None:
    assert succeeded(inside("diff", "app:1", "app:2")).lines == [
        "C /etc",
        "C /etc/passwd",
        r"A /etc/\udcff",
        "D /gone",
        "A /opt",
        "A /opt/new",
    ]
    assert succeeded(inside("diff", "app:2", "app:1")).lines[:3] == [
        "C /etc",
        "C /etc/passwd",
        r"D /etc/\udcff",
    ]
    assert succeeded(inside("diff", "app:2", "app:2")).lines == []


def test_sizes(inside: Inside) -> None:
    assert succeeded(inside("diff", "--size", "app:1", "app:2")).lines == [
        "C       0B /etc",
        "C      +9B /etc/passwd",
        r"A      +1B /etc/\udcff",
        "D      -3B /gone",
        "A       0B /opt",
        "A      +2B /opt/new",
    ]


def test_one_image_and_its_last_layer(inside: Inside) -> None:
    assert succeeded(inside("diff", "app:2")).lines == [
        "C /etc",
        r"A /etc/\udcff",
        "A /opt",
        "A /opt/new",
    ]
    assert succeeded(inside("diff", "app:1")).lines[0] == r"A /\x1b[m"


def test_layer_by_layer(inside: Inside) -> None:
    lines = succeeded(inside("diff", "--layers", "app:2")).lines
    digests = [archives.digest(one) for one in (BASE, MIDDLE, TOP)]
    heads = [line for line in lines if line.startswith("#")]
    assert [head.split()[:3] for head in heads] == [
        ["#", f"{number:02}", digest] for number, digest in enumerate(digests)
    ]
    middle = lines[lines.index(heads[1]) + 1 : lines.index(heads[2])]
    assert middle == ["C /etc", "C /etc/passwd", "D /gone"]


def test_json(inside: Inside) -> None:
    found = succeeded(inside("diff", "--format", "json", "app:1", "app:2")).json
    assert found[1] == {
        "path": "/etc/passwd",
        "kind": "changed",
        "type": "file",
        "size_before": 4,
        "size": 13,
        "differs": ["size", "content"],
    }
    assert found[2]["path"] == "/etc/\udcff"
    assert succeeded(inside("diff", "--format", "json", "app:1", "app:1")).json == []


def test_layers_as_json(inside: Inside) -> None:
    found = succeeded(inside("diff", "--layers", "--format", "json", "app:2")).json
    assert [one["layer"] for one in found] == [archives.digest(a) for a in (BASE, MIDDLE, TOP)]
    assert [one["path"] for one in found[1]["changes"]] == ["/etc", "/etc/passwd", "/gone"]
    assert {"created_by", "size"} < found[0].keys()


def test_entries_that_are_left_out(inside: Inside) -> None:
    said = b"imgfs: left out: a: is a hard link of what is not there: no\n"
    done = inside("diff", "app:1", "bad:1")
    assert (done.status, done.out, done.err) == (0, b"", said)
    done = inside("diff", "--layers", "bad:1")
    assert (done.status, done.err) == (0, said)


def test_refusals(imgfs: Command, stock: Callable[..., None]) -> None:
    assert refusal(imgfs("diff", "--layers", "app:1", "app:2"), 2).startswith(
        "--layers takes one image"
    )
    assert "not found" in refusal(imgfs("diff", "app:1", "none:1"))
    assert "unexpected argument c" in refusal(imgfs("diff", "a", "b", "c"), 2)
    cut = [BASE, layer(file("x"))[:600]]
    stock(archives.oci_archive((ImageParts(layers=cut), "cut:1")))
    assert "is truncated" in refusal(imgfs("diff", "app:1", "cut:1"))
    assert "is truncated" in refusal(imgfs("diff", "--layers", "cut:1"))

"""The exporter options of build tools."""

import pytest

from engine.commit.annotations import Annotation
from engine.commit.exporter_options import InvalidOption, parse
from engine.commit.source import CommitOptions
from engine.compression.options import Compression, InvalidCompression


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, CommitOptions()),
        ({"oci-mediatypes": "false"}, CommitOptions(is_oci=False)),
        ({"oci-mediatypes": ""}, CommitOptions()),
        ({"compression": "zstd"}, CommitOptions(Compression("zstd"))),
        ({"compression-level": "9"}, CommitOptions(Compression("gzip", 9))),
        (
            {"compression-level": "7", "compression": "zstd"},
            CommitOptions(Compression("zstd", 7)),
        ),
        ({"force-compression": "1"}, CommitOptions(recompresses_base=True)),
        ({"prefer-nondist-layers": "true"}, CommitOptions(keeps_foreign=True)),
        ({"source-date-epoch": "86400"}, CommitOptions(epoch=86400)),
        ({"rewrite-timestamp": "true"}, CommitOptions(rewrites_times=True)),
        (
            {"annotation-index.k": "v", "annotation.l": "w"},
            CommitOptions(
                annotations=(Annotation("index", "k", "v"), Annotation("manifest", "l", "w"))
            ),
        ),
    ],
)
def test_known(options: dict[str, str], expected: CommitOptions) -> None:
    found = parse(options, CommitOptions())
    assert found.commit == expected
    assert found.unknown == ()


def test_what_is_said_goes_over_what_was_chosen() -> None:
    chosen = CommitOptions(Compression("zstd", 7), is_oci=False, epoch=5)
    assert parse({}, chosen).commit == chosen
    said = {"compression": "gzip", "oci-mediatypes": "true", "source-date-epoch": ""}
    assert parse(said, chosen).commit == CommitOptions()


def test_names_and_config() -> None:
    found = parse({"name": "a:1,b:2", "containerimage.config": "{}"}, CommitOptions())
    assert (found.names, found.config) == ("a:1,b:2", b"{}")


def test_unknown_keys_change_nothing() -> None:
    found = parse({"push": "true", "annotations": "x", "name": "a"}, CommitOptions())
    assert found.unknown == ("push", "annotations")
    assert found.commit == CommitOptions()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("oci-mediatypes", "yes"),
        ("force-compression", ""),
        ("prefer-nondist-layers", "TrUe"),
        ("source-date-epoch", "-1"),
        ("source-date-epoch", "٣"),
        ("source-date-epoch", "253402300800"),
        ("source-date-epoch", "9" * 15),
        ("source-date-epoch", "1" * 5000),
        ("compression-level", "1" * 5000),
        ("compression-level", "best"),
    ],
)
def test_values_that_are_none(key: str, value: str) -> None:
    with pytest.raises(InvalidOption, match=f"^option {key}: expected "):
        parse({key: value}, CommitOptions())


@pytest.mark.parametrize("options", [{"compression": "estargz"}, {"compression-level": "77"}])
def test_compressions_that_are_none(options: dict[str, str]) -> None:
    with pytest.raises(InvalidCompression):
        parse(options, CommitOptions())

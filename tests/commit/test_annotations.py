"""Annotations: how they are written, and where they go."""

import pytest

from engine.commit.annotations import Annotation, InvalidAnnotation, chosen, parse, parse_option
from engine.errors import InvalidPlatform
from engine.spec.oci import Platform

AMD, ARM = Platform("amd64", "linux"), Platform("arm64", "linux")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("k=v", [Annotation("manifest", "k", "v")]),
        ("k=", [Annotation("manifest", "k", "")]),
        ("k=a=b:c", [Annotation("manifest", "k", "a=b:c")]),
        ("index:k=v", [Annotation("index", "k", "v")]),
        ("manifest:a:b=v", [Annotation("manifest", "a:b", "v")]),
        ("manifest[linux/amd64]:k=v", [Annotation("manifest", "k", "v", AMD)]),
        (
            "index-descriptor,manifest-descriptor[linux/arm64]:k=v",
            [
                Annotation("index-descriptor", "k", "v"),
                Annotation("manifest-descriptor", "k", "v", ARM),
            ],
        ),
    ],
)
def test_words(text: str, expected: list[Annotation]) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize("text", ["", "k", "=v", "index:=v", "indx:k=v", "index,:k=v", "a b:k=v"])
def test_words_that_are_none(text: str) -> None:
    with pytest.raises(InvalidAnnotation):
        parse(text)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("annotation.k", Annotation("manifest", "k", "v")),
        ("annotation.org.example.k", Annotation("manifest", "org.example.k", "v")),
        ("annotation-index.k", Annotation("index", "k", "v")),
        ("annotation[linux/amd64].k", Annotation("manifest", "k", "v", AMD)),
        (
            "annotation-manifest-descriptor[linux/arm64].k",
            Annotation("manifest-descriptor", "k", "v", ARM),
        ),
    ],
)
def test_options(key: str, expected: Annotation) -> None:
    assert parse_option(key, "v") == expected


@pytest.mark.parametrize(
    "key", ["annotation.", "annotation-layer.k", "annotation[].k", "annotation.a b"]
)
def test_options_that_are_none(key: str) -> None:
    with pytest.raises(InvalidAnnotation):
        parse_option(key, "v")


def test_a_platform_that_is_none() -> None:
    with pytest.raises(InvalidPlatform):
        parse("manifest[nowhere]:k=v")


def test_a_variant_that_is_the_usual_one_is_the_same_platform() -> None:
    noted = [Annotation("manifest", "k", "v", Platform("arm64", "linux", variant="v8"))]
    assert chosen(noted, "manifest", ARM) == {"k": "v"}
    assert chosen(noted, "manifest", AMD) == {}


def test_an_index_is_for_every_platform() -> None:
    assert chosen([Annotation("index", "k", "v", AMD)], "index") == {"k": "v"}

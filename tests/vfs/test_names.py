"""Tests of names without colons."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidDigest, InvalidReference
from engine.spec import reference
from imgfs.vfs.names import FAMILIAR, SAFE, with_colons, without_colons

HEX = "0123456789abcdef" * 4
DOMAINS = st.from_regex(
    r"([a-zA-Z0-9]{1,5}([.]|-{1,4})){0,3}[a-zA-Z0-9]{1,5}(:[0-9]{1,5})?|\[[a-f0-9:]{1,12}\](:[0-9]{1,4})?",
    fullmatch=True,
)
COMPONENTS = st.from_regex(r"([a-z0-9]{1,4}([._]|__|-{1,5})){0,3}[a-z0-9]{1,4}", fullmatch=True)
TAGS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,8}", fullmatch=True)
SUFFIXES = st.one_of(
    TAGS.map(":{}".format),
    st.just(f"@sha256:{HEX}"),
    TAGS.map(f":{{}}@sha512:{HEX}{HEX}".format),
)


@st.composite
def references(draw: st.DrawFn) -> str:
    """Generate references of every kind that an image can have."""
    domain = draw(st.none() | DOMAINS)
    path = "/".join(draw(st.lists(COMPONENTS, min_size=1, max_size=3)))
    return f"{'' if domain is None else domain + '/'}{path}{draw(SUFFIXES)}"


@given(references() | st.sampled_from(("sha256", "sha384", "sha512")).map(f"{{}}:{HEX}".format))
def test_every_reference_survives_a_round_trip(name: str) -> None:
    shown = without_colons(name)
    assert ":" not in shown
    assert with_colons(shown) == name
    assert [without_colons(part) for part in name.split("/")] == shown.split("/")
    assert [SAFE.meanings(part)[0] for part in shown.split("/")] == name.split("/")
    assert [SAFE.meanings(part) for part in name.split("/") if ":" in part] == [
        (part,) for part in name.split("/") if ":" in part
    ], "a name with a colon is meant as it is"


@given(st.from_regex(r"[a-z0-9.-]{0,12}", fullmatch=True))
def test_every_name_without_colons_means_one_name(shown: str) -> None:
    assert without_colons(with_colons(shown)) == shown


@given(st.lists(COMPONENTS, min_size=1, max_size=3), TAGS)
def test_a_safe_name_is_a_valid_repository_name(components: list[str], tag: str) -> None:
    """podman and buildah name an image after the path from which they read it."""
    name = f"{'/'.join(components)}:{tag}"
    try:
        reference.parse_normalized(f"localhost/mnt/{'/'.join(components)}/{tag}")
    except (InvalidReference, InvalidDigest):
        return  # such a tag cannot be part of a repository name
    reference.parse_normalized(f"localhost/mnt/{without_colons(name)}")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("app:1", "app--1"),
        ("localhost:5000", "localhost--5000"),
        ("my-app:1.0-rc1", "my-app--1.0-rc1"),
        ("a--b:1", "a---b--1"),
        ("a---b", "a-----b"),
        ("[::1]:5000", "[----1]--5000"),
        (f"app@sha256:{HEX}", f"app@sha256--{HEX}"),
        ("ghcr.io", "ghcr.io"),
        ("oci-layout", "oci-layout"),
    ],
)
def test_examples_of_names_without_colons(name: str, shown: str) -> None:
    assert without_colons(name) == shown
    assert with_colons(shown) == name
    assert FAMILIAR.shown(name) == name


def test_the_literal_meaning_of_a_name_comes_second() -> None:
    assert SAFE.meanings("xn--bcher-kva.example") == (
        "xn:bcher-kva.example",
        "xn--bcher-kva.example",
    )
    assert SAFE.meanings("my-app") == ("my-app",)
    assert FAMILIAR.meanings("a--b") == ("a--b",)


@pytest.mark.parametrize("name", ["\xfc", "a:\xfc", "a--\xfc", "\udcff", "a:\udcff"])
def test_a_name_that_is_not_ascii_means_nothing(name: str) -> None:
    assert FAMILIAR.meanings(name) == SAFE.meanings(name) == ()

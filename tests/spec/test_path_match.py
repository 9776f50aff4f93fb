import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidInput
from engine.spec import path_match as go_path


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("", "", True),
        ("app", "app", True),
        ("app", "app\n", False),
        ("*", "app:1.2", True),
        ("*", "org/app", False),
        ("*/app", "org/app", True),
        ("**", "org/app", False),
        ("org/**/app", "org/x/app", True),
        ("org/**/app", "org/x/y/app", False),
        ("a*b*c", "axbxbyc", True),
        ("a*b*c", "axbxby", False),
        ("*a", "aaa", True),
        ("?pp", "app", True),
        ("?", "/", False),
        ("[a-c]pp", "bpp", True),
        ("[^a-c]pp", "bpp", False),
        ("[^a-c]pp", "zpp", True),
        ("[z-a]pp", "app", False),
        ("[^z-a]pp", "app", True),
        (r"[\]\-x]", "-", True),
        (r"[a\-c]", "b", False),
        (r"\*", "*", True),
        (r"\*", "x", False),
        ("a.b", "axb", False),
        ("[é-ü]", "ö", True),
        ("]", "]", True),
    ],
)
def test_matches(pattern: str, name: str, fits: bool) -> None:
    assert go_path.match(pattern, name) is fits


@pytest.mark.parametrize(
    "pattern", ["[", "[]", "[^]", "[]a]", "[-x]", "[x-]", "[a-b-c]", "a[", "\\"]
)
def test_refuses_a_malformed_pattern(pattern: str) -> None:
    with pytest.raises(InvalidInput):
        go_path.match(pattern, "app")


def test_refuses_a_pattern_that_is_malformed_behind_a_mismatch() -> None:
    with pytest.raises(InvalidInput):
        go_path.match("x*[", "app")


def test_many_stars_take_no_exponential_time() -> None:
    assert not go_path.match("*a" * 200 + "!", "a" * 1000)


@given(st.text())
def test_escaped_text_matches_itself(name: str) -> None:
    assert go_path.match("".join(f"\\{character}" for character in name), name)


@given(st.text(alphabet="*?[]^-\\ab/"), st.text(alphabet="ab/]^-"))
def test_any_pattern_matches_or_is_malformed(pattern: str, name: str) -> None:
    try:
        go_path.match(pattern, name)
    except InvalidInput:
        assert set(pattern) & set("[\\")

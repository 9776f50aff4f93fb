import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.tar.member import clean_name, resolve_link


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("a", "a"),
        ("./a", "a"),
        ("/a", "a"),
        ("//a", "a"),
        ("///a//b/", "a/b"),
        ("a/./b/.", "a/b"),
        ("a/../b", "b"),
        ("a/b/../..", ""),
        (".", ""),
        ("./", ""),
        ("/", ""),
        ("", ""),
        ("..a", "..a"),
        ("a/..b", "a/..b"),
        ("...", "..."),
        (" a ", " a "),
        ("..", None),
        ("../a", None),
        ("/../a", None),
        ("./../a", None),
        ("a/../../b", None),
        ("a/../..", None),
    ],
)
def test_clean_name(name: str, clean: str | None) -> None:
    assert clean_name(name) == clean


@pytest.mark.parametrize(
    ("name", "target", "resolved"),
    [
        ("id/layer.tar", "../other/layer.tar", "other/layer.tar"),
        ("id/layer.tar", "layer", "id/layer"),
        ("layer.tar", "other/layer.tar", "other/layer.tar"),
        ("a/b/c", "../../d", "d"),
        ("a/b/c", "/d", "d"),
        ("a/b/c", "/d/../e", "e"),
        ("a/b/c", "../../../d", None),
        ("a", "..", None),
        ("a", "/../b", None),
        ("a/b", "..", ""),
    ],
)
def test_resolve_link(name: str, target: str, resolved: str | None) -> None:
    assert resolve_link(name, target) == resolved


@given(st.text("ab./", max_size=30))
def test_a_clean_name_is_clean_and_stays_so(name: str) -> None:
    clean = clean_name(name)
    if clean is not None:
        assert clean_name(clean) == clean
        assert not clean.startswith("/")
        assert not clean.endswith("/")
        assert not {".", ".."} & set(clean.split("/"))

"""The manual pages."""

import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgfs.cli import COMMANDS
from scripts.lib.man import escape, pages

PAGES = dict(pages("1.2"))


def formatted(page: str) -> str:
    """Return a page as a terminal shows it; groff must have nothing to say about it."""
    if not (groff := shutil.which("groff")):
        pytest.skip("groff is not installed")
    done = subprocess.run(
        [groff, "-ww", "-man", "-Kutf8", "-Tutf8", "-P-cbou", "-rLL=78n"],
        input=page.encode(),
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    return done.stdout.decode()


@pytest.mark.parametrize("name", PAGES)
def test_groff_formats_each_page_without_a_warning(name: str) -> None:
    text = formatted(PAGES[name])
    for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "SEE ALSO"):
        assert f"\n{section}\n" in text


def test_a_page_has_the_options_and_examples_of_its_command() -> None:
    text = formatted(PAGES["imgfs-save.1"])
    assert "--trim-index" in text
    assert "imgfs save app:1 | docker load" in text
    assert "imgfs-save - write images as one archive" in text


def test_pages_refer_to_pages_that_are_there() -> None:
    for name, page in PAGES.items():
        seen = set(re.findall(r"imgfs[a-z-]*(?=\(1\))", formatted(page).partition("SEE ALSO")[2]))
        assert {f"{other}.1" for other in seen} <= PAGES.keys() - {name}


def test_the_main_page_has_a_session_as_its_example() -> None:
    text = formatted(PAGES["imgfs.1"])
    assert "cp app.tar /mnt/images/import/" in text.partition("EXAMPLES")[2]


def test_the_main_page_names_every_command() -> None:
    text = formatted(PAGES["imgfs.1"])
    assert all(f"imgfs-{name}(1)" in text for name in COMMANDS)


@given(st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"]), min_size=1))
def test_escaped_text_is_printed_as_it_is(text: str) -> None:
    assert escape(text).replace("\\-", "-").replace("\\e", "\\").removeprefix("\\&") == text
    assert not escape(text).startswith((".", "'"))

"""Quotes, escapes and variables in a Dockerfile's words."""

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.commit.shell_words import expanded, split

ENV = {"SET": "value", "EMPTY": "", "SPACED": "a  b", "é": "accent"}
QUOTES: tuple[Callable[[str], str], ...] = (
    lambda text: "'" + text.replace("'", "'\\''") + "'",
    lambda text: '"' + "".join(f"\\{c}" if c in '"$\\' else c for c in text) + '"',
    lambda text: "".join(f"\\{c}" for c in text),
)


@given(st.text(st.characters(exclude_characters="$'\"\\")))
@example("a }b{ c\n")
def test_a_text_without_quotes_escapes_and_variables_is_itself(text: str) -> None:
    assert expanded(text, ENV) == text


@pytest.mark.parametrize("quote", QUOTES, ids=("single", "double", "escaped"))
@given(text=st.text(min_size=1), other=st.text())
@example(text="$SET", other="")
@example(text="\\", other="'")
@example(text="a b\n", other='"')
def test_a_quoted_text_is_one_word_and_expands_to_itself(
    quote: Callable[[str], str], text: str, other: str
) -> None:
    assert expanded(quote(text), ENV) == text
    assert split(f" {quote(text)}\t{quote(text)}{QUOTES[0](other)} ") == [
        quote(text),
        quote(text) + QUOTES[0](other),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$SET/x", "value/x"),
        ("a$SET.b$EMPTY.c$NONE.", "avalue.b.c."),
        ("${SET}x$SETx", "valuex"),
        ("$é", "accent"),
        ("$1a$$b", "ab"),
        ("$. $ $", "$. $ $"),
        ('"$SPACED" $SPACED', "a  b a  b"),
        ("'$SET'\\$SET", "$SET$SET"),
        ('"\\$SET \\a \\" \\\\"', '$SET \\a " \\'),
        ("\\a\\ b\\", "a b"),
        ("${NONE:-word}${EMPTY:-word}${SET:-word}", "wordwordvalue"),
        ("${NONE-word}${EMPTY-word}${SET-word}", "wordvalue"),
        ("${NONE:+word}${EMPTY:+word}${SET:+word}", "word"),
        ("${NONE+word}${EMPTY+word}${SET+word}", "wordword"),
        ("${SET:?word}${SET?word}${EMPTY?word}", "valuevalue"),
        ("${NONE:-${NONE-$SET}}", "value"),
        ("${NONE:-'}'\"}\"\\}}}", "}}}}"),
        ('"${NONE:-"a b"}"', "a b"),
    ],
)
def test_what_a_text_expands_to(text: str, expected: str) -> None:
    assert expanded(text, ENV) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a'b", "expected ' at the end"),
        ('"a\\"', 'expected " at the end'),
        ("${SET", "expected }"),
        ("${SET:-a", "expected } at the end"),
        ("${", "name of a variable"),
        ("${}", "name of a variable"),
        ("${:-a}", "name of a variable"),
        ("${SET:a}", r"expected } or one of .* after \${SET"),
        ("${SET=a}", "expected } or one of"),
        ("${SET#a}", "expected } or one of"),
        ("${NONE?}", "NONE: is not set"),
        ("${EMPTY:?said so}", "EMPTY: said so"),
        ("${NONE:-" * 100_000, "nested too deeply"),
    ],
)
def test_what_cannot_be_expanded(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        expanded(text, ENV)


def test_words_are_split_where_no_quote_is_open() -> None:
    assert split('a="b c"  d\\ e \'f') == ['a="b c"', "d\\ e", "'f"]

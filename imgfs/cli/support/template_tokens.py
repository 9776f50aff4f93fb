"""The parts of a template: its texts, and the tokens of its actions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from imgfs.cli.support.template_functions import TemplateFailed

_ACTION: Final = re.compile(
    r"\{\{(?P<body>/\*.*?\*/\s*-?|-\s+/\*.*?\*/\s*-?"
    r'|(?:"(?:\\.|[^"\\\n])*"|`[^`]*`|[^"`}]|\}(?!\}))*)\}\}',
    re.DOTALL,
)
_TOKEN: Final = re.compile(
    r"(?P<space>\s+)"
    r'|(?P<string>"(?:\\.|[^"\\\n])*")|(?P<raw>`[^`]*`)'
    r"|(?P<number>[+-]?[0-9]{1,18}(?![\w.]))"
    r"|(?P<variable>\$\w*)|(?P<field>\.[^\W\d]\w*)|(?P<dot>\.)"
    r"|(?P<word>[^\W\d]\w*)|(?P<mark>:=|[|(),])"
)
_BEYOND: Final = ("define", "template", "block", "break", "continue")


class Token(NamedTuple):
    kind: str
    text: str
    is_joined: bool
    """Whether it follows the token before it without a space."""


def parts(source: str) -> Iterator[str | list[Token]]:
    """Yield texts, and the tokens of actions; comments are left out, and trimming is done."""
    position, trims = 0, False
    while (start := source.find("{{", position)) >= 0:
        match = _ACTION.match(source, start)
        if match is None:
            raise TemplateFailed(f"unclosed action at {source[start : start + 30]!r}")
        body, before = match["body"], source[position:start]
        before = before.lstrip() if trims else before
        if body[:1] == "-" and body[1:2].isspace():
            body, before = body[1:], before.rstrip()
        trims = body[-1:] == "-" and (body[-2:-1].isspace())
        body = body[:-1] if trims else body
        yield before
        if not body.lstrip().startswith("/*"):
            yield _tokens(body)
        position = match.end()
    yield source[position:].lstrip() if trims else source[position:]


def _tokens(body: str) -> list[Token]:
    tokens: list[Token] = []
    position, is_joined = 0, False
    while position < len(body):
        match = _TOKEN.match(body, position)
        if match is None:
            raise TemplateFailed(f"unexpected {body[position : position + 20]!r} in {{{{{body}}}}}")
        kind = str(match.lastgroup)
        if kind != "space":
            tokens.append(Token(kind, match[0], is_joined))
        is_joined = kind != "space"
        position = match.end()
    if not tokens:
        raise TemplateFailed("missing value in {{}}")
    if tokens[0].text in _BEYOND:
        raise TemplateFailed(f"{{{{{tokens[0].text}}}}} is not supported; see docs/docker.md")
    return tokens

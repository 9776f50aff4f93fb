"""The words of a Dockerfile instruction: quotes, escapes and variables, as docker reads them.

Single quotes take everything literally. In double quotes a backslash escapes `"`, `$` and itself,
and outside of quotes any character. Variables are `$NAME`, `${NAME}` and, by whether NAME is set,
`${NAME-word}`, `${NAME+word}` and `${NAME?word}`; with a colon, an empty value counts as not set.
All functions are pure.
"""

import re
from collections.abc import Mapping

_RAW_WORD = re.compile(r"""(?:[^\s"'\\]|\\.?|"(?:[^"\\]|\\.)*"?|'[^']*'?)+""", re.DOTALL)
_NAME = re.compile(r"[0-9]+|[@*#?$!-]|[^\W\d]\w*")
_OPERATORS = frozenset({"-", "+", "?", ":-", ":+", ":?"})
_MOST = 128 << 10
"""Limit in characters of the values in one text. A variable can double with each instruction, and
Linux starts no program with a longer one.
"""


def split(text: str) -> list[str]:
    """Return the words of a text, which keep their quotes; space within quotes separates none."""
    return _RAW_WORD.findall(text)


def expanded(text: str, env: Mapping[str, str]) -> str:
    """Return a text without its quotes and escapes, and with the values of variables; one that is
    not in `env` is empty.

    Raise ValueError for a quote or a brace that is not closed, for an unknown substitution, for
    `${NAME?word}` if NAME is not set, and if the values have more than 128 KiB.
    """
    try:
        return _Reader(text, env).read("")
    except RecursionError:
        raise ValueError("variables are nested too deeply") from None


class _Reader:
    """A position in a text that is expanded."""

    def __init__(self, text: str, env: Mapping[str, str]) -> None:
        self._text = text
        self._env = env
        self._position = 0
        self._room = _MOST

    def read(self, end: str) -> str:
        """Return the text before `end`, expanded; "" is the end of the text."""
        found = []
        while (character := self._next()) != end:
            match character:
                case "":
                    raise ValueError(f"expected {end} at the end")
                case "\\":
                    found.append(self._next())
                case "'":
                    found.append(self._single_quoted())
                case '"':
                    found.append(self._double_quoted())
                case "$":
                    found.append(self._variable())
                case _:
                    found.append(character)
        return "".join(found)

    def _single_quoted(self) -> str:
        end = self._text.find("'", self._position)
        if end < 0:
            raise ValueError("expected ' at the end")
        found = self._text[self._position : end]
        self._position = end + 1
        return found

    def _double_quoted(self) -> str:
        found = []
        while (character := self._next()) != '"':
            match character:
                case "":
                    raise ValueError('expected " at the end')
                case "\\" if self._peek() in ('"', "$", "\\"):
                    found.append(self._next())
                case "$":
                    found.append(self._variable())
                case _:
                    found.append(character)
        return "".join(found)

    def _variable(self) -> str:
        if self._peek() != "{":
            name = self._name()
            return self._value(name) or "" if name else "$"
        self._next()
        name = self._name()
        if not name:
            raise ValueError("expected the name of a variable after ${")
        operator = self._next()
        if operator == "}":
            return self._value(name) or ""
        if operator == ":":
            operator += self._next()
        if operator not in _OPERATORS:
            raise ValueError(f"expected }} or one of - + ? :- :+ :? after ${{{name}")
        return _substituted(name, self._value(name), operator, self.read("}"))

    def _value(self, name: str) -> str | None:
        value = self._env.get(name)
        self._room -= len(value or "")
        if self._room < 0:
            raise ValueError(f"expected values of at most {_MOST} characters")
        return value

    def _name(self) -> str:
        name = _NAME.match(self._text, self._position)
        if name is None:
            return ""
        self._position = name.end()
        return name[0]

    def _peek(self) -> str:
        return self._text[self._position : self._position + 1]

    def _next(self) -> str:
        """Return the next character and pass it, "" at the end."""
        found = self._peek()
        self._position += len(found)
        return found


def _substituted(name: str, value: str | None, operator: str, word: str) -> str:
    if operator.startswith(":"):
        value = value or None
    match operator[-1]:
        case "-":
            return word if value is None else value
        case "+":
            return "" if value is None else word
    if value is None:
        raise ValueError(f"{name}: {word or 'is not set'}")
    return value

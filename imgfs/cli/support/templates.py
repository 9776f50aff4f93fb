"""Templates in the language of Go's text/template, as docker's `--format` takes them.

A subset: text, fields, variables, literals, functions (`template_functions`), pipelines, comments,
trimming, `if`, `with` and `range`, each with `else`. What is beyond it (`define`, `template`,
`block`, `break`, `continue`, assignments) raises TemplateFailed with its name. A template is
compiled once, into functions that each add text to a list.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

from imgfs.cli.support.template_functions import FUNCTIONS, LAZY, TemplateFailed, field, text
from imgfs.cli.support.template_tokens import Token, parts

_ESCAPE: Final = re.compile(r"\\(?:([abfnrtv\\\"'])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|(.))")
_ESCAPED: Final = dict(zip("abfnrtv\\\"'", "\a\b\f\n\r\t\v\\\"'", strict=True))
_CONSTANTS: Final = {"true": True, "false": False, "nil": None}
_BLOCKS: Final = ("if", "with", "range")
_DEEPEST: Final = 50
"""Blocks and parentheses within each other."""


class _Scope(NamedTuple):
    dot: Any
    variables: dict[str, Any]


_Emit = Callable[[_Scope, list[str]], None]
_Value = Callable[[_Scope], Any]
Functions = Mapping[str, Callable[..., Any]]


class Template:
    """A compiled template that calls `functions`.

    Raise TemplateFailed if the source is not valid.
    """

    def __init__(self, source: str, functions: Functions = FUNCTIONS) -> None:
        self._run = _Compiler(source, functions).template()

    def render(self, data: Any) -> str:
        """Return the text for some data; raise TemplateFailed if it lacks what is asked for."""
        out: list[str] = []
        self._run(_Scope(data, {"$": data}), out)
        return "".join(out)


class _Compiler:
    def __init__(self, source: str, functions: Functions) -> None:
        self._parts = list(parts(source))
        self._functions = functions
        self._position = 0
        self._depth = 0

    def template(self) -> _Emit:
        emit, end = self._list()
        if end is not None:
            raise TemplateFailed(f"{{{{{end[0].text}}}}} without if, with or range before it")
        return emit

    def _list(self) -> tuple[_Emit, list[Token] | None]:
        """Compile up to an `else` or an `end`, and return its tokens; None at the last part."""
        emits: list[_Emit] = []
        end = None
        while end is None and self._position < len(self._parts):
            part = self._parts[self._position]
            self._position += 1
            if isinstance(part, str):
                emits.append(_constant(part))
            elif part[0].text in ("else", "end"):
                end = part
            elif part[0].text in _BLOCKS:
                emits.append(self._block(part))
            else:
                emits.append(self._action(part))
        return _sequence(emits), end

    def _block(self, tokens: list[Token]) -> _Emit:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise TemplateFailed(f"blocks are nested deeper than {_DEEPEST}")
        keyword = tokens[0].text
        names, value = self._declared(tokens[1:], 2 if keyword == "range" else 1)
        body, end = self._list()
        otherwise = _sequence([])
        if end is not None and end[0].text == "else" and len(end) > 1:
            if end[1].text not in ("if", "with"):
                raise TemplateFailed(f"unexpected {end[1].text!r} after else")
            otherwise = self._block(end[1:])
            end = []
        elif end is not None and end[0].text == "else":
            otherwise, end = self._list()
        if end is None or (end and (end[0].text != "end" or len(end) > 1)):
            raise TemplateFailed(f"{{{{{keyword}}}}} without its {{{{end}}}}")
        self._depth -= 1
        return _MAKERS[keyword](names, value, body, otherwise)

    def _action(self, tokens: list[Token]) -> _Emit:
        names, value = self._declared(tokens, 1)

        def emit(scope: _Scope, out: list[str]) -> None:
            if names:
                scope.variables[names[0]] = value(scope)
            else:
                out.append(text(value(scope)))

        return emit

    def _declared(self, tokens: list[Token], most: int) -> tuple[list[str], _Value]:
        """Compile `[$NAME[, $NAME] :=] PIPELINE`, with `most` names; return them and the value."""
        marks = [token.text for token in tokens]
        names: list[str] = []
        if ":=" in marks:
            place = marks.index(":=")
            names = marks[:place:2]
            separators = marks[1:place:2]
            is_list = all(name[:1] == "$" and len(name) > 1 for name in names)
            if not is_list or not 1 <= len(names) <= most or separators != [","] * (len(names) - 1):
                raise TemplateFailed(f"expected a variable before := in {' '.join(marks)!r}")
            tokens = tokens[place + 1 :]
        reader = _Reader(tokens, self._functions)
        value = reader.pipeline(0)
        if (extra := reader.peek()) is not None:
            raise TemplateFailed(f"unexpected {extra.text!r}")
        return names, value


class _Reader:
    def __init__(self, tokens: list[Token], functions: Functions) -> None:
        self._tokens = tokens
        self._functions = functions
        self._position = 0

    def peek(self) -> Token | None:
        rest = self._tokens[self._position : self._position + 1]
        return rest[0] if rest else None

    def pipeline(self, depth: int) -> _Value:
        if depth > _DEEPEST:
            raise TemplateFailed(f"parentheses are nested deeper than {_DEEPEST}")
        value = self._command(None, depth)
        while (token := self.peek()) is not None and token.text == "|":
            self._position += 1
            value = self._command(value, depth)
        return value

    def _command(self, piped: _Value | None, depth: int) -> _Value:
        first = self.peek()
        if first is None or first.text in ("|", ")"):
            raise TemplateFailed("missing value in a pipeline")
        is_call = first.kind == "word" and first.text not in _CONSTANTS
        if is_call:
            self._position += 1
        operands = []
        while (token := self.peek()) is not None and token.text not in ("|", ")"):
            operands.append(self._operand(depth))
        if is_call:
            return self._call(first.text, [*operands, *([piped] if piped else [])])
        if piped is not None or len(operands) > 1:
            raise TemplateFailed(f"{first.text} is no function, so it cannot have arguments")
        return operands[0]

    def _operand(self, depth: int) -> _Value:
        token = self._tokens[self._position]
        self._position += 1
        if token.text == "(":
            value = self.pipeline(depth + 1)
            if (closing := self.peek()) is None or closing.text != ")":
                raise TemplateFailed("unclosed parenthesis")
            self._position += 1
        else:
            value = self._single(token)
        while (after := self.peek()) is not None and after.kind == "field" and after.is_joined:
            self._position += 1
            value = _field(value, after.text[1:])
        return value

    def _single(self, token: Token) -> _Value:
        name = token.text
        if token.kind == "field":
            return lambda scope: field(scope.dot, name[1:])
        if token.kind == "dot":
            return lambda scope: scope.dot
        if token.kind == "variable":
            return lambda scope: _variable(scope, name)
        if token.kind == "word" and name not in _CONSTANTS:
            return self._call(name, [])
        literals: dict[str, Callable[[], Any]] = {
            "string": lambda: _ESCAPE.sub(_unescaped, name[1:-1]),
            "raw": lambda: name[1:-1],
            "number": lambda: int(name),
            "word": lambda: _CONSTANTS[name],
        }
        if token.kind not in literals:
            raise TemplateFailed(f"unexpected {name!r}")
        constant = literals[token.kind]()
        return lambda _: constant

    def _call(self, name: str, arguments: list[_Value]) -> _Value:
        function = self._functions.get(name)
        if function is None:
            raise TemplateFailed(
                f"no function {name}; expected one of {', '.join(self._functions)}"
            )
        try:
            inspect.signature(function).bind(*arguments)
        except TypeError:
            raise TemplateFailed(f"{name}: wrong number of arguments: {len(arguments)}") from None
        if name in LAZY:
            return lambda scope: function(*[partial(argument, scope) for argument in arguments])
        return lambda scope: function(*[argument(scope) for argument in arguments])


def _unescaped(match: re.Match[str]) -> str:
    if match[4]:
        raise TemplateFailed(f"unknown escape {match[0]!r} in a text")
    return _ESCAPED[match[1]] if match[1] else chr(int(match[2] or match[3], 16))


def _variable(scope: _Scope, name: str) -> Any:
    if name not in scope.variables:
        raise TemplateFailed(f"undefined variable {name}")
    return scope.variables[name]


def _field(value: _Value, name: str) -> _Value:
    return lambda scope: field(value(scope), name)


# What adds text


def _constant(part: str) -> _Emit:
    return lambda _, out: out.append(part)


def _sequence(emits: list[_Emit]) -> _Emit:
    def emit(scope: _Scope, out: list[str]) -> None:
        for each in emits:
            each(scope, out)

    return emit


def _if(names: list[str], value: _Value, body: _Emit, otherwise: _Emit) -> _Emit:
    def emit(scope: _Scope, out: list[str]) -> None:
        found = value(scope)
        inner = _Scope(scope.dot, {**scope.variables, **dict.fromkeys(names, found)})
        (body if found else otherwise)(inner, out)

    return emit


def _with(names: list[str], value: _Value, body: _Emit, otherwise: _Emit) -> _Emit:
    def emit(scope: _Scope, out: list[str]) -> None:
        found = value(scope)
        variables = {**scope.variables, **dict.fromkeys(names, found)}
        if found:
            body(_Scope(found, variables), out)
        else:
            otherwise(_Scope(scope.dot, variables), out)

    return emit


def _range(names: list[str], value: _Value, body: _Emit, otherwise: _Emit) -> _Emit:
    def emit(scope: _Scope, out: list[str]) -> None:
        pairs = list(_pairs(value(scope)))
        for pair in pairs:
            values = dict(zip(names, pair[-len(names) :], strict=True)) if names else {}
            body(_Scope(pair[1], {**scope.variables, **values}), out)
        if not pairs:
            otherwise(_Scope(scope.dot, {**scope.variables}), out)

    return emit


def _pairs(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, list):
        return iter(enumerate(value))
    if isinstance(value, dict):
        return iter(sorted(value.items()))
    if not value:
        return iter(())
    raise TemplateFailed(f"range: expected a list or a map, found {text(value)!r}")


_MAKERS: Final = {"if": _if, "with": _with, "range": _range}

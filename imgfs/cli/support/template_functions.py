"""The functions that Go's text/template and docker's command line give to templates.

Values are those of JSON. Each function raises TemplateFailed for arguments that Go would refuse.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

_MOST: Final = 10_000
"""The largest number that a function takes."""


class TemplateFailed(Exception):
    """A template is not valid, or its data does not have what it asks for."""


class Record(dict[str, Any]):
    """A mapping with known fields: to ask for another field is an error, as for a struct of Go."""


class NilMap(dict[str, Any]):
    """A map of Go that is nil: it is empty, and null in JSON."""


class NilList(list[Any]):
    """A list of Go that is nil: it is empty, and null in JSON."""


class _NoValue:
    """The value of a key that a mapping does not have."""

    def __bool__(self) -> bool:
        return False


NO_VALUE: Final = _NoValue()


def field(value: Any, name: str) -> Any:
    """Return a field of a record or a key of a mapping."""
    if isinstance(value, Record) and name not in value:
        raise TemplateFailed(f"there is no field .{name}; expected one of {', '.join(value)}")
    if not isinstance(value, dict):
        raise TemplateFailed(f"there is no field .{name} in {_kind(value)}")
    return value.get(name, NO_VALUE)


def text(value: Any) -> str:
    """Return a value as Go prints it."""
    if isinstance(value, str):
        return value
    if value is None or value is NO_VALUE:
        return "<no value>"
    if isinstance(value, list):
        return f"[{' '.join(map(text, value))}]"
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{text(value[key])}' for key in sorted(value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _kind(value: Any) -> str:
    """Return a description of the type of a value."""
    if value is None or value is NO_VALUE:
        return "an empty value"
    kinds = (
        (str, "a text"),
        (bool, "a truth value"),
        ((int, float), "a number"),
        (list, "a list"),
    )
    return next((kind for types, kind in kinds if isinstance(value, types)), "a map")


def _json(value: Any) -> str:
    """Return a value as JSON in which all that is not printable is escaped."""
    whole = json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"))
    if whole.isprintable():
        return whole
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in whole)


def _plain(value: Any) -> Any:
    """Return a value with None for what is nil, also in the fields of a record."""
    if isinstance(value, Record):
        return {name: _plain(inner) for name, inner in value.items()}
    return None if value is NO_VALUE or isinstance(value, (NilMap, NilList)) else value


def _join(values: Any, separator: Any) -> str:
    if values is None:
        return ""
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise TemplateFailed(f"join: expected a list of texts, found {_kind(values)}")
    return _text_of("join", separator).join(values)


def _split(value: Any, separator: Any) -> list[str]:
    separator = _text_of("split", separator)
    whole = _text_of("split", value)
    return whole.split(separator) if separator else list(whole)


def _truncate(value: Any, length: Any) -> str:
    return _text_of("truncate", value)[: max(_number_of("truncate", length), 0)]


def _pad(value: Any, before: Any, after: Any) -> str:
    inner = _text_of("pad", value)
    left, right = (" " * _number_of("pad", count) for count in (before, after))
    return f"{left}{inner}{right}" if inner else ""


def _title(value: Any) -> str:
    return "".join(part[:1].upper() + part[1:] if part.strip() else part for part in _words(value))


def _words(value: Any) -> list[str]:
    import re

    return re.split(r"(\s+)", _text_of("title", value))


def _len(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, (list, dict)):
        return len(value)
    if value is None:
        return 0
    raise TemplateFailed(f"len: expected a text, a list or a map, found {_kind(value)}")


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        value = _element(value, key)
    return value


def _element(value: Any, key: Any) -> Any:
    if isinstance(value, dict) and isinstance(key, str):
        return value.get(key, "")
    if isinstance(value, list) and isinstance(key, int):
        if not 0 <= key < len(value):
            raise TemplateFailed(f"index: there are {len(value)} elements, none at {key}")
        return value[key]
    raise TemplateFailed(f"index: {_kind(value)} has no element {text(key)!r}")


def _print(*values: Any) -> str:
    """Join with spaces where neither neighbour is a text, as Go's Sprint does."""
    out = ""
    for i, value in enumerate(values):
        spaced = i and not isinstance(value, str) and not isinstance(values[i - 1], str)
        out += f"{' ' if spaced else ''}{text(value)}"
    return out


def _println(*values: Any) -> str:
    return " ".join(map(text, values)) + "\n"


def _printf(form: Any, *values: Any) -> str:
    import re

    given = iter(values)

    def one(match: re.Match[str]) -> str:
        if match["verb"] == "%":
            return "%"
        value = next(given, NO_VALUE)
        if value is NO_VALUE:
            raise TemplateFailed("printf: there are fewer arguments than verbs")
        shown = _json(value) if match["verb"] == "q" else text(value)
        width = int(match["width"] or 0)
        return shown.ljust(width) if match["left"] else shown.rjust(width)

    pattern = r"%(?P<left>-?)(?P<width>[0-9]{0,4})(?P<verb>[svdq%])"
    whole = _text_of("printf", form)
    if left := re.search(r"%", re.sub(pattern, "", whole)):
        raise TemplateFailed(f"printf: expected %s, %v, %d, %q or %% in {left.string!r}")
    return re.sub(pattern, one, whole)


def _eq(first: Any, *others: Any) -> bool:
    return any(type(first) is type(other) and first == other for other in others)


def _compare(name: str, holds: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare(a: Any, b: Any) -> bool:
        if type(a) is not type(b) or not isinstance(a, (str, int)):
            raise TemplateFailed(f"{name}: {_kind(a)} and {_kind(b)} have no order")
        return holds(a, b)

    return compare


def _and(first: Callable[[], Any], *others: Callable[[], Any]) -> Any:
    """Return the first value that is empty, or else the last; evaluate none after it."""
    value = first()
    for other in others:
        value = value and other()
    return value


def _or(first: Callable[[], Any], *others: Callable[[], Any]) -> Any:
    """Return the first value that is not empty, or else the last; evaluate none after it."""
    value = first()
    for other in others:
        value = value or other()
    return value


def _text_of(function: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TemplateFailed(f"{function}: expected a text, found {_kind(value)}")
    return value


def _number_of(function: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value > _MOST:
        raise TemplateFailed(f"{function}: expected a number up to {_MOST}, found {text(value)!r}")
    return value


FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "json": _json,
    "upper": lambda value: _text_of("upper", value).upper(),
    "lower": lambda value: _text_of("lower", value).lower(),
    "title": _title,
    "join": _join,
    "split": _split,
    "truncate": _truncate,
    "pad": _pad,
    "len": _len,
    "index": _index,
    "print": _print,
    "println": _println,
    "printf": _printf,
    "eq": _eq,
    "ne": lambda a, b: not _eq(a, b),
    "lt": _compare("lt", lambda a, b: a < b),
    "le": _compare("le", lambda a, b: a <= b),
    "gt": _compare("gt", lambda a, b: a > b),
    "ge": _compare("ge", lambda a, b: a >= b),
    "and": _and,
    "or": _or,
    "not": lambda value: not value,
}
LAZY: Final = frozenset(("and", "or"))
"""The functions that take functions without parameters, and evaluate only those that they need."""
HEADER_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    **FUNCTIONS,
    **dict.fromkeys(("json", "upper", "lower", "title"), lambda head: head),
    **dict.fromkeys(("join", "split", "truncate"), lambda head, _: head),
}
"""The functions for the first line of a table, whose fields are headings: most leave them as they
are, as in docker.
"""

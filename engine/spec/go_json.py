"""JSON as Go's encoding/json reads and writes it, which determines the digests of new documents.

Writing: `dumps` returns the bytes of Marshal and `dumps_indented` those of MarshalIndent with two
spaces. A msgspec.Struct is written as a Go struct: its fields keep their order, and a field with a
default is `omitempty` (a pointer if the default is None). A plain dict is a Go map, sorted by key;
a msgspec.Raw is a json.RawMessage.

Reading: `decode` follows Unmarshal (one value, nothing after it), `decode_first` Decoder.Decode
(data after the first value is ignored). Keys of structs match in any letter case, unknown keys are
ignored, and the last of several wins; null leaves text, numbers and structs at their zero value and
empties lists and maps; missing members have their zero value; invalid UTF-8 and lone surrogates
become U+FFFD. Unlike in Go, a struct that occurs twice is not merged, and null is rejected as a
document where a struct is required.

All functions are pure and safe from any thread.
"""

import json
import re
from decimal import Decimal
from functools import cache
from math import isfinite
from typing import Any, NoReturn, TypeVar

import msgspec
from msgspec import inspect

from engine.errors import InvalidDocument, LimitExceeded

JSON_LIMIT = 20 << 20
"""The largest document that is parsed, in bytes."""
_VALUES_LIMIT = 250_000
"""The largest number of values in a document; each uses some hundred bytes of memory."""

T = TypeVar("T")

_ESCAPES = {c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}
_ESCAPED = re.compile("[<>&\u2028\u2029]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_TEXT_OR_SPACE = re.compile(r'("[^"\\]*(?:\\.[^"\\]*)*")|[ \t\n\r]+')
_SPACE = re.compile(r"[ \t\n\r]*")


# --- writing ---


def dumps(value: object) -> bytes:
    """Return `value` as json.Marshal writes it, compact.

    It may consist of Structs, dicts with text keys, lists, tuples, str, int, float, bool, None and
    Raw. Raise ValueError for NaN or an infinite number, TypeError for any other type.
    """
    parts: list[str] = []
    _write(value, parts)
    return "".join(parts).encode("utf-8", "surrogateescape")


def dumps_indented(value: object) -> bytes:
    """Return `value` as json.MarshalIndent writes it with two spaces, without a final newline."""
    return msgspec.json.format(dumps(value), indent=2)


def compact(raw: bytes) -> bytes:
    """Return valid JSON without white space and with Go's escapes; all else keeps its spelling."""
    text = _TEXT_OR_SPACE.sub(lambda found: found[1] or "", raw.decode("utf-8", "surrogateescape"))
    return _escape(text).encode("utf-8", "surrogateescape")


def _write(value: object, parts: list[str]) -> None:
    match value:
        case None:
            parts.append("null")
        case bool():
            parts.append("true" if value else "false")
        case str():
            parts.append(_quote(value))
        case int():
            parts.append(str(int(value)))
        case float():
            parts.append(_number(value))
        case list() | tuple():
            separator = "["
            for item in value:
                parts.append(separator)
                _write(item, parts)
                separator = ","
            parts.append("]" if value else "[]")
        case dict():
            _write_members(sorted(value.items()), parts)
        case msgspec.Struct():
            _write_members(_members_of(value), parts)
        case msgspec.Raw():
            parts.append(compact(bytes(value)).decode("utf-8", "surrogateescape"))
        case _:
            raise TypeError(f"cannot be written as JSON: {type(value).__name__}")


def _write_members(members: list[tuple[str, object]], parts: list[str]) -> None:
    separator = "{"
    for key, value in members:
        parts.append(f"{separator}{_quote(key)}:")
        _write(value, parts)
        separator = ","
    parts.append("}" if members else "{}")


def _members_of(struct: msgspec.Struct) -> list[tuple[str, object]]:
    values = ((field, getattr(struct, field.name)) for field in _fields(type(struct)))
    return [
        (field.encode_name, value)
        for field, value in values
        if field.required or (value is not None if field.default is None else value)
    ]


def _quote(text: str) -> str:
    return _escape(json.dumps(_SURROGATE.sub("\ufffd", text), ensure_ascii=False))


def _escape(text: str) -> str:
    return _ESCAPED.sub(lambda found: _ESCAPES[found[0]], text)


def _number(value: float) -> str:
    """Return the shortest decimal form of `value`, with an exponent below 1e-6 and from 1e21 on."""
    if not isfinite(value):
        raise ValueError(f"cannot be written as JSON: {value}")
    number = Decimal(repr(value)).normalize()
    return f"{number:f}" if -6 <= number.adjusted() < 21 else f"{number:e}"


# --- reading ---


def loads(data: bytes, subject: str, limit: int = JSON_LIMIT) -> Any:
    """Return the single JSON value in `data`, as plain Python values; `subject` names it in errors.

    Raise InvalidDocument if it is not JSON or nested too deeply, LimitExceeded if it is longer than
    `limit` bytes.
    """
    text = _text(data, subject, limit)
    value, end = _scan(text, _skip_space(text, 0), subject)
    end = _skip_space(text, end)
    if end != len(text):
        raise InvalidDocument(subject, f"there is more behind the JSON value, at character {end}")
    return value


def loads_first(data: bytes, subject: str, limit: int = JSON_LIMIT) -> Any:
    """Return the first JSON value in `data`, as `loads` does, and ignore the data after it."""
    text = _text(data, subject, limit)
    return _scan(text, _skip_space(text, 0), subject)[0]


def decode(data: bytes, type_: type[T], subject: str, limit: int = JSON_LIMIT) -> T:
    """Return the single JSON value in `data` as a `type_`; raise as `loads` and `convert` do."""
    return convert(loads(data, subject, limit), type_, subject)


def decode_first(data: bytes, type_: type[T], subject: str, limit: int = JSON_LIMIT) -> T:
    """Return the first JSON value in `data` as a `type_`; raise as `decode` does."""
    return convert(loads_first(data, subject, limit), type_, subject)


def convert(value: Any, type_: type[T], subject: str) -> T:
    """Return a result of `loads` as a `type_`.

    Raise InvalidDocument, which names the part of the wrong type.
    """
    kind = _kind(type_)  # type: ignore[arg-type]  # mypy does not take a type[T] for hashable
    if value is None and isinstance(kind, inspect.StructType):
        raise InvalidDocument(subject, "it is null")
    try:
        return msgspec.convert(_shape(value, kind), type_)
    except msgspec.ValidationError as error:
        raise InvalidDocument(subject, str(error)) from error
    except RecursionError:
        _too_deep(subject)


def members(data: bytes, subject: str, limit: int = JSON_LIMIT) -> dict[str, msgspec.Raw]:
    """Return the members of the JSON object in `data`, unparsed (map[string]json.RawMessage), in
    the order of their last occurrences.

    Raise the errors of `loads`, and InvalidDocument if it is not an object.
    """
    if not isinstance(loads(data, subject, limit), dict):
        raise InvalidDocument(subject, "it is not a JSON object")
    text = data.decode("utf-8", "surrogateescape")
    found: dict[str, msgspec.Raw] = {}
    position = _skip_space(text, text.index("{") + 1)
    while text[position] != "}":
        key, position = _scan(text, position, subject)
        start = _skip_space(text, text.index(":", position) + 1)
        _, position = _scan(text, start, subject)
        raw = text[start:position].encode("utf-8", "surrogateescape")
        key = _SURROGATE.sub("\ufffd", key)
        found.pop(key, None)
        found[key] = msgspec.Raw(raw)
        position = _skip_space(text, position)
        if text[position] == ",":
            position = _skip_space(text, position + 1)
    return found


def members_of(data: bytes, type_: type[msgspec.Struct], subject: str) -> dict[str, msgspec.Raw]:
    """Return all members as `members` does, those of a struct of this type by its names.

    The names match in any letter case, and the last of several wins, as in `decode`.
    """
    names = _names(type_)
    found: dict[str, msgspec.Raw] = {}
    for key, raw in members(data, subject).items():
        field = names.get(key) or names.get(_fold(key))
        name = field.encode_name if field else key
        keeps = field is not None and isinstance(field.type, _KEEPS_ON_NULL)
        if not (keeps and name in found and bytes(raw) == b"null"):
            found.pop(name, None)
            found[name] = raw
    return found


def _text(data: bytes, subject: str, limit: int) -> str:
    if len(data) > limit:
        raise LimitExceeded(subject, "bytes of JSON", limit, len(data))
    values = sum(map(data.count, (b",", b"[", b"{")))
    if values > _VALUES_LIMIT:
        raise LimitExceeded(subject, "values of JSON", _VALUES_LIMIT, values)
    return _SURROGATE.sub("\ufffd", data.decode("utf-8", "surrogateescape"))


def _skip_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position


def _scan(text: str, position: int, subject: str) -> tuple[Any, int]:
    try:
        value, end = _DECODER.raw_decode(text, position)
        if _SURROGATE_ESCAPE.search(text, position, end):
            value = _without_surrogates(value)
    except ValueError as error:
        raise InvalidDocument(subject, f"not valid JSON: {error}") from error
    except RecursionError:
        _too_deep(subject)
    return value, end


def _too_deep(subject: str) -> NoReturn:
    raise InvalidDocument(subject, "not valid JSON: nested too deeply") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a dict in the order of the last occurrences of the keys, as in Go."""
    found = dict(pairs)
    if len(found) != len(pairs):
        found = {}
        for key, value in pairs:
            found.pop(key, None)
            found[key] = value
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse_constant)


def _without_surrogates(value: Any) -> Any:
    match value:
        case str():
            return _SURROGATE.sub("\ufffd", value)
        case list():
            return [_without_surrogates(item) for item in value]
        case dict():
            return _object(
                [(_SURROGATE.sub("\ufffd", k), _without_surrogates(v)) for k, v in value.items()]
            )
        case _:
            return value


# --- fitting values to types ---

_LISTS = (inspect.ListType, inspect.VarTupleType)
_KEEPS_ON_NULL = (inspect.StrType, inspect.IntType, inspect.BoolType, inspect.StructType)


def _shape(value: Any, kind: inspect.Type) -> Any:
    """Return `value` with keys, nulls and absent members as msgspec expects them.

    A value of the wrong type is returned unchanged, for msgspec to reject.
    """
    match value, kind:
        case None, _:
            return _zero(kind)
        case dict(), inspect.StructType():
            return _shape_struct(value, kind)
        case dict(), inspect.DictType():
            return {key: _shape(item, kind.value_type) for key, item in value.items()}
        case list(), inspect.ListType() | inspect.VarTupleType():
            return [_shape(item, kind.item_type) for item in value]
        case dict() | list(), inspect.UnionType():
            takes = (inspect.StructType, inspect.DictType) if isinstance(value, dict) else _LISTS
            return next((_shape(value, t) for t in kind.types if isinstance(t, takes)), value)
        case _:
            return value


def _shape_struct(value: dict[str, Any], kind: inspect.StructType) -> dict[str, Any]:
    names = _names(kind.cls)
    shaped: dict[str, Any] = {f.encode_name: _zero(f.type) for f in kind.fields if f.required}
    for key, item in value.items():
        field = names.get(key) or names.get(_fold(key))
        if field is not None and not (item is None and isinstance(field.type, _KEEPS_ON_NULL)):
            shaped[field.encode_name] = _shape(item, field.type)
    return shaped


@cache
def _kind(type_: Any) -> inspect.Type:
    return inspect.type_info(type_)


@cache
def _fields(struct: type[msgspec.Struct]) -> tuple[inspect.Field, ...]:
    kind = _kind(struct)
    assert isinstance(kind, inspect.StructType)
    return kind.fields


@cache
def _names(struct: type[msgspec.Struct]) -> dict[str, inspect.Field]:
    """Return the fields of a struct by their names and by their case-folded names."""
    folded = {_fold(field.encode_name): field for field in _fields(struct)}
    return folded | {field.encode_name: field for field in _fields(struct)}


def _fold(key: str) -> str:
    """Return the key in lower case as Go folds ASCII names, long s and Kelvin sign included."""
    return key.replace("ſ", "s").lower()


def _zero(kind: inspect.Type) -> Any:
    match kind:
        case inspect.StrType():
            return ""
        case inspect.BoolType():
            return False
        case inspect.IntType():
            return 0
        case inspect.ListType() | inspect.VarTupleType():
            return []
        case inspect.DictType():
            return {}
        case inspect.StructType():
            return _shape_struct({}, kind)
        case _:
            return None

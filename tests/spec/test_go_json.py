"""engine.go_json: Go's bytes out, Go's leniency in."""

import json
from contextlib import suppress
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidDocument, LimitExceeded
from engine.spec import go_json


class Inner(msgspec.Struct, frozen=True):
    name: str
    tags: tuple[str, ...] = ()


class ArchiveDecompressor(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    size_in_bytes: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
    note: str = ""
    inner: Inner
    maybe: Inner | None = None
    count: int | None = None
    names: tuple[str, ...] | None = None
    labels: dict[str, str] = {}
    flag: bool = False
    anything: Any = None


# --- writing ---


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (0, "0"),
        (-(2**63), "-9223372036854775808"),
        (2**64, "18446744073709551616"),
        ("", '""'),
        ([], "[]"),
        ((), "[]"),
        ({}, "{}"),
        ([1, [2, []], {"a": {}}], '[1,[2,[]],{"a":{}}]'),
        (1.0, "1"),
        (-2.5, "-2.5"),
        (0.0, "0"),
        (-0.0, "-0"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.5e300, "1.5e+300"),
        (123456789012345678901.0, "123456789012345680000"),
        (1e-6, "0.000001"),
        (1e-7, "1e-7"),
        (1.25e-10, "1.25e-10"),
        (5e-324, "5e-324"),
    ],
)
def test_values(value: object, text: str) -> None:
    assert go_json.dumps(value).decode() == text


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("<a href='x'>&", r"\u003ca href='x'\u003e\u0026"),
        ("\u2028\u2029\u202a", "\\u2028\\u2029\u202a"),
        ('"\\/', r"\"\\/"),
        ("\b\f\n\r\t", r"\b\f\n\r\t"),
        ("\0\x01\x0b\x1f\x7f\x80", "\\u0000\\u0001\\u000b\\u001f\x7f\x80"),
        ("Jérôme 🐳", "Jérôme 🐳"),
        ("a\ud800b\udcff", "a\ufffdb\ufffd"),
    ],
)
def test_text_is_escaped_as_go_does(text: str, written: str) -> None:
    assert go_json.dumps(text) == f'"{written}"'.encode()
    assert go_json.dumps({text: 1}) == f'{{"{written}":1}}'.encode()


def test_maps_are_sorted_by_the_bytes_of_their_keys() -> None:
    value = {"b": 1, "B": 2, "": 3, "é": 4, "\uffff": 5, "🐳": 6, "a<": 7, "a": 8}
    keys = list(json.loads(go_json.dumps(value)))
    assert keys == sorted(value, key=str.encode)


def test_structs_keep_their_order_and_leave_out_what_is_empty() -> None:
    bare = ArchiveDecompressor(size_in_bytes=0, inner=Inner(""))
    assert go_json.dumps(bare) == b'{"sizeInBytes":0,"inner":{"name":""}}'
    full = ArchiveDecompressor(
        size_in_bytes=1,
        note="n",
        inner=Inner("i", ("t",)),
        maybe=Inner(""),
        count=0,
        names=(),
        labels={"z": "1", "a": "2"},
        flag=True,
        anything={"y": 1, "x": 2},
    )
    assert go_json.dumps(full).decode() == (
        '{"sizeInBytes":1,"note":"n","inner":{"name":"i","tags":["t"]},"maybe":{"name":""},'
        '"count":0,"names":[],"labels":{"a":"2","z":"1"},"flag":true,"anything":{"x":2,"y":1}}'
    )


def test_indented_as_marshal_indent() -> None:
    value = {"b": [], "a": {}, "c": [1, {"x": "<é, : [\n"}]}
    assert go_json.dumps_indented(value).decode() == (
        '{\n  "a": {},\n  "b": [],\n  "c": [\n    1,\n    {\n'
        '      "x": "\\u003cé, : [\\n"\n    }\n  ]\n}'
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [float("-inf")]])
def test_numbers_that_json_does_not_have(value: object) -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        go_json.dumps(value)


@pytest.mark.parametrize("value", [b"x", {1, 2}, object(), [object]])
def test_values_that_json_does_not_have(value: object) -> None:
    with pytest.raises(TypeError, match="cannot be written"):
        go_json.dumps(value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-(2**53), 2**53)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(JSON)
def test_what_was_written_reads_back(value: Any) -> None:
    written = go_json.dumps(value)
    assert go_json.loads(written, "it") == value
    assert go_json.loads(go_json.dumps_indented(value), "it") == value
    assert go_json.compact(go_json.dumps_indented(value)) == written
    assert not set(written) & set(b"<>&")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_have_the_shortest_digits(value: float) -> None:
    written = go_json.dumps(value).decode()
    assert float(written) == value
    assert len(written.strip("-").replace(".", "").partition("e")[0].strip("0")) <= 17


# --- raw values ---


def test_raw_values_are_compacted_and_escaped_but_stay_as_they_are_spelt() -> None:
    raw = msgspec.Raw(
        b'{ "b" : 1.50 ,\n"a":[ 1E5,\t" <\\/\\u003c\\" \xe2\x80\xa8 \xff\\ud800"\r] }'
    )
    assert go_json.dumps({"k": raw}) == (
        b'{"k":{"b":1.50,"a":[1E5," \\u003c\\/\\u003c\\" \\u2028 \xff\\ud800"]}}'
    )


def test_members_in_their_own_spelling() -> None:
    data = b' { "b" : [ 1 , "}" ] , "a\\"":1.0,"b":{"x" : "\xff"},"\xff\\ud800":null } '
    found = {key: bytes(raw) for key, raw in go_json.members(data, "it").items()}
    assert found == {"b": b'{"x" : "\xff"}', 'a"': b"1.0", "\ufffd\ufffd": b"null"}
    assert go_json.members(b"{ }", "it") == {}


@pytest.mark.parametrize("data", [b"[]", b"null", b"1", b"", b"{", b'{"a":1}x', b'{"a":1,}'])
def test_members_of_what_has_none(data: bytes) -> None:
    with pytest.raises(InvalidDocument):
        go_json.members(data, "it")


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), JSON, max_size=4))
def test_members_written_again(value: dict[str, Any]) -> None:
    spaced = json.dumps(value, indent=1, ensure_ascii=False).encode()
    assert json.loads(go_json.dumps(go_json.members(spaced, "it"))) == value


# --- reading ---


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"{",
        b'{"a":1,}',
        b"[1,]",
        b"{'a':1}",
        b"[1] [2]",
        b"[1]]",
        b"\xef\xbb\xbf{}",
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"01",
        b"+1",
        b"1.",
        b".5",
        b'"\x01"',
        b'"\\x"',
        b'"\\u12"',
        b"[1]\x0b",
        b"\x00",
        b"// x\n1",
        b"tru",
        "[１]".encode(),
        b"9" * 5000,
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    ],
)
def test_what_is_not_json(data: bytes) -> None:
    with pytest.raises(InvalidDocument) as caught:
        go_json.loads(data, "the subject")
    assert caught.value.subject == "the subject"
    assert "\n" not in str(caught.value)


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_give_a_value_or_the_error(data: bytes) -> None:
    for read in (go_json.loads, go_json.loads_first, go_json.members):
        with suppress(InvalidDocument):
            read(data, "it")


def test_limit() -> None:
    assert go_json.loads(b"[1]", "it", limit=3) == [1]
    with pytest.raises(LimitExceeded) as caught:
        go_json.loads(b"[1] ", "it", limit=3)
    assert (caught.value.limit, caught.value.found) == (3, 4)


def test_invalid_utf8_is_replaced_byte_by_byte() -> None:
    assert go_json.loads(b'["a\xff\xe2\x82b","\xed\xa0\x80"]', "it") == [
        "a\ufffd\ufffd\ufffdb",
        "\ufffd\ufffd\ufffd",
    ]


def test_lone_surrogates_are_replaced() -> None:
    data = rb'{"\ud800":["\udc00x","\ud83d\ude00",{"\uD800y":1}]}'
    assert go_json.loads(data, "it") == {"\ufffd": ["\ufffdx", "😀", {"\ufffdy": 1}]}


def test_first_of_several_values() -> None:
    assert go_json.loads_first(b' [1] [2] \xff {"', "it") == [1]
    with pytest.raises(InvalidDocument):
        go_json.loads_first(b"[1", "it")


def read(text: str) -> ArchiveDecompressor:
    return go_json.decode(text.encode(), ArchiveDecompressor, "it")


def test_keys_match_in_any_letter_case_and_the_last_wins() -> None:
    assert read('{"SIZEINBYTES":7,"Note":"x","Inner":{"NAME":"y"}}') == ArchiveDecompressor(
        size_in_bytes=7, note="x", inner=Inner("y")
    )
    assert read('{"note":"a","NOTE":"b"}').note == "b"
    assert read('{"NOTE":"b","note":"a"}').note == "a"
    assert read('{"note":"a","NOTE":"b","note":"c"}').note == "c"
    assert read('{"ſizeInBytes":1}').size_in_bytes == 1


def test_keys_of_maps_keep_their_letter_case() -> None:
    assert read('{"labels":{"A":"1","a":"2"}}').labels == {"A": "1", "a": "2"}


def test_what_is_missing_unknown_or_null() -> None:
    empty = ArchiveDecompressor(size_in_bytes=0, inner=Inner(""))
    assert read("{}") == empty
    assert read('{"unknown":[{"note":1}],"":2}') == empty
    assert read(
        '{"sizeInBytes":null,"note":null,"inner":null,"maybe":null,"count":null,"names":null,'
        '"labels":null,"flag":null,"anything":null}'
    ) == empty  # fmt: skip


def test_null_changes_no_text_but_empties_lists() -> None:
    data = '{"note":"a","Note":null,"inner":{"name":"n","tags":["t"],"Tags":null}}'
    assert read(data) == ArchiveDecompressor(size_in_bytes=0, note="a", inner=Inner("n"))
    assert read('{"maybe":{},"Maybe":null}').maybe is None


def test_nulls_in_lists_and_maps_are_zero_values() -> None:
    assert read('{"names":["a",null],"labels":{"x":null}}') == ArchiveDecompressor(
        size_in_bytes=0, inner=Inner(""), names=("a", ""), labels={"x": ""}
    )


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "[]",
        "1",
        '"x"',
        '{"sizeInBytes":"1"}',
        '{"sizeInBytes":1.0}',
        '{"sizeInBytes":1e3}',
        '{"sizeInBytes":1.5}',
        '{"sizeInBytes":true}',
        '{"sizeInBytes":9223372036854775808}',
        '{"sizeInBytes":-9223372036854775809}',
        '{"note":1}',
        '{"note":["x"]}',
        '{"inner":[]}',
        '{"inner":"x"}',
        '{"maybe":[]}',
        '{"names":{}}',
        '{"names":[1]}',
        '{"labels":[]}',
        '{"labels":{"a":1}}',
        '{"flag":"true"}',
        '{"flag":0}',
        '{} {"a":1}',
    ],
)
def test_what_does_not_fit_the_type(text: str) -> None:
    with pytest.raises(InvalidDocument):
        read(text)


def test_the_error_says_where() -> None:
    with pytest.raises(InvalidDocument, match=r"it: .*inner\.tags\[1\]"):
        read('{"inner":{"tags":["a",7]}}')


def test_largest_and_smallest_size() -> None:
    assert read('{"sizeInBytes":9223372036854775807}').size_in_bytes == 2**63 - 1
    assert read('{"sizeInBytes":-9223372036854775808}').size_in_bytes == -(2**63)


def test_decode_first() -> None:
    assert go_json.decode_first(b'[{"name":"a"}]garbage', list[Inner], "it") == [Inner("a")]
    assert go_json.decode_first(b"null", list[Inner], "it") == []


def test_members_are_in_the_order_of_their_last_occurrences() -> None:
    found = go_json.members(b'{"a":1,"b":2,"a":3}', "it")
    assert [(key, bytes(raw)) for key, raw in found.items()] == [("b", b"2"), ("a", b"3")]

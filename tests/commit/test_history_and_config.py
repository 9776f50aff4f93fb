"""History and config are made to fit the layers, byte for byte as BuildKit makes them."""

import json

import pytest

from engine.commit import config, epoch, history
from engine.commit.config import InvalidConfig
from engine.commit.history import COMMENT, LayerNote
from engine.spec.oci import History, Platform

ONE, TWO, THREE = (f"2020-01-0{day}T00:00:00Z" for day in (1, 2, 3))
NOTES = (LayerNote("first", "2020-02-01T00:00:00Z"), LayerNote("second", "2020-02-02T00:00:00Z"))


def entry(created: str = "", by: str = "", empty: bool = False, comment: str = "") -> History:
    return History(created=created, created_by=by, empty_layer=empty, comment=comment)


HISTORIES = {
    "fits": ([entry(ONE, "a"), entry(TWO, "b")], 2, [entry(ONE, "a"), entry(TWO, "b")]),
    "none at all": (
        [],
        2,
        [
            entry(NOTES[0].created, "first", comment=COMMENT),
            entry(NOTES[1].created, "second", comment=COMMENT),
        ],
    ),
    "one is missing": (
        [entry(ONE, "a"), entry(TWO, "env", True)],
        2,
        [
            entry(ONE, "a"),
            entry(TWO, "env", True),
            entry(NOTES[1].created, "second", False, COMMENT),
        ],
    ),
    "too many": (
        [entry(ONE, "a"), entry(TWO, "b"), entry(THREE, "c")],
        1,
        [entry(ONE, "a"), entry(TWO, "b", True), entry(THREE, "c", True)],
    ),
    "a layer without a time has its note's": (
        [entry("", "a"), entry(TWO, "b")],
        2,
        [entry(NOTES[0].created, "a"), entry(TWO, "b")],
    ),
    "an empty one has the first new layer's": (
        [entry(ONE, "a"), entry("", "env", True), entry(THREE, "b")],
        2,
        [entry(ONE, "a"), entry(THREE, "env", True), entry(THREE, "b")],
    ),
    "else the last one's": (
        [entry(ONE, "a"), entry("", "env", True), entry("", "cmd", True)],
        1,
        [entry(ONE, "a"), entry(ONE, "env", True), entry(ONE, "cmd", True)],
    ),
    "nothing has a time": ([entry("", "env", True)], 0, [entry("", "env", True)]),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_a_history_is_made_to_fit(name: str) -> None:
    given, layers, expected = HISTORIES[name]
    assert history.normalized(given, NOTES[:layers]) == tuple(expected)


def test_without_any_note_no_time_is_made_up() -> None:
    assert history.normalized([], [LayerNote()]) == (
        entry("", "created by buildkit", comment=COMMENT),
    )


def test_dropped_layers_are_empty_entries() -> None:
    given = [entry(ONE, "a"), entry(ONE, "env", True), entry(TWO, "b"), entry(THREE, "c")]
    found = history.without_layers(given, [1])
    assert [e.empty_layer for e in found] == [False, True, True, False]


DIGEST = "sha256:" + "1" * 64
CONFIG = b'{ "os" : "linux","architecture":"amd64" , "x":{"b":1, "a":"<\\u00e9>"} }'


def test_a_config_is_patched_as_go_writes_it() -> None:
    assert (
        config.patched(CONFIG, [DIGEST], [entry(ONE, "a <b>")])
        == (
            '{"architecture":"amd64","created":"2020-01-01T00:00:00Z",'
            '"history":[{"created":"2020-01-01T00:00:00Z","created_by":"a \\u003cb\\u003e"}],'
            '"os":"linux","rootfs":{"type":"layers","diff_ids":["' + DIGEST + '"]},'
            '"x":{"b":1,"a":"\\u003c\\u00e9\\u003e"}}'
        ).encode()
    )


def test_what_is_not_there_is_null() -> None:
    assert config.patched(b"{}", [], []) == (
        b'{"created":null,"history":null,"rootfs":{"type":"layers","diff_ids":null}}'
    )


def test_the_last_time_counts_and_not_the_newest() -> None:
    found = json.loads(config.patched(b"{}", [], [entry(THREE), entry(ONE), entry("")]))
    assert found["created"] == ONE
    assert json.loads(config.patched(b'{"created":"x"}', [], []))["created"] == "x"


def test_an_inline_cache() -> None:
    given = b'{"moby.buildkit.cache.v0":"old"}'
    assert "moby.buildkit.cache.v0" not in json.loads(config.patched(given, [], []))
    found = json.loads(config.patched(given, [], [], b"{}"))
    assert found["moby.buildkit.cache.v0"] == "e30="


def test_the_default_config() -> None:
    assert config.default_config(Platform("arm", "linux", variant="v7")) == (
        b'{"architecture":"arm","os":"linux","variant":"v7",'
        b'"config":{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],'
        b'"WorkingDir":"/"},"rootfs":{"type":"layers","diff_ids":null}}'
    )


def test_the_default_config_of_other_platforms() -> None:
    windows = Platform("amd64", "windows", os_version="10.0.20348", os_features=("win32k",))
    assert config.default_config(windows) == (
        b'{"architecture":"amd64","os":"windows","os.version":"10.0.20348",'
        b'"os.features":["win32k"],"config":{"WorkingDir":"/"},'
        b'"rootfs":{"type":"layers","diff_ids":null}}'
    )
    assert b"variant" not in config.default_config(Platform("arm64", "linux", variant="v8"))


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (b"null", "null config"),
        (b"{", "invalid json"),
        (b"[]", "invalid json"),
        (b'{"os":"linux"}', "missing architecture"),
        (b'{"architecture":"amd64"}', "missing os"),
        (b'{"rootfs":{}}', "missing os"),
        (b'{"os":"linux","architecture":"a","created":"yesterday"}', "invalid image config"),
    ],
)
def test_a_config_that_makes_no_image(given: bytes, kind: str) -> None:
    with pytest.raises(InvalidConfig, match=kind):
        config.check(given)


EPOCH = 1_577_923_200  # 2020-01-02T00:00:00Z


def test_an_epoch_clamps_what_is_later_or_missing() -> None:
    given = [entry(ONE, "a"), entry(THREE, "b"), entry("", "c")]
    assert [e.created for e in epoch.clamp_history(given, [], EPOCH)] == [ONE, TWO, TWO]


def test_an_epoch_leaves_what_comes_from_the_base() -> None:
    base = [entry(THREE, "a"), entry(THREE, "b")]
    found = epoch.clamp_history([*base, entry(THREE, "c")], base, EPOCH)
    assert [e.created for e in found] == [THREE, THREE, TWO]
    found = epoch.clamp_history([entry(THREE, "other"), base[1]], base, EPOCH)
    assert [e.created for e in found] == [TWO, TWO]


@pytest.mark.parametrize(("created", "expected"), [(ONE, ONE), (THREE, TWO)])
def test_an_epoch_clamps_created(created: str, expected: str) -> None:
    given = json.dumps({"created": created}).encode()
    assert json.loads(epoch.clamp_created(given, EPOCH)) == {"created": expected}
    assert epoch.clamp_created(b"{}", EPOCH) == b"{}"


def test_an_epoch_and_a_fraction_of_a_second() -> None:
    assert epoch.clamp("2020-01-02T00:00:00.5Z", EPOCH) == TWO
    assert epoch.clamp("2020-01-01T23:59:59.5Z", EPOCH) == "2020-01-01T23:59:59.5Z"
    assert epoch.clamp("", 0) == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize("text", [b'"\xff"', b'"\\ud800"', b"1e999", b"[" * 600 + b"]" * 600])
def test_a_member_that_is_not_changed_keeps_its_bytes(text: bytes) -> None:
    given = b'{"os":"linux","x":' + text + b"}"
    assert b'"x":' + text in config.patched(given, [], [])
    assert epoch.clamp_created(given, EPOCH) == given


def test_a_history_is_found_under_any_name_that_go_takes() -> None:
    assert config.history_of(b'{"History":[{"created":"%s"}]}' % ONE.encode()) == (entry(ONE),)
    assert config.history_of(b'{"history":null}') == ()


@pytest.mark.parametrize("created", [b'"yesterday"', b"5", b"[1]", b'{"a":1}'])
def test_an_epoch_and_a_time_that_is_none(created: bytes) -> None:
    with pytest.raises(InvalidConfig, match="creation time"):
        epoch.clamp_created(b'{"created":%s}' % created, EPOCH)

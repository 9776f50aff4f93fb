"""engine.rfc3339: times as Go reads and writes them."""

import pytest

from engine.spec import rfc3339


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:01.999999999Z", 1),
        ("2015-10-31T22:22:56.015925234Z", 1446330176),
        ("2013-06-13T14:03:50.821769-07:00", 1371157430),
        ("1969-12-31T23:59:59-00:30", 1799),
        ("2016-02-29T12:00:00+05:30", 1456727400),
        ("9999-12-31T23:59:59Z", 253402300799),
    ],
)
def test_times_in_whole_seconds(text: str, seconds: int) -> None:
    assert rfc3339.epoch_seconds(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2015-10-31",
        "2015-10-31 22:22:56Z",
        "2015-10-31T22:22:56",
        "2015-10-31T22:22:56Z\n",
        "2015-10-31t22:22:56z",
        "2015-02-29T00:00:00Z",
        "2015-13-01T00:00:00Z",
        "2015-00-01T00:00:00Z",
        "2015-01-00T00:00:00Z",
        "2015-01-01T24:00:00Z",
        "2015-01-01T00:60:00Z",
        "2015-01-01T00:00:60Z",
        "2015-01-01T00:00:00.Z",
        "2015-01-01T00:00:00+24:00",
        "2015-01-01T00:00:00+00:60",
        "2015-01-01T00:00:00+0000",
        "٢٠١٥-01-01T00:00:00Z",
    ],
)
def test_what_is_no_time(text: str) -> None:
    assert rfc3339.epoch_seconds(text) == 0
    for read in (rfc3339.normalize, rfc3339.nanoseconds):
        with pytest.raises(ValueError, match="not an RFC 3339 time"):
            read(text)


@pytest.mark.parametrize(
    "text",
    [
        rfc3339.ZERO,
        "0000-02-29T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "1970-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
    ],
)
def test_times_outside_1970_to_9999_are_0_seconds(text: str) -> None:
    assert rfc3339.epoch_seconds(text) == 0
    assert rfc3339.normalize(text) == text


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("2015-10-31T22:22:56.015925234Z", 1446330176_015925234),
        ("2015-10-31T22:22:56.0159252349+00:01", 1446330116_015925234),
        ("1969-12-31T23:59:59.9Z", -100_000_000),
        ("9999-12-31T23:59:59-00:01", 253402300859 * 10**9),
        (rfc3339.ZERO, -62135596800 * 10**9),
        ("0000-02-29T00:00:00Z", -62162121600 * 10**9),
    ],
)
def test_any_time_in_nanoseconds(text: str, nanoseconds: int) -> None:
    assert rfc3339.nanoseconds(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("2015-04-17T22:01:12.627568420Z", "2015-04-17T22:01:12.62756842Z"),
        ("2015-04-17T22:01:12.000Z", "2015-04-17T22:01:12Z"),
        ("2015-04-17T22:01:12.1234567899Z", "2015-04-17T22:01:12.123456789Z"),
        ("2015-04-17T22:01:12.5+00:00", "2015-04-17T22:01:12.5Z"),
        ("2015-04-17T22:01:12-00:00", "2015-04-17T22:01:12Z"),
        ("2015-04-17T22:01:12.50+02:00", "2015-04-17T22:01:12.5+02:00"),
    ],
)
def test_normalize(text: str, normal: str) -> None:
    assert rfc3339.normalize(text) == normal
    assert rfc3339.normalize(normal) == normal


@pytest.mark.parametrize(("digits", "seconds"), [("0", 0), ("253402300799", 253402300799)])
def test_seconds_that_are_given(digits: str, seconds: int) -> None:
    assert rfc3339.seconds(digits) == seconds


@pytest.mark.parametrize(
    ("digits", "reason"),
    [
        ("", "expected seconds since 1970"),
        ("-1", "expected seconds since 1970"),
        ("\u0663", "expected seconds since 1970"),
        ("253402300800", "expected a time up to the year 9999"),
        ("1" * 5000, "expected a time up to the year 9999"),
    ],
)
def test_seconds_that_are_none(digits: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}, found"):
        rfc3339.seconds(digits)

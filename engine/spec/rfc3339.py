"""Times in the text format of Go's time.Time in JSON: RFC 3339 with up to nine fractional digits.

No function reads a clock. A time in a document remains text, since its offset and fraction are part
of the digest of the document.
"""

import re
from datetime import UTC, datetime

from engine.errors import printable
from engine.units import NS_PER_SECOND

ZERO = "0001-01-01T00:00:00Z"
"""Go's zero time, which it writes for a missing time."""

LATEST = 253_402_300_799
"""The last second since 1970 that has a text: the end of the year 9999."""

_DIGITS = 18
"""Digits of a number that is worth reading."""

_CYCLE = 146_097 * 86_400
"""Seconds of 400 years, after which the calendar repeats itself."""

_TIME = (
    r"(?P<clock>(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"
    r"T(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2}))"
    r"(?:\.(?P<fraction>[0-9]+))?"
    r"(?:Z|(?P<sign>[+-])(?P<zone_hour>[0-9]{2}):(?P<zone_minute>[0-9]{2}))"
)


def epoch_seconds(text: str) -> int:
    """Return whole seconds since 1970 (UTC); 0 for an invalid time or one outside 1970 to 9999."""
    time = _read(text)
    seconds = _seconds(time) if time else 0
    return seconds if 0 <= seconds <= LATEST else 0


def seconds(digits: str) -> int:
    """Return seconds since 1970 that are given as decimal digits.

    Raise ValueError for other text, and for a time after the year 9999.
    """
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"expected seconds since 1970, found {printable(digits)}")
    if len(digits) > _DIGITS or int(digits) > LATEST:
        raise ValueError(f"expected a time up to the year 9999, found {printable(digits)}")
    return int(digits)


def nanoseconds(text: str) -> int:
    """Return nanoseconds since 1970 (UTC), negative before it.

    Raise ValueError for text that Go rejects.
    """
    time = _valid(text)
    return _seconds(time) * NS_PER_SECOND + int((time["fraction"] or "")[:9].ljust(9, "0"))


def text(seconds: int) -> str:
    """Return the UTC text of a time in whole seconds since 1970; "" for 0, which means no time."""
    if not seconds:
        return ""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def normalize(text: str) -> str:
    """Return a time as Go writes it after reading: `…:50.820-00:00` becomes `…:50.82Z`.

    The offset is kept. Raise ValueError for text that Go rejects.
    """
    time = _valid(text)
    fraction = (time["fraction"] or "")[:9].rstrip("0")
    zone = f"{time['sign']}{time['zone_hour']}:{time['zone_minute']}"
    is_utc = time["sign"] is None or zone[1:] == "00:00"
    return f"{time['clock']}{'.' if fraction else ''}{fraction}{'Z' if is_utc else zone}"


def _valid(text: str) -> re.Match[str]:
    time = _read(text)
    if time is None:
        raise ValueError(f"not an RFC 3339 time: {text!r}")
    return time


def _read(text: str) -> re.Match[str] | None:
    time = re.fullmatch(_TIME, text)
    if time is None or not 1 <= int(time["month"]) <= 12:
        return None
    import calendar  # late: it takes as long to import as this module

    in_range = (
        1 <= int(time["day"]) <= calendar.monthrange(int(time["year"]), int(time["month"]))[1]
        and int(time["hour"]) < 24
        and int(time["minute"]) < 60
        and int(time["second"]) < 60
        and int(time["zone_hour"] or 0) < 24
        and int(time["zone_minute"] or 0) < 60
    )
    return time if in_range else None


def _seconds(time: re.Match[str]) -> int:
    import calendar

    cycles, year = divmod(int(time["year"]) - 2000, 400)  # calendar knows no year 0
    fields = (int(time[name]) for name in ("month", "day", "hour", "minute", "second"))
    offset = int(time["zone_hour"] or 0) * 3600 + int(time["zone_minute"] or 0) * 60
    local = calendar.timegm((2000 + year, *fields)) + cycles * _CYCLE
    return local + (offset if time["sign"] == "-" else -offset)

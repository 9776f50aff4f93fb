"""Times as Go's time.Time reads and writes them in JSON: RFC 3339, up to nine digits of fraction.

Only the text forms live here; nothing reads a clock. A time stays text wherever it is part of a
document, since its offset and its fraction decide the document's digest.
"""

import re
from datetime import UTC, datetime

ZERO = "0001-01-01T00:00:00Z"
"""Go's zero time, which it writes where a document has no time."""

_YEAR_10000 = 253_402_300_800

_TIME = (
    r"(?P<clock>(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"
    r"T(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2}))"
    r"(?:\.(?P<fraction>[0-9]+))?"
    r"(?:Z|(?P<sign>[+-])(?P<zone_hour>[0-9]{2}):(?P<zone_minute>[0-9]{2}))"
)


def epoch_seconds(text: str) -> int:
    """Whole seconds since 1970 (UTC); 0 for no time, one before 1970 or one beyond year 9999."""
    time = _read(text)
    if time is None or int(time["year"]) < 1969:
        return 0
    import calendar

    fields = (int(time[name]) for name in ("year", "month", "day", "hour", "minute", "second"))
    offset = int(time["zone_hour"] or 0) * 3600 + int(time["zone_minute"] or 0) * 60
    seconds = calendar.timegm(tuple(fields)) + (offset if time["sign"] == "-" else -offset)
    return seconds if 0 <= seconds < _YEAR_10000 else 0


def text(seconds: int) -> str:
    """The text of a time in whole seconds since 1970, in UTC; "" for 0, which is no time."""
    if not seconds:
        return ""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def normalize(text: str) -> str:
    """The text that Go writes for a time that it has read: `…:50.820-00:00` becomes `…:50.82Z`.

    The offset is kept. ValueError for what Go refuses to read.
    """
    time = _read(text)
    if time is None:
        raise ValueError(f"not an RFC 3339 time: {text!r}")
    fraction = (time["fraction"] or "")[:9].rstrip("0")
    zone = f"{time['sign']}{time['zone_hour']}:{time['zone_minute']}"
    is_utc = time["sign"] is None or zone[1:] == "00:00"
    return f"{time['clock']}{'.' if fraction else ''}{fraction}{'Z' if is_utc else zone}"


def _read(text: str) -> re.Match[str] | None:
    time = re.fullmatch(_TIME, text)
    if time is None or not 1 <= int(time["month"]) <= 12:
        return None
    import calendar  # which takes as long as all of this module

    in_range = (
        1 <= int(time["day"]) <= calendar.monthrange(int(time["year"]), int(time["month"]))[1]
        and int(time["hour"]) < 24
        and int(time["minute"]) < 60
        and int(time["second"]) < 60
        and int(time["zone_hour"] or 0) < 24
        and int(time["zone_minute"] or 0) < 60
    )
    return time if in_range else None

"""Points in time as docker's commands take them."""

import re

from engine.errors import printable
from engine.spec import rfc3339
from engine.units import NS_PER_SECOND
from imgfs.cli.support.command import UsageError
from imgfs.cli.support.durations import parse_duration

_SECONDS = re.compile(r"[0-9]{1,18}(?:\.[0-9]+)?", re.ASCII)


def parse_time(given: str, text: str, now: int) -> int:
    """Return nanoseconds since 1970 for an RFC 3339 time, for seconds since 1970, or for a duration
    before `now`, in nanoseconds. Raise UsageError, which quotes what the user has `given`.
    """
    if _SECONDS.fullmatch(text):
        whole, _, fraction = text.partition(".")
        return int(whole) * NS_PER_SECOND + int(fraction[:9].ljust(9, "0"))
    if (ago := parse_duration(text)) is not None:
        return now - int(ago * NS_PER_SECOND)
    try:
        return rfc3339.nanoseconds(text)
    except ValueError as error:
        raise UsageError(
            f"{printable(given)}: expected RFC 3339, seconds since 1970, or a duration like 1h30m"
        ) from error

"""Durations as Go's tools write them (1h30m, 10s, 0.5h), or plain seconds."""

import re

_UNITS = {"h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?:[0-9]{1,18}(?:\.[0-9]+)?[hms])+", re.ASCII)
_PLAIN = re.compile(r"[0-9]{1,18}(?:\.[0-9]+)?", re.ASCII)


def parse_duration(text: str) -> float | None:
    """Return the seconds of a duration, None if the text is not one."""
    if _PLAIN.fullmatch(text):
        return float(text)
    if not _DURATION.fullmatch(text):
        return None
    parts = re.findall(r"([0-9.]+)([hms])", text)
    return sum(float(number) * _UNITS[unit] for number, unit in parts)

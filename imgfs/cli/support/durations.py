"""How long: 1h30m, 10s, 0.5h, as Go's tools take it, or plain seconds."""

import re

_UNITS = {"h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?[hms])+", re.ASCII)
_PLAIN = re.compile(r"[0-9]+(?:\.[0-9]+)?", re.ASCII)


def parse_duration(text: str) -> float | None:
    """Seconds; None for what is no duration with units."""
    if not _DURATION.fullmatch(text):
        return None
    parts = re.findall(r"([0-9.]+)([hms])", text)
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def parse_interval(text: str) -> float | None:
    """Seconds, with units or plain; None for what is neither, or no time at all."""
    found = float(text) if _PLAIN.fullmatch(text) else parse_duration(text)
    return found or None

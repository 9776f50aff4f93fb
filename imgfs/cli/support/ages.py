"""Ages as docker prints them: "3 weeks ago"."""

_HOUR = 3600
_LIMITS = (
    (48, 1, "hours"),
    (24 * 14, 24, "days"),
    (24 * 60, 24 * 7, "weeks"),
    (24 * 365 * 2, 24 * 30, "months"),
)
"""Hours below which a unit is used, hours of one unit, and its name."""


def age(seconds: float) -> str:
    """Return the text for a time so many seconds ago, rounded as docker rounds it."""
    return f"{_duration(int(seconds))} ago"


def _duration(seconds: int) -> str:
    minutes, hours = seconds // 60, (seconds + _HOUR // 2) // _HOUR
    if seconds < 1:
        return "Less than a second"
    if minutes < 1:
        return "1 second" if seconds == 1 else f"{seconds} seconds"
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    for limit, length, noun in _LIMITS:
        if hours < limit:
            return f"{hours // length} {noun}"
    return f"{seconds // _HOUR // 24 // 365} years"

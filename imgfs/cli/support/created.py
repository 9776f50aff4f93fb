"""The creation time of an image that a command makes, after SOURCE_DATE_EPOCH."""

import os
import time

from engine.spec import rfc3339
from imgfs.cli.support.common import Failed


def source_date_epoch(default: str = "") -> int | None:
    """Return $SOURCE_DATE_EPOCH in seconds, or None if it is not set and there is no default.

    Raise Failed if it is no number of seconds, or after the year 9999.
    """
    text = os.environ.get("SOURCE_DATE_EPOCH", default)
    if not text:
        return None
    try:
        return rfc3339.seconds(text)
    except ValueError as error:
        raise Failed(f"SOURCE_DATE_EPOCH: {error}") from error


def created(epoch: int | None) -> str:
    """Return the time now as RFC 3339 text, or `epoch` if that is earlier."""
    now = int(time.time())
    return rfc3339.text(now if epoch is None else min(now, epoch)) or "1970-01-01T00:00:00Z"

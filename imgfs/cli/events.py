"""`imgfs events`: print changes to the images of a store, one line of JSON each."""

import re
import sys
import time
from argparse import Namespace

from engine.errors import StoreMissing
from engine.spec import rfc3339
from engine.stores.protocols import Store
from engine.stores.records import Event
from engine.units import NS_PER_SECOND
from imgfs.cli.support.command import Command, Parser, UsageError
from imgfs.cli.support.common import opened
from imgfs.cli.support.durations import parse_duration

_PAUSE = 0.1
_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]+)?", re.ASCII)


def _options(parser: Parser) -> None:
    parser.add_argument("--since", metavar="TIME", help="Start at this time.")
    parser.add_argument("--until", metavar="TIME", help="Stop at this time.")


def _events(args: Namespace) -> None:
    """Print events as they happen, until interrupted or until --until.

    TIME is an RFC 3339 time, seconds since 1970, or a duration before now (1h30m),
    as for docker events.

    imgfs events
    imgfs events --since 24h --until 0s
    """
    now = time.time_ns()
    begin = _time("since", args.since, now) if args.since is not None else None
    end = _time("until", args.until, now) if args.until is not None else None
    try:
        store = opened(args)
    except StoreMissing:
        begin = now if begin is None else begin
        store = _awaited(args, end)
    with store:
        number = store.events.last() if begin is None else 0
        version = -1
        while True:
            over = end is not None and time.time_ns() >= end
            found = store.version()
            if found != version:
                version = found
                number = _print(store.events.after(number), number, begin, end)
            if over:
                return
            time.sleep(_PAUSE)


def _awaited(args: Namespace, end: int | None) -> Store:
    """Return the store once there is one; raise StoreMissing if there is none until `end`."""
    while True:
        time.sleep(_PAUSE)
        try:
            return opened(args)
        except StoreMissing:
            if end is not None and time.time_ns() >= end:
                raise


EVENTS = Command(_events, _options)


def _print(found: list[Event], number: int, begin: int | None, end: int | None) -> int:
    for event in found:
        number = event.number
        if (begin is None or event.time_ns >= begin) and (end is None or event.time_ns <= end):
            sys.stdout.buffer.write(event.render())
    sys.stdout.buffer.flush()
    return number


def _time(option: str, text: str, now: int) -> int:
    """Parse a TIME; return nanoseconds since 1970, or raise UsageError."""
    if _SECONDS.fullmatch(text):
        whole, _, fraction = text.partition(".")
        return int(whole) * NS_PER_SECOND + int(fraction[:9].ljust(9, "0"))
    if (ago := parse_duration(text)) is not None:
        return now - int(ago * NS_PER_SECOND)
    try:
        return rfc3339.epoch_seconds(rfc3339.normalize(text)) * NS_PER_SECOND
    except ValueError as error:
        raise UsageError(
            f"--{option} {text}: expected RFC 3339, seconds since 1970, or a duration like 1h30m"
        ) from error

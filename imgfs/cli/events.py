"""`imgfs events`: print changes to the images of a store, one line of JSON each."""

import sys
import time
from argparse import Namespace
from collections.abc import Callable
from typing import Any

from engine.errors import StoreMissing
from engine.stores.protocols import Store
from engine.stores.records import Event
from imgfs.cli.support.command import Command, Parser
from imgfs.cli.support.common import opened
from imgfs.cli.support.formats import compiled, is_template, rendered, template_option
from imgfs.cli.support.times import parse_time

_PAUSE = 0.1


def _options(parser: Parser) -> None:
    parser.add_argument("--since", metavar="TIME", help="Start at this time.")
    parser.add_argument("--until", metavar="TIME", help="Stop at this time.")
    template_option(parser, "json")


def _events(args: Namespace) -> None:
    """Print events as they happen, until interrupted or until --until.

    TIME is an RFC 3339 time, seconds since 1970, or a duration before now (1h30m),
    as for docker events.

    imgfs events
    imgfs events --since 24h --until 0s
    imgfs events --format '{{.Action}} {{.Actor.Attributes.name}}'
    """
    now = time.time_ns()
    begin = _time("--since", args.since, now)
    render = _renderer(args.format)
    end = _time("--until", args.until, now)
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
                number = _print(store.events.after(number), number, begin, end, render)
            if over:
                return
            time.sleep(_PAUSE)


def _time(option: str, text: str | None, now: int) -> int | None:
    return None if text is None else parse_time(f"{option} {text}", text, now)


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


def _print(
    found: list[Event],
    number: int,
    begin: int | None,
    end: int | None,
    render: Callable[[Event], bytes],
) -> int:
    for event in found:
        number = event.number
        if (begin is None or event.time_ns >= begin) and (end is None or event.time_ns <= end):
            sys.stdout.buffer.write(render(event))
    sys.stdout.buffer.flush()
    return number


def _renderer(form: str) -> Callable[[Event], bytes]:
    """Return a function that makes the line of an event; raise Failed for an invalid template."""
    if not is_template(form):
        return Event.render
    template = compiled(form)
    return lambda event: f"{rendered(template, _record(event))}\n".encode(errors="backslashreplace")


def _record(event: Event) -> dict[str, Any]:
    """Return an event with the fields of docker's templates."""
    import json

    from imgfs.cli.support.template_functions import Record

    document = json.loads(event.render())
    return Record(
        Type=document["Type"],
        Action=document["Action"],
        Actor=Record(document["Actor"]),
        Scope=document["scope"],
        Time=document["time"],
        TimeNano=document["timeNano"],
        ID=document["Actor"]["ID"],
        Status=document["Action"],
        From="",
    )

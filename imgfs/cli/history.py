"""`imgfs history`: show the steps that made an image."""

import time
from argparse import Namespace
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import Any

from engine.details import Details, known_details
from engine.spec import media_types, oci
from imgfs.cli.support.command import Command, Parser
from imgfs.cli.support.common import (
    WIDEST,
    human,
    on_a_terminal,
    opened,
    print_json,
    print_table,
)
from imgfs.cli.support.formats import is_template, print_rows, template_option
from imgfs.cli.support.image_rows import created_since, short
from imgfs.cli.support.platform_option import platform_matcher, platform_option

_COMMAND = 60
"""Characters of a step's command on a terminal."""


_DOCKERS = 45
"""Characters of a step's command in a template's row, as in docker's."""
_HEADS = {
    "Comment": "COMMENT",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "CreatedSince": "CREATED",
    "ID": "IMAGE",
    "Layer": "LAYER",
    "Size": "SIZE",
}
"""The fields of docker's templates, with our Layer, and their headings in tables."""


def _options(parser: Parser) -> None:
    platform_option(parser)
    parser.flag("-q", "--quiet", help="Print only the layers' digests.")
    parser.flag("--no-trunc", help="Do not shorten commands.")
    template_option(parser, "table", "json")


def _history(args: Namespace) -> None:
    """Show the steps that made an image, the newest first.

    imgfs history alpine:3
    imgfs history --format 'table {{.CreatedSince}}\\t{{.Size}}' alpine:3
    """
    matcher = platform_matcher(args)
    with opened(args) as store:
        found = known_details(store, args.words[0], matcher)
    steps = list(_steps(found))[::-1]
    if args.format == "json":
        print_json(steps)
        return
    if is_template(args.format):
        image_id = found.manifest.manifest.config.digest
        ids = [image_id if args.no_trunc else short(image_id), *["<missing>"] * len(steps)]
        now, command = time.time(), _shown(args, _DOCKERS)
        rows = (_fields(s, i, now, command) for s, i in zip(steps, ids, strict=False))
        print_rows(args.format, _HEADS, rows)
        return
    if args.quiet:
        for step in steps:
            print(step["layer"] or "<none>")
        return
    command = _shown(args, on_a_terminal(_COMMAND))
    print_table(
        ["CREATED", "CREATED BY", "SIZE", "COMMENT"],
        (
            [(s["created"] or "-")[:19], command(s["created_by"]), human(s["size"]), _note(s)]
            for s in steps
        ),
        None if args.no_trunc else on_a_terminal(WIDEST),
    )


HISTORY = Command(_history, _options, words="NAME", least=1, most=1)


def _steps(found: Details) -> Iterator[dict[str, Any]]:
    """Yield history entries with the layer that each made; layers without an entry come last."""
    layers = iter(found.manifest.manifest.layers)
    missing = {blob.digest for blob in found.manifest.missing}
    for entry in found.config.history:
        yield _step(entry, None if entry.empty_layer else next(layers, None), missing)
    for layer in layers:
        yield _step(oci.History(), layer, missing)


def _step(
    entry: oci.History, layer: oci.Descriptor | None, missing: Collection[str]
) -> dict[str, Any]:
    step = {
        "created": entry.created or None,
        "created_by": entry.created_by,
        "comment": entry.comment,
        "layer": layer.digest if layer else None,
        "size": layer.size if layer else 0,
    }
    if layer and layer.digest in missing:
        step["unreadable"] = "is not in the store"
    elif layer and (reason := media_types.unreadable(layer.media_type)):
        step["unreadable"] = reason
    return step


def _fields(
    step: Mapping[str, Any], image_id: str, now: float, command: Callable[[str], str]
) -> dict[str, str]:
    """Return a step with the names in _HEADS; `now` is in seconds since the epoch, `command` makes
    the text of a step's command.
    """
    return {
        "Comment": step["comment"],
        "CreatedAt": step["created"] or "N/A",
        "CreatedBy": command(step["created_by"]),
        "CreatedSince": created_since(step["created"] or "", now),
        "ID": image_id,
        "Layer": step["layer"] or "",
        "Size": human(step["size"]),
    }


def _note(step: Mapping[str, Any]) -> str:
    """Return the comment, and the reason if the layer cannot be read."""
    reason = step.get("unreadable")
    return " ".join(filter(None, (step["comment"], reason and f"(the layer {reason})")))


def _shown(args: Namespace, width: int | None) -> Callable[[str], str]:
    """Return the function that makes the text of a step's command: all of it with --no-trunc, else
    one line of up to `width` characters.
    """
    return _whole if args.no_trunc else partial(_cut, width=width)


def _whole(text: str) -> str:
    """Return a text with spaces for its tabs, as docker does."""
    return text.replace("\t", " ")


def _cut(text: str, width: int | None) -> str:
    line = " ".join(text.split())
    return line if width is None or len(line) <= width else f"{line[: width - 1]}…"

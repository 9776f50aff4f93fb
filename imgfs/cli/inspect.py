"""`imgfs inspect` and `history`."""

import json
from argparse import Namespace
from collections.abc import Iterator, Mapping
from typing import Any

from engine.details import Details, details
from engine.spec import go_json, oci, platforms, reference
from engine.spec import media_types as layer_types
from engine.stores.protocols import Store
from imgfs.cli.support.command import Command, Parser
from imgfs.cli.support.common import (
    WIDEST,
    each,
    format_option,
    human,
    on_a_terminal,
    opened,
    print_json,
    print_table,
)

_COMMAND = 60
"""Characters of a step's command on a terminal."""


def _inspect_options(parser: Parser) -> None:
    _platform_option(parser)
    format_option(parser, "json")


def _inspect(args: Namespace) -> None:
    """Tell everything of images, as docker inspect does.

    imgfs inspect alpine:3
    """
    documents: list[dict[str, Any]] = []
    matcher = _matcher(args)
    with opened(args) as store:
        try:
            each(
                args.words,
                lambda n: documents.append(_document(store, details(store, n, matcher))),
            )
        finally:
            print_json(documents)


INSPECT = Command(_inspect, _inspect_options, words="NAME…", least=1, most=None)


def _platform_option(parser: Parser) -> None:
    parser.add_argument(
        "--platform", metavar="PLATFORM", help="Of an index, the image for this platform."
    )


def _matcher(args: Namespace) -> platforms.Matcher | None:
    return platforms.only(platforms.parse(args.platform)) if args.platform else None


def _document(store: Store, found: Details) -> dict[str, Any]:
    config, manifest = found.config, found.manifest
    raw = go_json.loads(found.raw_config, manifest.manifest.config.digest)
    target = found.image.target
    tagged = [reference.parse_normalized(name) for name in found.names]
    repositories = sorted({ref.familiar_name for ref in tagged})
    layers = manifest.manifest.layers
    return {
        "Id": manifest.manifest.config.digest,
        "RepoTags": [ref.familiar for ref in tagged if ref.tag],
        "RepoDigests": [f"{repository}@{target.digest}" for repository in repositories],
        "Comment": config.history[-1].comment if config.history else "",
        "Created": config.created,
        "Author": config.author,
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "OsVersion": config.os_version,
        "Size": sum(layer.size for layer in layers),
        "Config": raw.get("config"),
        "RootFS": {"Type": config.rootfs.type, "Layers": list(config.rootfs.diff_ids)},
        "Descriptor": json.loads(oci.render(target)),
        "Manifest": json.loads(oci.render(manifest.descriptor)),
        "Layers": [json.loads(oci.render(layer)) for layer in layers],
        "Platforms": list(dict.fromkeys(m.platform for m in store.images.manifests(target.digest))),
    }


def _history_options(parser: Parser) -> None:
    _platform_option(parser)
    parser.flag("-q", "--quiet", help="Print the layers' digests alone.")
    parser.flag("--no-trunc", help="Print whole commands.")
    format_option(parser, "table", "json")


def _history(args: Namespace) -> None:
    """Show how an image came to be, the newest step first.

    imgfs history alpine:3
    """
    matcher = _matcher(args)
    with opened(args) as store:
        steps = list(_steps(details(store, args.words[0], matcher)))[::-1]
    if args.format == "json":
        print_json(steps)
        return
    if args.quiet:
        for step in steps:
            print(step["layer"] or "<none>")
        return
    width, limit = (None if args.no_trunc else on_a_terminal(n) for n in (_COMMAND, WIDEST))
    print_table(
        ["CREATED", "CREATED BY", "SIZE", "COMMENT"],
        (
            [s["created"][:19] or "-", _cut(s["created_by"], width), human(s["size"]), _note(s)]
            for s in steps
        ),
        limit,
    )


HISTORY = Command(_history, _history_options, words="NAME", least=1, most=1)


def _steps(found: Details) -> Iterator[dict[str, Any]]:
    """History entries with the layer that each made; layers without an entry come last."""
    layers = iter(found.manifest.manifest.layers)
    for entry in found.config.history:
        yield _step(entry, None if entry.empty_layer else next(layers, None))
    for layer in layers:
        yield _step(oci.History(), layer)


def _step(entry: oci.History, layer: oci.Descriptor | None) -> dict[str, Any]:
    step = {
        "created": entry.created,
        "created_by": entry.created_by,
        "comment": entry.comment,
        "layer": layer.digest if layer else None,
        "size": layer.size if layer else 0,
    }
    if layer and (reason := layer_types.unreadable(layer.media_type)):
        step["unreadable"] = reason
    return step


def _note(step: Mapping[str, Any]) -> str:
    """The comment, and why nobody can look into the layer."""
    reason = step.get("unreadable")
    return " ".join(filter(None, (step["comment"], reason and f"(the layer {reason})")))


def _cut(text: str, width: int | None) -> str:
    line = " ".join(text.split())
    return line if width is None or len(line) <= width else f"{line[: width - 1]}…"

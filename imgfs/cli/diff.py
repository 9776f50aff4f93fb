"""`imgfs diff`: print what changed between two images, or in the layers of one."""

import json
from argparse import Namespace
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from itertools import pairwise
from typing import Any

from msgspec.structs import replace

from engine.details import Details, details
from engine.errors import escaped
from engine.filetree.entry_tree import LeftOut
from engine.filetree.merged import growing_roots, whole_root
from engine.filetree.root_diff import RootChange, root_diff
from engine.layers.layer import Layers
from engine.progress import Progress
from imgfs.cli.support.command import Command, Parser, UsageError
from imgfs.cli.support.common import format_option, human, opened, print_json
from imgfs.cli.support.left_out import print_left_out
from imgfs.cli.support.platform_option import platform_matcher, platform_option
from imgfs.cli.support.progress import progress_of, progress_option

_LETTERS = {"added": "A", "changed": "C", "deleted": "D"}
_SIZE_WIDTH = 8


def _options(parser: Parser) -> None:
    parser.flag("--layers", help="Print what each layer of one image changed.")
    parser.flag("-s", "--size", help="Print how much files grew or shrank.")
    platform_option(parser)
    progress_option(parser)
    format_option(parser, "table", "json")


def _diff(args: Namespace) -> None:
    """Print what changed from image A to image B, as docker diff does.

    A line is A (added), C (changed) or D (deleted), and a path. Without B, it is what
    the last layer of A changed. No layer is read.

    imgfs diff app:1 app:2
    imgfs diff app:1             what its last layer changed
    imgfs diff --layers app:1    what each layer changed, and the step that made it
    """
    if args.layers and len(args.words) > 1:
        raise UsageError("--layers takes one image")
    matcher = platform_matcher(args)
    with opened(args) as store, ExitStack() as stack:
        found = [details(store, name, matcher) for name in args.words]
        layers = Layers(store.content, store.tables, store.directory)
        stack.enter_context(closing(layers))
        on_progress = stack.enter_context(progress_of("Reading", args.progress))
        if args.layers:
            _print_layers(found[0], layers, on_progress, args)
        else:
            _print_diff(found, layers, on_progress, args)


DIFF = Command(_diff, _options, words="A [B]", least=1, most=2)


def _print_diff(
    found: list[Details], layers: Layers, on_progress: Progress, args: Namespace
) -> None:
    first, last = found[0].manifest.manifest, found[-1].manifest.manifest
    if len(found) == 1:
        first = replace(first, layers=first.layers[:-1])
    before, after = (whole_root(layers, one, on_progress) for one in (first, last))
    changes = root_diff(before, after)
    if args.format == "json":
        _print_objects(changes)
    else:
        _print_lines(changes, args)
    print_left_out((*before.left_out, *after.left_out) if len(found) > 1 else after.left_out)


def _print_layers(found: Details, layers: Layers, on_progress: Progress, args: Namespace) -> None:
    manifest = found.manifest.manifest
    steps = zip(manifest.layers, found.layer_history, strict=True)
    documents = []
    left_out: Sequence[LeftOut] = ()
    roots = growing_roots(layers, manifest, on_progress)
    for number, ((layer, step), (before, after)) in enumerate(
        zip(steps, pairwise(roots), strict=True)
    ):
        changes, left_out = root_diff(before, after), after.left_out
        if args.format == "json":
            shown = {"layer": layer.digest, "created_by": step.created_by, "size": layer.size}
            documents.append({**shown, "changes": [*map(_document, changes)]})
        else:
            print(f"# {number:02} {layer.digest} {escaped(step.created_by)}".rstrip())
            _print_lines(changes, args)
    if args.format == "json":
        print_json(documents)
    print_left_out(left_out)


def _print_lines(changes: Iterable[RootChange], args: Namespace) -> None:
    for change in changes:
        size = f"{_growth(change):>{_SIZE_WIDTH}} " if args.size else ""
        print(f"{_LETTERS[change.kind]} {size}{escaped(_path(change))}")


def _print_objects(changes: Iterable[RootChange]) -> None:
    """Print a list with one change a line, without having all of them in memory."""
    print("[", end="")
    for number, line in enumerate(map(json.dumps, map(_document, changes))):
        print(f"{',' if number else ''}\n  {line}", end="")
    print("\n]")


def _document(change: RootChange) -> dict[str, Any]:
    return {
        "path": _path(change),
        "kind": change.kind,
        "type": change.type,
        "size_before": change.size_before,
        "size": change.size,
        "differs": list(change.differs),
    }


def _growth(change: RootChange) -> str:
    growth = change.size - change.size_before
    sign = "+" if growth > 0 else "-" if growth else ""
    return f"{sign}{human(abs(growth))}"


def _path(change: RootChange) -> str:
    return f"/{change.path.decode('utf-8', 'surrogateescape')}"

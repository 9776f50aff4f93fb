"""`imgfs save`."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import click
from msgspec.structs import replace

from engine import platforms
from engine.engine import Engine
from engine.errors import printable
from engine.images import Image
from engine.layouts import combined, selection
from engine.layouts.selection import Selection
from engine.oci import Platform
from imgfs.cli.common import Failed, with_engine
from imgfs.cli.files import whole_file
from imgfs.cli.progress import progress_of, progress_options
from imgfs.cli.streams import widen

Options = TypeVar("Options", bound=Selection)


@click.command()
@click.option("-o", "--output", metavar="FILE", help="Write to a file, not to standard output.")
@click.option(
    "--platform", "wanted", multiple=True, metavar="PLATFORM", help="Only this; repeatable."
)
@click.option(
    "--all-platforms", is_flag=True, help="Everything that the store holds (the default)."
)
@click.option(
    "--skip-missing", is_flag=True, help="Leave out platforms that an image has not, and say so."
)
@click.option("--append", metavar="FILE", help="Add what is missing to an archive.")
@click.option("--since", multiple=True, metavar="NAME", help="Leave out what this image has.")
@click.option(
    "--layout",
    type=click.Choice(["combined", "docker"]),
    default="combined",
    help="Blobs as they are stored (the default), or as docker save writes them.",
)
@progress_options
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@with_engine
def save(
    engine: Engine,
    output: str | None,
    wanted: tuple[str, ...],
    all_platforms: bool,
    skip_missing: bool,
    append: str | None,
    since: tuple[str, ...],
    layout: str,
    progress: str,
    quiet: bool,  # noqa: ARG001 (nothing is printed but progress)
    names: tuple[str, ...],
) -> None:
    """Write images as one archive that docker, podman, containerd, skopeo and umoci read.

    A name without a tag means every tag of it; IDs, ID prefixes and NAME@DIGEST do as well.

    \b
    imgfs save -o x.tar alpine:3 busybox
    imgfs save app:1 | docker load
    imgfs save --append x.tar app:2        what x.tar lacks of it
    imgfs save --since app:1 app:2         what a store with app:1 lacks of it
    imgfs save --layout docker app:1       the archive that docker save writes
    """
    if wanted and all_platforms:
        raise click.UsageError("--platform and --all-platforms exclude each other")
    if append and output:
        raise click.UsageError("--append and --output exclude each other")
    if layout == "docker" and (append or since):
        raise click.UsageError("--layout docker takes neither --append nor --since")
    if output is None and append is None and sys.stdout.isatty():
        raise Failed("an archive is not for a terminal: use -o FILE or a redirection")
    images = _unique([image for name in names for image in engine.find_to_save(name)])
    chosen = tuple(platforms.parse(one) for one in wanted)
    if skip_missing:
        images = _having(engine, images, chosen)
    required = () if skip_missing else chosen
    with ExitStack() as stack:
        tell = stack.enter_context(progress_of("Saving", progress))
        if append is not None:
            out = stack.enter_context(whole_file(Path(append))).write
        elif output is not None:
            out = stack.enter_context(whole_file(Path(output))).write
        else:
            out = widen(sys.stdout.buffer).write
        if layout == "docker":
            from engine.layouts import docker_save

            engine.save_for_docker(
                images, _options(docker_save.Options, chosen, required), out, tell
            )
            return
        options = _options(combined.Options, chosen, required)
        if since:
            known = engine.blobs_of([image for name in since for image in engine.find(name)])
            options = replace(options, keeps=lambda blob: blob.digest not in known)
        if append is not None:
            engine.extend(Path(append), images, options, out, tell)
        else:
            engine.save(images, options, out, tell)


def _unique(images: Sequence[Image]) -> list[Image]:
    return list({image.name: image for image in images}.values())


def _having(engine: Engine, images: Sequence[Image], wanted: Sequence[Platform]) -> list[Image]:
    """The images that have any of the platforms; what is left out is told."""
    kept = []
    for image in images:
        graph = engine.graph(image)
        lacking = [p for p in wanted if graph.best(platforms.only(p)) is None]
        for platform in lacking:
            what = f"{platforms.format_all(platform)} of {image.familiar}"
            print(f"imgfs: left out: {printable(what)}", file=sys.stderr)
        if not wanted or len(lacking) < len(wanted):
            kept.append(image)
    if not kept:
        raise Failed("no image has any of the platforms")
    return kept


def _options(
    kind: type[Options], wanted: Sequence[Platform], required: tuple[Platform, ...]
) -> Options:
    if not wanted:
        return kind(fallback=selection.any_complete)
    matcher = platforms.any_of(*(q for p in wanted for q in platforms.preferences(p)))
    return kind(platform=matcher, preferred=matcher, required=required)

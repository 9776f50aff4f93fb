"""`imgfs commit`: directories become an image."""

import json
import os
import sys
import time
from pathlib import Path

import click

from engine import platforms, rfc3339
from engine.commit import compression as compressions
from engine.commit.exporter import parse_names
from engine.commit.image_writer import Annotations
from engine.commit.refs import CommitOptions, Ref, Source, Upper
from engine.engine import Engine
from imgfs.cli.common import Failed, with_engine

_LEVELS = {
    "manifest": "manifest",
    "manifest-descriptor": "manifest_descriptor",
    "index": "index",
}


@click.command()
@click.option("--base", metavar="IMAGE", default="", help="The image that DIR is compared with.")
@click.option("--upper", is_flag=True, help="DIR is an overlayfs upper directory on the base.")
@click.option(
    "--platform",
    "wanted",
    multiple=True,
    metavar="P[=DIR]",
    help="The platform of DIR; with =DIR, repeated, one image of several.",
)
@click.option("--config", metavar="FILE", help="The config, in the place of the base image's.")
@click.option(
    "-c", "--change", "changes", multiple=True, metavar="'CMD …'", help="As docker commit's."
)
@click.option("-m", "--message", default="", help="What the layer's history entry says.")
@click.option("-a", "--author", default="", help="Who made it.")
@click.option(
    "--annotation", "noted", multiple=True, metavar="[LEVEL:]K=V", help="On manifest or index."
)
@click.option("--compression", "how", default="gzip", metavar="KIND[:LEVEL]")
@click.option("--oci/--docker", "is_oci", default=True, help="Whose media types (OCI's).")
@click.option("--keep-empty-layers", is_flag=True, help="Keep a layer that changes nothing.")
@click.option(
    "--reproducible", is_flag=True, help="No time later than $SOURCE_DATE_EPOCH, else 1970."
)
@click.option("--iidfile", metavar="FILE", help="Write the image ID to a file.")
@click.option("--metadata-file", metavar="FILE", help="Write what was made as JSON to a file.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@click.argument("words", nargs=-1, metavar="[DIR] [NAME[,NAME…]]")
@with_engine
def commit(
    engine: Engine,
    base: str,
    upper: bool,
    wanted: tuple[str, ...],
    config: str | None,
    changes: tuple[str, ...],
    message: str,
    author: str,
    noted: tuple[str, ...],
    how: str,
    is_oci: bool,
    keep_empty_layers: bool,
    reproducible: bool,
    iidfile: str | None,
    metadata_file: str | None,
    quiet: bool,
    words: tuple[str, ...],
) -> None:
    """Make an image of a directory, or of one a platform; prints its digest.

    \b
    imgfs commit rootfs app:1
    imgfs commit --base debian:12 -c 'CMD ["/app"]' rootfs app:1,app:latest
    imgfs commit --platform linux/amd64=a --platform linux/arm64=b multi:1
    """
    epoch = _epoch(reproducible)
    now = int(time.time()) if epoch is None else min(int(time.time()), epoch)
    created = rfc3339.text(now) or "1970-01-01T00:00:00Z"
    directories, names = _operands(wanted, words)
    kind: type[Ref] = Upper if upper else Ref
    source = Source(
        tuple(
            (
                platforms.parse(platform) if platform else None,
                kind(Path(directory), description=message, created=created),
            )
            for platform, directory in directories
        ),
        base,
        Path(config).read_bytes() if config else b"",
    )
    options = CommitOptions(
        compression=compressions.parse(how),
        is_oci=is_oci,
        keep_empty_layers=keep_empty_layers,
        created=created,
        epoch=epoch,
        rewrites_times=epoch is not None,
        annotations=_annotations(noted),
        instructions=changes,
        message=message,
        author=author,
    )
    shows = not quiet and sys.stderr.isatty()
    made = engine.commit(source, names, options, _say if shows else _say_nothing)
    if iidfile:
        Path(iidfile).write_text(made.config, encoding="ascii")
    if metadata_file:
        text = json.dumps(made.metadata(), indent=2, sort_keys=True)
        Path(metadata_file).write_text(f"{text}\n", encoding="utf-8")
    click.echo(made.target.digest)


def _say(step: str) -> None:
    click.echo(step, err=True)


def _say_nothing(_step: str) -> None:
    """For a pipe, and on request."""


def _operands(
    wanted: tuple[str, ...], words: tuple[str, ...]
) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
    """(platform, directory) of each, and the names."""
    pairs = [(platform, directory) for platform, _, directory in (w.partition("=") for w in wanted)]
    if any(directory for _, directory in pairs):
        if not all(directory for _, directory in pairs):
            raise click.UsageError("--platform needs a directory for each of several platforms")
        if len(words) > 1:
            raise click.UsageError("expected NAME[,NAME…] beside --platform P=DIR")
        return pairs, parse_names(words[0] if words else "")
    if len(pairs) > 1:
        raise click.UsageError("--platform needs a directory for each of several platforms")
    if not 1 <= len(words) <= 2:
        raise click.UsageError("expected DIR and NAME[,NAME…]")
    platform = pairs[0][0] if pairs else ""
    return [(platform, words[0])], parse_names(words[1] if len(words) > 1 else "")


def _annotations(noted: tuple[str, ...]) -> Annotations:
    found: dict[str, dict[str, str]] = {level: {} for level in _LEVELS.values()}
    for text in noted:
        key, equals, value = text.partition("=")
        level, colon, rest = key.partition(":")
        if colon and level in _LEVELS:
            key = rest
        else:
            level = "manifest"
        if not equals or not key:
            raise click.UsageError(f"--annotation {text}: expected [LEVEL:]KEY=VALUE")
        found[_LEVELS[level]][key] = value
    return Annotations(**found)


def _epoch(reproducible: bool) -> int | None:
    """SOURCE_DATE_EPOCH, which counts also where nothing is asked for."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "0" if reproducible else "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise Failed(f"SOURCE_DATE_EPOCH: expected seconds since 1970, found {text}")
    return int(text)

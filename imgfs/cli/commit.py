"""`imgfs commit`: directories become an image."""

import csv
import json
import os
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import click
from msgspec.structs import replace

from engine import compression as compressions
from engine import platforms, rfc3339
from engine.commit import annotations, exporter_options
from engine.commit.annotations import Annotation, InvalidAnnotation
from engine.commit.refs import CommitOptions, PlatformSource, Ref, Source, Upper, parse_names
from engine.engine import Engine
from engine.errors import printable
from imgfs.cli.common import Failed, with_engine
from imgfs.cli.files import whole_file
from imgfs.cli.steps import steps

_DESCRIPTION = "imgfs commit"


@click.command()
@click.option("--base", metavar="IMAGE", default="", help="The image that DIR is compared with.")
@click.option("--upper", is_flag=True, help="DIR is an overlayfs upper directory on the base.")
@click.option("--config-only", is_flag=True, help="No DIR: the base's layers with another config.")
@click.option(
    "--platform",
    "wanted",
    multiple=True,
    metavar="P[=DIR]",
    help="The platform of DIR; with =DIR, repeated, one image of several.",
)
@click.option(
    "--config",
    "configs",
    multiple=True,
    metavar="[P=]FILE",
    help="The config, in the place of the base image's.",
)
@click.option(
    "-c", "--change", "changes", multiple=True, metavar="'CMD …'", help="As docker commit's."
)
@click.option("-m", "--message", default="", help="The comment in the layer's history entry.")
@click.option("-a", "--author", default="", help="Who made it.")
@click.option(
    "--annotation",
    "noted",
    multiple=True,
    metavar="[LEVEL[P],…:]K=V",
    help="On manifest, manifest-descriptor, index or index-descriptor.",
)
@click.option(
    "--attestation",
    "attested",
    multiple=True,
    metavar="[P=]FILE",
    help="An in-toto statement about the image.",
)
@click.option(
    "--inline-cache",
    "caches",
    multiple=True,
    metavar="[P=]FILE",
    help="BuildKit's cache, for the config.",
)
@click.option("--compression", "how", default="gzip", metavar="KIND[:LEVEL]")
@click.option("--force-compression", is_flag=True, help="Compress the base's layers so too.")
@click.option(
    "--prefer-nondist-layers", is_flag=True, help="Keep the base's foreign layers as they are."
)
@click.option("--oci/--docker", "is_oci", default=True, help="Whose media types (OCI's).")
@click.option("--keep-empty-layers", is_flag=True, help="Keep a layer that changes nothing.")
@click.option(
    "--reproducible", is_flag=True, help="No time later than $SOURCE_DATE_EPOCH, else 1970."
)
@click.option(
    "-o", "--output", multiple=True, metavar="K=V,…", help="Options as docker build --output's."
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
    config_only: bool,
    wanted: tuple[str, ...],
    configs: tuple[str, ...],
    changes: tuple[str, ...],
    message: str,
    author: str,
    noted: tuple[str, ...],
    attested: tuple[str, ...],
    caches: tuple[str, ...],
    how: str,
    force_compression: bool,
    prefer_nondist_layers: bool,
    is_oci: bool,
    keep_empty_layers: bool,
    reproducible: bool,
    output: tuple[str, ...],
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
    imgfs commit --base app:1 --config-only -c 'USER app' app:2
    """
    epoch = _epoch(reproducible)
    found = exporter_options.parse(
        _output(output),
        CommitOptions(
            compression=compressions.parse(how),
            recompresses_base=force_compression,
            keeps_foreign=prefer_nondist_layers,
            is_oci=is_oci,
            keep_empty_layers=keep_empty_layers,
            epoch=epoch,
            rewrites_times=epoch is not None,
            annotations=_annotations(noted),
            instructions=changes,
            message=message,
            author=author,
        ),
    )
    for key in found.unknown:
        click.echo(f"imgfs: warning: unknown option {printable(key)}", err=True)
    now = int(time.time())
    epoch = found.commit.epoch
    created = rfc3339.text(now if epoch is None else min(now, epoch)) or "1970-01-01T00:00:00Z"
    if config_only and (upper or not base):
        raise click.UsageError("--config-only needs --base, and takes no --upper")
    operands, names = (
        _without_directories(wanted, words) if config_only else _operands(wanted, words)
    )
    kind: type[Ref] = Upper if upper else Ref
    sources = {
        platform: PlatformSource(
            platforms.parse(platform) if platform else None,
            kind(Path(directory), description=_DESCRIPTION, created=created) if directory else None,
            found.config,
        )
        for platform, directory in operands
    }
    if len(sources) < len(operands):
        raise click.UsageError("--platform: a platform is given twice")
    for option, texts in (
        ("config", configs),
        ("inline-cache", caches),
        ("attestation", attested),
    ):
        for platform, data in _files(option, texts, sources):
            sources[platform] = _with(sources[platform], option, data)
    with ExitStack() as stack:
        made = engine.commit(
            Source(tuple(sources.values()), base),
            tuple(dict.fromkeys((*names, *parse_names(found.names)))),
            replace(found.commit, created=created),
            stack.enter_context(steps(quiet)),
        )
    if iidfile:
        _write(iidfile, made.image_id)
    if metadata_file:
        _write(metadata_file, json.dumps(made.metadata(), indent=2, sort_keys=True) + "\n")
    click.echo(made.target.digest)


def _write(path: str, text: str) -> None:
    with whole_file(Path(path)) as file:
        file.write(text.encode())


def _with(source: PlatformSource, option: str, data: bytes) -> PlatformSource:
    match option:
        case "config":
            return replace(source, config=data)
        case "inline-cache":
            return replace(source, inline_cache=data)
        case _:
            return replace(source, statements=(*source.statements, data))


def _files(option: str, texts: Iterable[str], known: Iterable[str]) -> list[tuple[str, bytes]]:
    """(platform, content) of each "[P=]FILE"; without P it is for the only platform."""
    wanted = list(known)
    found = []
    for text in texts:
        platform, equals, path = text.partition("=")
        if not equals or platform not in wanted:
            if len(wanted) > 1:
                raise click.UsageError(
                    f"--{option} {text}: expected P=FILE with one of {', '.join(wanted)}"
                )
            platform, path = wanted[0], text
        found.append((platform, Path(path).read_bytes()))
    return found


def _annotations(texts: Iterable[str]) -> tuple[Annotation, ...]:
    try:
        return tuple(found for text in texts for found in annotations.parse(text))
    except InvalidAnnotation as error:
        raise click.UsageError(f"--{error}") from error


def _output(texts: tuple[str, ...]) -> dict[str, str]:
    """The options in "K=V,…", where a field with a comma stands in quotes."""
    found = {}
    for row in csv.reader(texts):
        for text in row:
            key, equals, value = text.partition("=")
            if not equals or not key:
                raise click.UsageError(f"--output {text}: expected KEY=VALUE")
            found[key] = value
    if found.pop("type", "image") != "image":
        raise click.UsageError("--output: expected type=image")
    return found


def _without_directories(
    wanted: tuple[str, ...], words: tuple[str, ...]
) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
    """(platform, "") of each, and the names."""
    if len(words) > 1:
        raise click.UsageError("expected NAME[,NAME…] beside --config-only")
    return [(platform, "") for platform in wanted or ("",)], parse_names(words[0] if words else "")


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


def _epoch(reproducible: bool) -> int | None:
    """SOURCE_DATE_EPOCH, which counts also where nothing is asked for."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "0" if reproducible else "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise Failed(f"SOURCE_DATE_EPOCH: expected seconds since 1970, found {text}")
    return int(text)

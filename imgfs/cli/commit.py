"""`imgfs commit`: make an image from directories."""

import csv
import json
import sys
from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec.structs import replace

from engine.commit import annotations, exporter_options
from engine.commit.annotations import Annotation, InvalidAnnotation
from engine.commit.commit import commit
from engine.commit.history import LayerNote
from engine.commit.source import (
    CommitOptions,
    PlatformSource,
    Ref,
    Source,
    Step,
    Upper,
    parse_names,
)
from engine.compression import options as compressions
from engine.errors import printable
from engine.spec import platforms
from imgfs.cli.support.command import Command, Parser, UsageError
from imgfs.cli.support.common import writable
from imgfs.cli.support.created import created, source_date_epoch
from imgfs.cli.support.files import naming_if_full, whole_file
from imgfs.cli.support.progress import how, progress_option
from imgfs.cli.support.steps import steps
from imgfs.cli.support.tracing import tracer

_DESCRIPTION = "imgfs commit"
_COMMENT = "imgfs"


def _options(parser: Parser) -> None:
    parser.add_argument(
        "--base", metavar="IMAGE", default="", help="The image that DIR is compared with."
    )
    parser.flag("--upper", help="DIR is an overlayfs upper directory on the base.")
    parser.flag("--config-only", help="Take no DIR: keep the base's layers and change the config.")
    parser.repeatable(
        "--platform",
        metavar="P[=DIR]",
        help="The platform of DIR; P=DIR is repeatable, for an image of several platforms.",
    )
    parser.repeatable(
        "--config", metavar="[P=]FILE", help="Use this config instead of the base image's."
    )
    parser.repeatable(
        "-c",
        "--change",
        metavar="'CMD …'",
        help="Change the config with a Dockerfile instruction, as docker commit does.",
    )
    parser.add_argument(
        "-m", "--message", default="", help="Comment in the history entry (default: imgfs)."
    )
    parser.add_argument("-a", "--author", default="", help="Author of the layer.")
    parser.repeatable(
        "--annotation",
        metavar="[LEVEL[P],…:]K=V",
        help="Annotate the manifest, manifest-descriptor, index or index-descriptor.",
    )
    parser.repeatable(
        "--attestation", metavar="[P=]FILE", help="Attach an in-toto statement about the image."
    )
    parser.repeatable(
        "--inline-cache", metavar="[P=]FILE", help="Add BuildKit's inline cache to the config."
    )
    parser.add_argument(
        "--compression",
        default="gzip",
        metavar="KIND[:LEVEL]",
        help="Compression of new layers (default: gzip).",
    )
    parser.flag("--force-compression", help="Compress the base's layers the same way.")
    parser.flag("--prefer-nondist-layers", help="Keep the base's foreign layers as they are.")
    parser.add_argument(
        "--oci",
        dest="is_oci",
        action="store_true",
        default=True,
        help="Use OCI's media types (the default).",
    )
    parser.add_argument(
        "--docker", dest="is_oci", action="store_false", help="Use Docker's media types."
    )
    parser.flag("--keep-empty-layers", help="Keep a layer that changes nothing.")
    parser.flag("--reproducible", help="Clamp all times to $SOURCE_DATE_EPOCH, or to 1970.")
    parser.repeatable(
        "-o", "--output", metavar="K=V,…", help="Exporter options, as in docker build --output."
    )
    parser.add_argument("--iidfile", metavar="FILE", help="Write the image ID to a file.")
    parser.add_argument(
        "--metadata-file", metavar="FILE", help="Write the result as JSON to a file."
    )
    progress_option(parser)
    parser.flag("-q", "--quiet", help="Show no progress.")


def _commit(args: Namespace) -> None:
    """Make an image from a directory, or from one for each platform; print its digest.

    imgfs commit rootfs app:1
    imgfs commit --base debian:12 -c 'CMD ["/app"]' rootfs app:1,app:latest
    imgfs commit --platform linux/amd64=a --platform linux/arm64=b multi:1
    imgfs commit --base app:1 --config-only -c 'USER app' app:2
    """
    epoch = source_date_epoch("0" if args.reproducible else "")
    found = exporter_options.parse(
        _output(args.output),
        CommitOptions(
            compression=compressions.parse(args.compression),
            recompresses_base=args.force_compression,
            keeps_foreign=args.prefer_nondist_layers,
            is_oci=args.is_oci,
            keep_empty_layers=args.keep_empty_layers,
            epoch=epoch,
            rewrites_times=epoch is not None,
            annotations=_annotations(args.annotation),
            instructions=tuple(args.change),
            message=args.message,
            author=args.author,
            note=LayerNote(description="", comment=_COMMENT),
        ),
    )
    for key in found.unknown:
        print(f"imgfs: warning: unknown option {printable(key)}", file=sys.stderr)
    time = created(found.commit.epoch)
    if args.config_only and (args.upper or not args.base):
        raise UsageError("--config-only needs --base, and takes no --upper")
    operands, names = (_without_directories if args.config_only else _operands)(
        args.platform, args.words
    )
    kind: type[Ref] = Upper if args.upper else Ref
    has_step = args.config_only and (args.message or args.author)
    sources = {
        platform: PlatformSource(
            platforms.parse(platform) if platform else None,
            kind(Path(directory), description=_DESCRIPTION, created=time) if directory else None,
            found.config,
            step=Step(_DESCRIPTION, time) if has_step else None,
        )
        for platform, directory in operands
    }
    if len(sources) < len(operands):
        raise UsageError("--platform: a platform is given twice")
    for option, texts in (
        ("config", args.config),
        ("inline-cache", args.inline_cache),
        ("attestation", args.attestation),
    ):
        for platform, data in _files(option, texts, sources):
            sources[platform] = _with(sources[platform], option, data)
    with (
        writable(args) as store,
        steps(how(args)) as reports,
        tracer().span("commit"),
        naming_if_full(str(store.directory)),
    ):
        made = commit(
            store,
            Source(tuple(sources.values()), args.base),
            tuple(dict.fromkeys((*names, *parse_names(found.names)))),
            replace(found.commit, created=time),
            reports.on_step,
            reports.on_bytes,
        )
    if args.iidfile:
        _write(args.iidfile, made.image_id)
    if args.metadata_file:
        _write(args.metadata_file, json.dumps(made.metadata(), indent=2, sort_keys=True) + "\n")
    print(made.target.digest)


COMMIT = Command(_commit, _options, words="[DIR] [NAME[,NAME…]]", most=None)


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
    """Return (platform, content) of each "[P=]FILE"; without P it is for the only platform."""
    wanted = list(known)
    found = []
    for text in texts:
        platform, equals, path = text.partition("=")
        if not equals or platform not in wanted:
            if len(wanted) > 1:
                raise UsageError(
                    f"--{option} {text}: expected P=FILE with one of {', '.join(wanted)}"
                )
            platform, path = wanted[0], text
        found.append((platform, Path(path).read_bytes()))
    return found


def _annotations(texts: Iterable[str]) -> tuple[Annotation, ...]:
    try:
        return tuple(found for text in texts for found in annotations.parse(text))
    except InvalidAnnotation as error:
        raise UsageError(f"--{error}") from error


def _output(texts: Iterable[str]) -> dict[str, str]:
    """Parse "K=V,…"; a field that contains a comma is quoted, as in CSV."""
    found = {}
    for text in texts:
        for field in _fields(text):
            key, equals, value = field.partition("=")
            if not equals or not key:
                raise UsageError(f"--output {field}: expected KEY=VALUE")
            found[key] = value
    if found.pop("type", "image") != "image":
        raise UsageError("--output: expected type=image")
    return found


def _fields(text: str) -> list[str]:
    try:
        return [field for row in csv.reader([text]) for field in row]
    except csv.Error as error:
        raise UsageError(f"--output {printable(text)}: expected K=V,… as in CSV") from error


def _without_directories(
    wanted: Sequence[str], words: Sequence[str]
) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
    """Return (platform, "") of each platform, and the names."""
    if len(words) > 1:
        raise UsageError("expected NAME[,NAME…] and nothing else with --config-only")
    return [(platform, "") for platform in wanted or ("",)], parse_names(words[0] if words else "")


def _operands(
    wanted: Sequence[str], words: Sequence[str]
) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
    """Return (platform, directory) of each operand, and the names."""
    pairs = [(platform, directory) for platform, _, directory in (w.partition("=") for w in wanted)]
    if any(directory for _, directory in pairs):
        if not all(directory for _, directory in pairs):
            raise UsageError("--platform needs a directory for each of several platforms")
        if len(words) > 1:
            raise UsageError("expected NAME[,NAME…] and nothing else with --platform P=DIR")
        return pairs, parse_names(words[0] if words else "")
    if len(pairs) > 1:
        raise UsageError("--platform needs a directory for each of several platforms")
    if not 1 <= len(words) <= 2:
        raise UsageError("expected DIR and NAME[,NAME…]")
    platform = pairs[0][0] if pairs else ""
    return [(platform, words[0])], parse_names(words[1] if len(words) > 1 else "")

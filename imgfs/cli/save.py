"""`imgfs save`: write images as one archive or one directory."""

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

from msgspec.structs import replace

from engine import names
from engine.archive.save import Destination, Output, save, save_trimmed
from engine.errors import printable
from engine.graph import graph
from engine.image import Image
from engine.layouts import combined, selection
from engine.layouts.selection import Selection
from engine.progress import Progress
from engine.spec import platforms
from engine.spec.oci import Platform
from engine.stores.protocols import Store
from imgfs.cli.support.command import Command, Parser, UsageError
from imgfs.cli.support.common import Failed, opened
from imgfs.cli.support.files import followed, may_be_written_anywhere, whole_file
from imgfs.cli.support.progress import how, progress_of, progress_options
from imgfs.cli.support.streams import pipe_of, write_all, writer_to_standard_output
from imgfs.cli.support.tracing import tracer

Options = TypeVar("Options", bound=Selection)
_NOT_FOR_DOCKER: Mapping[str, str] = {
    "append": "makes whole archives: name all images in one save instead of --append",
    "since": "uncompresses the layers, so that they are none of the blobs that --since leaves out",
    "trim_index": "saves one platform without an index, so that --trim-index has nothing to trim",
}
"""Options that the layout of docker save does not allow, and why."""


def _options(parser: Parser) -> None:
    parser.add_argument(
        "-o", "--output", metavar="PATH", help="Write to a file or a directory, not to stdout."
    )
    parser.repeatable("--platform", metavar="PLATFORM", help="Save only this platform; repeatable.")
    parser.flag("--all-platforms", help="Save all that the store holds (the default).")
    parser.flag("--skip-missing", help="Skip platforms that an image lacks, and report them.")
    parser.add_argument(
        "--append", metavar="PATH", help="Add the images to an existing archive or directory."
    )
    parser.flag(
        "--trim-index",
        help="List in the index of an image only what is there; this changes its digest.",
    )
    parser.flag(
        "--referrers",
        help="Add the signatures, SBOMs and other manifests that refer to the images.",
    )
    parser.repeatable("--since", metavar="NAME", help="Leave out blobs that this image has.")
    parser.add_argument(
        "--layout",
        choices=("combined", "docker"),
        default="combined",
        help="Blobs as they are stored (the default), or as docker save writes them.",
    )
    progress_options(parser)


def _save(args: Namespace) -> None:
    """Write images as one archive.

    docker, podman, containerd, skopeo and umoci read it. A name without a tag means
    every tag of it; IDs, ID prefixes and NAME@DIGEST work as well. In a directory,
    one that ends in a slash or is there, the images are added to those it holds.

    imgfs save -o x.tar alpine:3 busybox
    imgfs save app:1 | docker load
    imgfs save -o layout/ app:1            an OCI layout, for skopeo copy oci:layout:1
    imgfs save --append x.tar app:2        add the blobs that x.tar lacks
    imgfs save --since app:1 app:2         for a store that has app:1
    imgfs save --trim-index app:1          for tools that want all that an index lists
    imgfs save --referrers app:1           with its signatures and SBOMs
    imgfs save --layout docker app:1       as docker save writes it
    """
    if args.platform and args.all_platforms:
        raise UsageError("--platform and --all-platforms exclude each other")
    if args.append and args.output:
        raise UsageError("--append and --output exclude each other")
    if "" in (args.append, args.output):
        raise UsageError("-o and --append: expected a file or a directory, found an empty text")
    if args.referrers and (args.platform or args.trim_index or args.layout == "docker"):
        raise UsageError("--referrers takes neither --platform, --trim-index nor --layout docker")
    if args.layout == "docker":
        for option, reason in _NOT_FOR_DOCKER.items():
            if getattr(args, option):
                raise UsageError(f"--layout docker {reason}")
    if args.output is None and args.append is None and sys.stdout.isatty():
        raise Failed("an archive is not for a terminal: use -o FILE or a redirection")
    wanted = tuple(platforms.parse(one) for one in args.platform)
    with opened(args) as store:
        found = (names.find_to_save(store.images, name) for name in args.words)
        images = _unique([image for some in found for image in some])
        if args.referrers:
            images = _unique([*images, *_referrers(store, images)])
        if args.skip_missing:
            images = _having(store, images, wanted)
        _write(store, images, wanted, args)


SAVE = Command(_save, _options, words="NAME…", least=1, most=None)


def _write(
    store: Store, images: list[Image], wanted: tuple[Platform, ...], args: Namespace
) -> None:
    required = () if args.skip_missing else wanted
    directory = _directory(args)
    with ExitStack() as stack:
        on_progress = stack.enter_context(progress_of("Saving", how(args)))
        output: Destination
        if directory is not None:
            from engine.archive.directory_writer import DirectoryOutput  # most write an archive

            output = DirectoryOutput(followed(directory), on_progress, tracer())
        else:
            output = _archive(args, stack, on_progress)
        if args.layout == "docker":
            from engine.archive.save_for_docker import save_for_docker
            from engine.layouts import docker_save  # most archives have the other layout

            chosen = _selection(docker_save.Options, wanted, required)
            save_for_docker(store, images, chosen, output)
            return
        options = _selection(combined.Options, wanted, required)
        if args.since:
            known = _blobs_below(store, args.since)
            options = replace(options, keeps=lambda blob: blob.digest not in known)
        if args.trim_index:
            _report_trimmed(images, save_trimmed(store, images, options, output))
        else:
            save(store, images, options, output)


def _report_trimmed(images: Sequence[Image], trimmed: Sequence[Image]) -> None:
    """Print which images got another digest, since the names of an archive lead to the new one."""
    for before, after in zip(images, trimmed, strict=True):
        if before.target.digest != after.target.digest:
            change = f"{before.familiar}: saved with a trimmed index, {after.target.digest}"
            print(f"imgfs: {printable(change, 2000)}", file=sys.stderr)


def _directory(args: Namespace) -> Path | None:
    """Return the directory to write to, None for an archive."""
    given = args.append if args.output is None else args.output
    if given is None:
        return None
    is_named_so = args.append is None and given.endswith("/")
    return Path(given) if is_named_so or Path(given).is_dir() else None


def _archive(args: Namespace, stack: ExitStack, on_progress: Progress) -> Destination:
    """Return the destination for an archive: a file, or what can only be written in order."""
    given = args.append if args.output is None else args.output
    if given is None:
        return _in_order(sys.stdout.buffer, writer_to_standard_output(), on_progress)
    if args.append is None:
        return _in_file(Path(given), stack, on_progress)
    from engine.archive.existing import ExistingArchive, Extended, locked  # most archives are new

    archive = Path(given)
    stack.enter_context(locked(archive))
    existing = stack.enter_context(ExistingArchive(archive))
    return Extended(existing, _in_file(archive, stack, on_progress))


def _in_file(path: Path, stack: ExitStack, on_progress: Progress) -> Destination:
    file = stack.enter_context(whole_file(path))
    if may_be_written_anywhere(file):
        from engine.archive.file_output import FileOutput  # most archives go to a pipe

        return FileOutput(file.fileno(), on_progress, tracer())
    return _in_order(file, file.write, on_progress)


def _in_order(stream: BinaryIO, write: Callable[[bytes], object], on_progress: Progress) -> Output:
    """Return the destination for an archive that is written from its beginning to its end, by
    `write` unless the stream is a pipe.
    """
    pipe = pipe_of(stream)
    if pipe is not None:
        write = partial(write_all, partial(os.write, pipe))
    return Output(write, on_progress, tracer(), pipe)


def _unique(images: Sequence[Image]) -> list[Image]:
    return list({image.name: image for image in images}.values())


def _referrers(store: Store, images: Sequence[Image]) -> list[Image]:
    """Return what refers to these images, without names."""
    return [found.image for image in images for found in store.referrers(image)]


def _blobs_below(store: Store, words: Sequence[str]) -> frozenset[str]:
    """Return the digests of all blobs that the store holds of the images with these names."""
    images = (image for word in words for image in names.find(store.images, word))
    targets = {image.target.digest for image in images}
    return frozenset(b for target in targets for b in store.images.summary(target).blobs)


def _having(store: Store, images: Sequence[Image], wanted: Sequence[Platform]) -> list[Image]:
    """Return the images that have any of the platforms; report the platforms that they lack."""
    kept = []
    for image in images:
        found = graph(store.content, image.target)
        lacking = [p for p in wanted if found.best(platforms.only(p)) is None]
        for platform in lacking:
            what = f"{platforms.format_all(platform)} of {image.familiar}"
            print(f"imgfs: left out: {printable(what, 2000)}", file=sys.stderr)
        if not wanted or len(lacking) < len(wanted):
            kept.append(image)
    if not kept:
        raise Failed("no image has any of the platforms")
    return kept


def _selection(
    kind: type[Options], wanted: Sequence[Platform], required: tuple[Platform, ...]
) -> Options:
    if not wanted:
        return kind(fallback=selection.any_complete)
    matcher = platforms.only(*wanted)
    return kind(platform=matcher, preferred=matcher, required=required)

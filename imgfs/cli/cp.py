"""`imgfs cp`: copy files out of the root of an image."""

import os
import sys
from argparse import Namespace
from pathlib import Path

from engine.archive.copy_out import Copied, copy_to_directory, copy_to_tar
from engine.archive.save import Output
from engine.details import details
from imgfs.cli.support.command import Command, Parser, UsageError
from imgfs.cli.support.common import Failed, opened
from imgfs.cli.support.platform_option import platform_matcher, platform_option
from imgfs.cli.support.progress import how, progress_of, progress_options
from imgfs.cli.support.streams import widen
from imgfs.cli.support.tracing import tracer

_STDOUT = "-"


def _options(parser: Parser) -> None:
    parser.flag("-a", "--archive", help="Keep owners, setuid and extended attributes, as root.")
    parser.flag("-L", "--follow-link", help="Copy what a symlink at PATH leads to.")
    platform_option(parser)
    progress_options(parser)


def _cp(args: Namespace) -> None:
    """Copy a file or directory out of an image, by the rules of docker cp.

    A DEST that is a directory receives a copy of the same name; PATH/. copies what is in
    a directory. DEST may be - for a tar on standard output. Nothing is unpacked but what
    is copied.

    imgfs cp app:1:/etc/os-release .
    imgfs cp app:1:/usr/share/doc/. doc
    imgfs cp app:1:/etc - | tar -t
    """
    image, path = _source(args.words[0])
    destination = args.words[1]
    if destination == _STDOUT and sys.stdout.isatty():
        raise Failed("an archive is not for a terminal: use a directory or a redirection")
    copied = Copied(os.fsencode(path), args.follow_link)
    with opened(args) as store, progress_of("Copying", how(args), after=1) as on_progress:
        manifest = details(store, image, platform_matcher(args)).manifest.manifest
        if destination == _STDOUT:
            write = widen(sys.stdout.buffer).write
            copy_to_tar(store, manifest, copied, Output(write, on_progress, tracer()))
            return
        if destination.endswith("/") and not Path(destination).is_dir():
            raise Failed(f"{destination}: is not a directory that is there")
        place = Path(destination)
        copy_to_directory(store, manifest, copied, place, args.archive, on_progress)


CP = Command(_cp, _options, words="IMAGE:PATH DEST", least=2, most=2)


def _source(text: str) -> tuple[str, str]:
    """Return the image and the path; names hold colons, so the path begins at ":/" or at the last
    colon.
    """
    image, colon, path = text.partition(":/")
    if colon:
        path = f"/{path}"
    else:
        image, colon, path = text.rpartition(":")
    if not (image and path):
        raise UsageError(f"{text}: expected IMAGE:PATH, such as app:1:/etc/passwd")
    return image, path

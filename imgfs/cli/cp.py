"""`imgfs cp`: copy files out of the root of an image."""

import os
import sys
from argparse import Namespace
from pathlib import Path

from engine import names
from engine.archive.copy_out import Copied, copy_to_directory, copy_to_tar
from engine.archive.save import Output
from engine.details import details
from engine.errors import EngineError, NotFound
from engine.stores.protocols import Store
from imgfs.cli.support.command import Command, Parser, UsageError
from imgfs.cli.support.common import Failed, opened
from imgfs.cli.support.files import followed
from imgfs.cli.support.left_out import print_left_out
from imgfs.cli.support.platform_option import platform_matcher, platform_option
from imgfs.cli.support.progress import how, progress_of, progress_options
from imgfs.cli.support.streams import writer_to_standard_output
from imgfs.cli.support.tracing import tracer

_STDOUT = "-"
_EXPECTED = "expected IMAGE:PATH, such as app:1:/etc/passwd"


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
    source, destination = args.words
    image, path = _split(source, destination)
    if not destination:
        raise UsageError("DEST: expected a path or -, found an empty text")
    if destination == _STDOUT and sys.stdout.isatty():
        raise Failed("an archive is not for a terminal: use a directory or a redirection")
    copied = Copied(os.fsencode(path), args.follow_link)
    with opened(args) as store, progress_of("Copying", how(args), after=1) as on_progress:
        try:
            manifest = details(store, image, platform_matcher(args)).manifest.manifest
        except NotFound:
            if _is_image(store, source):
                raise UsageError(f"{source}: {_EXPECTED}, found an image without a path") from None
            raise
        if destination == _STDOUT:
            write = writer_to_standard_output()
            left_out = copy_to_tar(store, manifest, copied, Output(write, on_progress, tracer()))
        else:
            place = _place(destination)
            left_out = copy_to_directory(store, manifest, copied, place, args.archive, on_progress)
    print_left_out(left_out)


CP = Command(_cp, _options, words="IMAGE:PATH DEST", least=2, most=2)


def _place(destination: str) -> str:
    """Return the file or directory that DEST names, which is what a symlink there leads to; with a
    slash at its end if it must be a directory.

    Raise Failed for anything else that is there, such as a device, and as `followed`.
    """
    given = Path(destination)
    place = followed(given)
    if given.exists() and not (given.is_file() or given.is_dir()):
        raise Failed(f"{destination}: is neither a file nor a directory; use - for a tar on stdout")
    return f"{place}/" if destination.endswith(("/", "/.")) else str(place)


def _split(text: str, destination: str) -> tuple[str, str]:
    """Return the image and the path; names hold colons, so the path begins at ":/" or at the last
    colon.
    """
    image, colon, path = text.partition(":/")
    if colon:
        path = f"/{path}"
    else:
        image, colon, path = text.rpartition(":")
    if not (image and path):
        into = "; images do not change: imgfs commit makes new ones" if ":/" in destination else ""
        raise UsageError(f"{text}: {_EXPECTED}{into}")
    return image, path


def _is_image(store: Store, text: str) -> bool:
    try:
        return bool(names.find_one(store.images, text))
    except EngineError:
        return False

"""`imgfs export`: write the merged root of an image as a tar archive."""

import os
import sys
from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path

from engine.archive.export import export
from engine.archive.save import Output
from engine.details import details
from imgfs.cli.support.command import Command, Parser
from imgfs.cli.support.common import Failed, opened
from imgfs.cli.support.files import whole_file
from imgfs.cli.support.left_out import print_left_out
from imgfs.cli.support.platform_option import platform_matcher, platform_option
from imgfs.cli.support.progress import how, progress_of, progress_options
from imgfs.cli.support.streams import writer_to_standard_output
from imgfs.cli.support.tracing import tracer


def _options(parser: Parser) -> None:
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="Write to a file, not to standard output."
    )
    platform_option(parser)
    progress_options(parser)


def _export(args: Namespace) -> None:
    """Write the merged root of an image as a tar archive.

    It holds what a container of the image would see, as tar -C ROOT -c would write it,
    and is the same bytes each time. With PATHs, only those and what is below them.

    imgfs export app:1 | tar -C root -x
    imgfs export app:1 /etc usr/share/doc -o parts.tar
    imgfs export app:1 etc/os-release | tar -xO
    imgfs export app:1 | docker import - app:flat
    """
    image, *paths = args.words
    if args.output is None and sys.stdout.isatty():
        raise Failed("an archive is not for a terminal: use -o FILE or a redirection")
    with opened(args) as store, ExitStack() as stack:
        found = details(store, image, platform_matcher(args))
        on_progress = stack.enter_context(progress_of("Exporting", how(args)))
        if args.output is None:
            write = writer_to_standard_output()
        else:
            write = stack.enter_context(whole_file(Path(args.output))).write
        output = Output(write, on_progress, tracer())
        left_out = export(store, found.manifest.manifest, [*map(os.fsencode, paths)], output)
    print_left_out(left_out)


EXPORT = Command(_export, _options, words="IMAGE [PATH…]", least=1, most=None)

"""`imgfs import`: make an image from a tar of its root."""

import sys
from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path

from engine.commit.commit import commit
from engine.commit.source import (
    CommitOptions,
    PlatformSource,
    RootArchive,
    Source,
    parse_names,
)
from engine.compression import options as compressions
from engine.errors import BrokenArchive
from engine.spec import platforms
from imgfs.cli.support.command import Command, Parser
from imgfs.cli.support.common import Failed, writable
from imgfs.cli.support.created import created, source_date_epoch
from imgfs.cli.support.files import followed, naming_if_full
from imgfs.cli.support.progress import how, progress_option
from imgfs.cli.support.steps import steps
from imgfs.cli.support.tracing import tracer

_STDIN = "-"
_DESCRIPTION = "imgfs import"


def _options(parser: Parser) -> None:
    parser.repeatable(
        "-c",
        "--change",
        metavar="'CMD …'",
        help="Change the config with a Dockerfile instruction, as docker import does.",
    )
    parser.add_argument("-m", "--message", default="", help="Comment in the layer's history entry.")
    parser.add_argument("--platform", default="", help="The platform (default: that of this host).")
    parser.add_argument(
        "--compression",
        default="gzip",
        metavar="KIND[:LEVEL]",
        help="Compression of the layer (default: gzip).",
    )
    progress_option(parser)
    parser.flag("-q", "--quiet", help="Show no progress.")


def _import(args: Namespace) -> None:
    """Make an image from a tar of its root, compressed or not; print its digest.

    The tar becomes the only layer, so the diff ID is that of docker import. FILE may be
    - for standard input. imgfs load loads archives of images.

    imgfs import rootfs.tar.xz debian:mine
    docker export box | imgfs import -c 'CMD ["/bin/sh"]' - box:1
    """
    file, *names = args.words
    if file == _STDIN and sys.stdin.isatty():
        raise Failed("an archive is not read from a terminal: give a file or a redirection")
    time = created(source_date_epoch())
    if Path(file).is_dir():
        raise Failed(f"{file}: is a directory; imgfs commit makes images of directories")
    options = CommitOptions(
        compression=compressions.parse(args.compression),
        instructions=tuple(args.change),
        created=time,
        message=args.message or f"Imported from {file}",
    )
    platform = platforms.parse(args.platform) if args.platform else None
    wanted = parse_names(",".join(names))
    with ExitStack() as stack:
        if file == _STDIN:
            read = sys.stdin.buffer.read
        else:
            read = stack.enter_context(followed(Path(file)).open("rb", buffering=0)).read
        archive = RootArchive(read, _DESCRIPTION, time)
        store = stack.enter_context(writable(args))
        reports = stack.enter_context(steps(how(args)))
        stack.enter_context(tracer().span("import"))
        stack.enter_context(naming_if_full(str(store.directory)))
        try:
            source = Source((PlatformSource(platform, archive=archive),))
            made = commit(store, source, wanted, options, reports.on_step, reports.on_bytes)
        except BrokenArchive as error:
            where = "standard input" if file == _STDIN else file
            raise BrokenArchive(where, error.reason) from error
    print(made.target.digest)


IMPORT = Command(_import, _options, words="FILE [NAME]", least=1, most=2)

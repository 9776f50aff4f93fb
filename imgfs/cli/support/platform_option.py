"""The option --platform of the commands that show one image of an index."""

from argparse import Namespace

from engine.spec import platforms
from imgfs.cli.support.command import Parser


def platform_option(parser: Parser) -> None:
    """Add --platform."""
    parser.add_argument(
        "--platform", metavar="PLATFORM", help="For an index, select the image for this platform."
    )


def platform_matcher(args: Namespace) -> platforms.Matcher | None:
    """Return a matcher of the given platform, None if none is given; raise InvalidPlatform."""
    return platforms.only(platforms.parse(args.platform)) if args.platform else None

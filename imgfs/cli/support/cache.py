"""The options for the cache of a store, which become options of its URL."""

from argparse import Namespace
from pathlib import Path

from imgfs.cli.support.command import Parser, UsageError


def cache_options(parser: Parser) -> None:
    """Add --cache and --cache-size."""
    parser.add_argument(
        "--cache", metavar="DIR", help="Keep blobs of a registry in this directory."
    )
    parser.add_argument(
        "--cache-size", metavar="SIZE", help="Keep no more of them than this: 500M, 20G."
    )


def with_cache(location: str, args: Namespace) -> str:
    """Return the location of a store with the options for its cache; raise UsageError if it is a
    path.
    """
    given = {"cache-size": args.cache_size} if args.cache_size else {}
    if args.cache:
        given["cache"] = str(Path(args.cache).absolute())
    if not given:
        return location
    if "://" not in location:
        raise UsageError(f"--{min(given)}: expected a registry as the store, found {location}")
    from urllib.parse import urlencode  # few mounts need it

    return f"{location}{'&' if '?' in location else '?'}{urlencode(given, safe='/')}"

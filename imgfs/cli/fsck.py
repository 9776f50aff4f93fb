"""`imgfs fsck`: report what is damaged in a store, and repair it."""

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import msgspec

from engine.errors import StoreDamaged, escaped
from engine.stores.local import rebuild
from engine.stores.local.fsck import check, check_layers, unverified_layers
from engine.stores.local.fsck.problem import Problem, Unverified
from engine.stores.local.fsck.repair import NO_LONGER_SO, repair
from engine.stores.local.fsck.repair_lock import repairing
from engine.stores.local.fsck.replacement import replace_database, restore_names
from engine.stores.local.store import LocalStore
from imgfs.cli.support.command import Command, Parser
from imgfs.cli.support.common import Failed, format_option, print_json, store_location
from imgfs.cli.support.progress import how, progress_of, progress_options


class _Found(msgspec.Struct, frozen=True):
    """A problem, and how it was repaired ("" if it was not)."""

    problem: Problem
    repaired: str = ""

    @property
    def is_settled(self) -> bool:
        return bool(self.repaired) or self.problem.kind.is_rubbish

    @property
    def lost_by(self) -> tuple[str, ...]:
        """The images that the problem has damaged."""
        has_lost = self.problem.kind.is_damage and self.repaired != NO_LONGER_SO
        return self.problem.images if has_lost else ()

    def line(self) -> str:
        problem = self.problem
        images = f" (in {', '.join(problem.images)})" if problem.images else ""
        done = f": {self.repaired}" if self.repaired else ""
        return f"{problem.kind} {problem.subject}: {problem.text}{images}{done}"

    def to_json(self) -> dict[str, object]:
        problem = self.problem
        return {
            "kind": problem.kind,
            "subject": problem.subject,
            "text": problem.text,
            "images": problem.images,
            "repaired": self.repaired,
        }


def _options(parser: Parser) -> None:
    parser.flag("--deep", help="Also decompress every layer and compare diff IDs.")
    parser.flag("--repair", help="Repair what can be repaired safely.")
    format_option(parser, "table", "json")
    progress_options(parser)


def _fsck(args: Namespace) -> None:
    """Check every blob and every image; print a line for each problem.

    With --repair, rows without a file are removed, files without a row get one,
    damaged files are moved to quarantine/ in the store, and the records about images
    are derived again from their blobs. Damaged events and leases are removed. A database
    that cannot be used is made anew. One repair runs at a time.
    The status is 1 if there is a problem (with --repair: if an image is damaged).
    """
    store = _local_store(args)
    report = _ignore if args.quiet or args.format == "json" else print
    with repairing(store) if args.repair else nullcontext():
        try:
            found = _check(store, args, report)
        except StoreDamaged:
            if not args.repair:
                raise
            replace_database(store)
            _warn("the database cannot be used and is made anew; the old one is in quarantine/")
            found = _check(store, args, report)
    damaged = sorted({name for one in found for name in one.lost_by})
    unverified = _unverified(store) if args.deep else []
    if args.format == "json":
        document = {"problems": [one.to_json() for one in found], "damaged": damaged}
        if unverified:
            document["unverified"] = [msgspec.to_builtins(one) for one in unverified]
        print_json(document)
    elif not args.quiet:
        before = "" if args.repair else "run imgfs fsck --repair, then "
        for name in damaged:
            print(f"image {escaped(name)} has lost something: {before}load it again")
        for layer in unverified:
            images = ", ".join(layer.images)
            text = f"layer {layer.digest} {layer.reason}: its diff ID cannot be checked"
            print(escaped(f"{text} (in {images})"))
        print(_summary(found))
    if is_unfinished := rebuild.is_unfinished(store):
        _warn("the database is being rebuilt: let imgfs fsck --repair end, or run it again")
    if damaged or is_unfinished or not all(one.is_settled for one in found):
        raise Failed("")


FSCK = Command(_fsck, _options)


def _local_store(args: Namespace) -> Path:
    location = store_location(args.store)
    if "://" in location:
        raise Failed(
            f"{location}: fsck checks local stores, of which the cache of a registry is one"
        )
    return Path(location)


def _warn(text: str) -> None:
    print(f"imgfs: warning: {text}", file=sys.stderr)


def _ignore(_line: str) -> None:
    """Report nothing."""


def _check(path: Path, args: Namespace, report: Callable[[str], None]) -> list[_Found]:
    """Check, repair and report; then give the images of a rebuilt database their names back."""
    found = []
    with LocalStore.open(path) as store:
        for problem in _problems(store, args.deep, how(args)):
            one = _Found(problem, repair(store, problem) if args.repair else "")
            found.append(one)
            report(escaped(one.line()))
        for name in restore_names(store) if args.repair else ():
            report(f"image {escaped(name)}: has its name again")
    return found


def _problems(store: LocalStore, deep: bool, progress: str) -> Iterator[Problem]:
    with progress_of("Checking", progress) as on_progress:
        yield from check(store, on_progress)
    if deep:
        yield from check_layers(store)


def _unverified(path: Path) -> list[Unverified]:
    with LocalStore.open(path) as store:
        return list(unverified_layers(store))


def _summary(found: list[_Found]) -> str:
    if not found:
        return "nothing is wrong"
    repaired = sum(bool(one.repaired) for one in found)
    return f"{len(found)} problem{'s'[: len(found) - 1]}, {repaired} repaired"

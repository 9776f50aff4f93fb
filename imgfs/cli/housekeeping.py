"""`imgfs gc`: what nothing needs goes."""

import click

from engine.engine import Engine
from engine.gc import Garbage
from imgfs.cli.common import format_option, human, print_json, with_engine


@click.command()
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would go, and why.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@format_option
@with_engine
def gc(engine: Engine, dry_run: bool, quiet: bool, form: str) -> None:
    """Remove what no image needs: blobs, and what interrupted loads have left.

    Mounts and other commands may go on meanwhile; what they use stays.
    """
    collector = engine.collector()
    removed, freed = [], 0
    for garbage in collector.plan() if dry_run else collector.collect():
        freed += garbage.size
        if form == "json":
            removed.append(garbage)
        elif not quiet:
            print(_line("would remove" if dry_run else "removed", garbage), flush=True)
    if form == "json":
        print_json(
            {
                "removed": [
                    {"kind": g.kind, "name": g.name, "size": g.size, "reason": g.reason}
                    for g in removed
                ],
                "freed": freed,
            }
        )
    elif not quiet:
        print(f"{'would free' if dry_run else 'freed'} {human(freed)}")


def _line(verb: str, garbage: Garbage) -> str:
    return f"{verb} {garbage.kind} {garbage.name} ({human(garbage.size)}): {garbage.reason}"

"""Runs one fuzz target of tests/fuzz with atheris, or every one of them by turns.

A target's corpus is what it grew to in earlier runs, and its seeds. What a target finds fault with
stands beside the corpus, in a file that begins with "crash-", "timeout-" or "oom-".
"""

import argparse
import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path("build/fuzz")
_LIMITS = ("-timeout=60", "-rss_limit_mb=2048", "-max_len=20000", "-print_final_stats=1")
_NAMES = (
    "tar",
    "pax",
    "layers",
    "streams",
    "json",
    "documents",
    "references",
    "changes",
    "load",
    "load-documents",
)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("target", nargs="?", choices=["all", *_NAMES], default="all")
    parser.add_argument("seconds", nargs="?", type=int, default=300, help="for each target")
    options = parser.parse_args(arguments)
    if options.target != "all":
        return fuzz(options.target, options.seconds)
    command = [sys.executable, "-m", "scripts.lib.fuzz"]
    failed = [
        name
        for name in _NAMES
        if subprocess.run([*command, name, str(options.seconds)], check=False).returncode
    ]
    if failed:
        print(f"faults were found by: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def fuzz(name: str, seconds: int) -> int:
    """Does not return where atheris does not: it ends the process itself."""
    import atheris

    with atheris.instrument_imports(include=["engine"]):
        from tests.fuzz.seeds import seeds
        from tests.fuzz.targets import TARGETS
    corpus = FOLDER / name / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in seeds(name):
        (corpus / hashlib.sha256(seed).hexdigest()).write_bytes(seed)
    places = (f"-artifact_prefix={FOLDER / name}/", str(corpus))
    atheris.Setup(["fuzz", f"-max_total_time={seconds}", *_LIMITS, *places], TARGETS[name])
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

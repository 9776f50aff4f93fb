"""Run one fuzz target of tests/fuzz with atheris, or all of them in turn.

The corpus of a target consists of its seeds and of the inputs that earlier runs have added. An
input on which a target fails is kept next to the corpus, in a file whose name starts with "crash-",
"timeout-" or "oom-".
"""

import argparse
import hashlib
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path("build/fuzz")
_LIMITS = ("-timeout=60", "-rss_limit_mb=2048", "-max_len=20000", "-print_final_stats=1")
_WORD = re.compile(rb'"[^"\\\\\n]{1,80}"|-- [^\n]+ --\n|[A-Za-z][A-Za-z.]{2,40}|@\d|"#\d"')
"""Words that documents consist of; the fuzzer inserts them whole, and so reaches more code."""
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
    parser.add_argument(
        "seconds", nargs="?", type=int, default=300, help="seconds for each target (300)"
    )
    parser.add_argument("--run", type=Path, metavar="FILE", help="run one input once")
    options = parser.parse_args(arguments)
    if options.run is not None:
        return run(options.target, options.run.read_bytes())
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


def run(name: str, data: bytes) -> int:
    from tests.fuzz.targets import TARGETS

    TARGETS[name](data)
    return 0


def fuzz(name: str, seconds: int) -> int:
    """Run a target. This does not return if atheris is installed, which ends the process itself."""
    try:
        import atheris
    except ImportError:
        print("fuzz: there is no atheris for this machine and Python", file=sys.stderr)
        return 2
    with atheris.instrument_imports(include=["engine"]):
        from tests.fuzz.seeds import seeds
        from tests.fuzz.targets import TARGETS
    corpus = FOLDER / name / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    words: dict[bytes, None] = {b"null": None}
    for seed in seeds(name):
        (corpus / hashlib.sha256(seed).hexdigest()).write_bytes(seed)
        words |= dict.fromkeys(_WORD.findall(seed))
    dictionary = FOLDER / name / "dictionary"
    dictionary.write_text("".join(f'"{quoted(word)}"\n' for word in words))
    places = (f"-artifact_prefix={FOLDER / name}/", f"-dict={dictionary}", str(corpus))
    atheris.Setup(["fuzz", f"-max_total_time={seconds}", *_LIMITS, *places], TARGETS[name])
    atheris.Fuzz()
    return 0


def quoted(word: bytes) -> str:
    """Quote a word as a libFuzzer dictionary requires."""
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

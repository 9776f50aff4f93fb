"""Manual pages, made of the parsers and help texts of the commands."""

import argparse
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

from imgfs.cli import COMMANDS, command_of
from imgfs.cli.support.command import Parser

_STORE = "The location of the store: a directory or a URL."
_ENVIRONMENT = {
    "IMGFS_STORE": "The store, if the option --store does not name one.",
    "SOURCE_DATE_EPOCH": "The time of images that are made, in seconds since 1970.",
    "IMGFS_DEBUG": "If it is set, an internal error shows where it happened.",
}
_FILES = {
    "/var/lib/imgfs": "The store of root. Other users have one in their data directory.",
    "/etc/fuse.conf": "With user_allow_other, users other than root may mount with allow_other.",
}
_ABOUT = (
    "imgfs mount shows every stored image as a directory with the content of an archive that"
    " Docker's and OCI's tools read. An archive that is copied into import/ there is loaded. The"
    " other commands do the same without a mount."
)
_EXAMPLES = """\
imgfs mount /mnt/images
cp app.tar /mnt/images/import/
tar -C /mnt/images/app:1 -c . | docker load
diff -r /mnt/images/rootfs/app:1 /mnt/images/rootfs/app:2
imgfs umount /mnt/images

imgfs load -i app.tar
imgfs images
imgfs save app:1 | docker load
imgfs commit --base app:1 rootfs app:2"""
_RELATED = {
    "mount": ("umount", "load", "gc"),
    "umount": ("mount",),
    "commit": ("import", "diff", "history"),
    "import": ("commit", "export", "load"),
    "load": ("save", "import", "images"),
    "save": ("load", "export", "images"),
    "export": ("import", "cp", "save"),
    "cp": ("export", "diff"),
    "diff": ("history", "cp", "commit"),
    "images": ("inspect", "history", "rm"),
    "inspect": ("images", "history"),
    "history": ("diff", "inspect"),
    "info": ("mount", "fsck"),
    "events": ("info", "mount"),
    "prune": ("rm", "gc"),
    "gc": ("prune", "fsck"),
    "fsck": ("gc", "info"),
    "tag": ("rm", "images"),
    "rm": ("tag", "prune"),
    "completion": (),
}
_STATUS = (
    "0 if all was done, 1 if it failed, 2 if the arguments are wrong, 130 after an interrupt."
    " Errors are one line on standard error."
)


def escape(text: str) -> str:
    """Return text as roff prints it: hyphens as they are typed, and no line that is a request."""
    safe = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"(?m)^(?=[.'])", r"\\&", safe)


def pages(version: str) -> Iterator[tuple[str, str]]:
    """Yield the names of the files and their texts: imgfs.1, and one page for each command."""
    for name, text in (
        ("imgfs", _main_page()),
        *((f"imgfs-{n}", _command_page(n)) for n in COMMANDS),
    ):
        head = f'.TH {escape(name.upper())} 1 "" "imgfs {version}" "imgfs"'
        yield f"{name}.1", f"{head}\n{text}"


def _main_page() -> str:
    commands = {f"imgfs-{name}(1)": _summary(name) for name in COMMANDS}
    return _page(
        "imgfs",
        "a container image store that you use as a folder",
        "imgfs [\\-\\-store LOCATION] COMMAND [ARGUMENT…]",
        [
            *_section(
                "DESCRIPTION",
                [_ABOUT],
            ),
            *_terms("COMMANDS", commands),
            *_terms("OPTIONS", {"--store LOCATION": _STORE, "--version": "Show the version."}),
            *_examples([_EXAMPLES]),
            *_section("EXIT STATUS", [_STATUS]),
            *_terms("ENVIRONMENT", _ENVIRONMENT),
            *_terms("FILES", _FILES),
            *_see_also("docker(1)", "skopeo(1)", "podman(1)", "fusermount3(1)"),
        ],
    )


def _command_page(name: str) -> str:
    command = command_of(name)
    parser = Parser("")
    command.options(parser)
    summary, _, details = command.help.partition("\n")
    paragraphs = [part.strip("\n") for part in details.split("\n\n") if part.strip()]
    examples = [part for part in paragraphs if _is_example(part)]
    texts = [" ".join(part.split()) for part in paragraphs if part not in examples]
    options = dict(_option(action) for action in parser.actions if action.help != argparse.SUPPRESS)
    return _page(
        f"imgfs-{name}",
        f"{summary[0].lower()}{summary[1:].rstrip('.')}",
        escape(f"imgfs {name} [OPTION…] {command.words}".rstrip()),
        [
            *_section("DESCRIPTION", [summary, *texts]),
            *_terms("OPTIONS", {**options, "--store LOCATION": _STORE}),
            *_examples(examples),
            *_section("EXIT STATUS", [_STATUS]),
            *_see_also("imgfs(1)", *(f"imgfs-{other}(1)" for other in _RELATED[name])),
        ],
    )


def _summary(name: str) -> str:
    return command_of(name).help.splitlines()[0]


def _is_example(paragraph: str) -> bool:
    return any(re.match(r"\s*(imgfs|docker|mount|source) ", line) for line in paragraph.split("\n"))


def _option(action: argparse.Action) -> tuple[str, str]:
    value = action.metavar or "|".join(action.choices or ())
    takes = f" {value or action.dest.upper()}" if action.nargs != 0 else ""
    return ", ".join(action.option_strings) + takes, action.help or ""


def _page(name: str, summary: str, synopsis: str, rest: Iterable[str]) -> str:
    lines = [
        ".SH NAME",
        f"{escape(name)} \\- {escape(summary)}",
        ".SH SYNOPSIS",
        synopsis,
        *rest,
    ]
    return "\n".join(lines) + "\n"


def _section(title: str, paragraphs: Iterable[str]) -> Iterator[str]:
    yield f".SH {title}"
    for number, text in enumerate(paragraphs):
        if number:
            yield ".PP"
        yield escape(text)


def _terms(title: str, terms: dict[str, str]) -> Iterator[str]:
    yield f".SH {title}"
    for term, text in terms.items():
        yield from (".TP", f".B {escape(term)}", escape(text))


def _examples(blocks: Iterable[str]) -> Iterator[str]:
    for number, block in enumerate(blocks):
        if not number:
            yield ".SH EXAMPLES"
        yield from (".PP", ".nf", escape(block), ".fi")


def _see_also(*others: str) -> Iterator[str]:
    return _section("SEE ALSO", [", ".join(others)])


def main(directory: Path) -> None:
    """Write all pages into a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    for name, text in pages(project["version"]):
        (directory / name).write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

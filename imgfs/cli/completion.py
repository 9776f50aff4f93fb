"""`imgfs completion`: print a script with which a shell completes the command line of imgfs.

shtab makes the script from the parsers of all commands.
"""

import argparse
import re
from argparse import Namespace
from typing import Any

import shtab

from imgfs.cli import COMMANDS, command_of
from imgfs.cli.support.command import Command, Parser, UsageError

_SHELLS = ("bash", "zsh", "fish")
_NAMES = "imgfs images --filter dangling=false --format '{{.Repository}}:{{.Tag}}' 2>/dev/null"
_IMAGE = {
    "bash": "_imgfs_names",
    "zsh": "_imgfs_names",
    "fish": "(__imgfs_names)",
}
# bash splits words at colons, which names of images hold.
_PREAMBLE = {
    "bash": f"""\
COMP_WORDBREAKS=${{COMP_WORDBREAKS//:}}
_imgfs_names() {{ compgen -W "$({_NAMES})" -- "$1"; }}
""",
    "zsh": f"""\
_imgfs_names() {{ local -a names=(${{(f)"$({_NAMES})"}}); compadd -a names; }}
""",
    "fish": f"""\
function __imgfs_names; {_NAMES}; end
""",
}
_KINDS = {
    "IMAGE": _IMAGE,
    "NAME": _IMAGE,
    "SOURCE": _IMAGE,
    "A": _IMAGE,
    "B": _IMAGE,
    "FILE": shtab.FILE,
    "PATH": shtab.FILE,
    "DEST": shtab.FILE,
    "DIR": shtab.DIRECTORY,
    "MOUNTPOINT": shtab.DIRECTORY,
}
"""The completion of an argument, by its name in a usage line."""


def _completion(args: Namespace) -> None:
    """Print a script with which a shell completes commands, options and names of images.

    The shell is bash, zsh or fish.

    source <(imgfs completion bash)
    imgfs completion zsh > ~/.zfunc/_imgfs
    imgfs completion fish > ~/.config/fish/completions/imgfs.fish
    """
    (shell,) = args.words
    if shell not in _SHELLS:
        raise UsageError(f"{shell}: expected one of {', '.join(_SHELLS)}")
    print(shtab.complete(_program(), shell, preamble=_PREAMBLE[shell]))


COMPLETION = Command(_completion, words="SHELL", least=1, most=1)


class _Subparser(Parser):
    """A parser in the form in which argparse makes one for each command."""

    def __init__(self, prog: str, **_: Any) -> None:
        super().__init__(prog)
        self.prog = prog


def _program() -> argparse.ArgumentParser:
    """Return one parser with a subparser for each command."""
    program = argparse.ArgumentParser("imgfs", add_help=False)
    commands = program.add_subparsers(parser_class=_Subparser)
    for name in COMMANDS:
        found = command_of(name)
        summary = found.help.splitlines()[0]
        parser = commands.add_parser(name, help=summary)
        parser.description = summary
        found.options(parser)
        for action in parser.actions:
            _complete(action, str(action.metavar or ""))
        for number, word in enumerate(found.words.split()):
            is_last = word.rstrip("]").endswith("…")
            _complete(parser.add_argument(f"word{number}", nargs="*" if is_last else None), word)
    return program


def _complete(action: argparse.Action, word: str) -> None:
    """Let the shell complete an argument that has this name in a usage line."""
    name = re.split(r"[^A-Z]", word.strip("[]…"))[0]
    if name == "SHELL":
        action.choices = _SHELLS
    elif kind := _KINDS.get(name):
        action.complete = kind  # type: ignore[attr-defined]

"""`imgfs completion`: print a script with which a shell completes the command line of imgfs.

shtab makes the script from the parsers of all commands.
"""

import argparse
import re
from argparse import Namespace
from collections.abc import Callable
from typing import Any, Final

import shtab

from imgfs.cli import ALIASES, COMMANDS, command_of, program_parser
from imgfs.cli.support.command import Command, Parser, UsageError
from imgfs.cli.support.shell_functions import BASH, FISH, ZSH

_SHELLS = ("bash", "zsh", "fish")
_FUNCTIONS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
_IMAGE = {
    "bash": "_imgfs_names",
    "zsh": "_imgfs_names",
    "fish": "(__imgfs_names)",
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
    print(script(shell))


COMPLETION = Command(_completion, words="SHELL", least=1, most=1)


def script(shell: str) -> str:
    """Return the script for bash, zsh or fish."""
    return _ADAPTED[shell](shtab.complete(_program(), shell, preamble=_FUNCTIONS[shell]))


def _bash(made: str) -> str:
    """Return a script whose entry is our function, which calls shtab's."""
    return f"{made}\ncomplete -o bashdefault -F _imgfs imgfs"


def _zsh(made: str) -> str:
    """Return a script that completes all of several words, and values behind an equals sign."""
    every = made.replace('"(*)::', '"*:')
    return re.sub(r"(?m)^(.*?--[a-z-]+)([}\[].*\]:)", r"\1=\2", every)


_ADAPTED: Final[dict[str, Callable[[str], str]]] = {"bash": _bash, "zsh": _zsh, "fish": str}


class _Subparser(Parser):
    """A parser in the form in which argparse makes one for each command."""

    def __init__(self, prog: str, **_: Any) -> None:
        super().__init__(prog)
        self.prog = prog


def _program() -> argparse.ArgumentParser:
    """Return one parser with a subparser for each command and alias."""
    program = program_parser()
    _complete_options(program)
    commands = program.add_subparsers(parser_class=_Subparser)
    for name in (*COMMANDS, *ALIASES):
        found = command_of(name)
        parser = _add(commands, name, found.help.splitlines()[0])
        found.add_options(parser)
        _complete_options(parser)
        for number, word in enumerate(found.words.split()):
            nargs = "*" if word.rstrip("]").endswith("…") else None
            (label,) = re.findall(r"^\[?([A-Z:|]+)", word)
            _complete(parser.add_argument(f"word{number}", nargs=nargs, metavar=label))
    about = _add(commands, "help", "Show the help of a command.")
    about.add_argument("word0", metavar="COMMAND", choices=(*COMMANDS, *ALIASES))
    return program


def _add(commands: "argparse._SubParsersAction[_Subparser]", name: str, summary: str) -> _Subparser:
    parser = commands.add_parser(name, help=summary)
    parser.description = summary
    return parser


def _complete_options(parser: Parser) -> None:
    for action in parser.actions:
        _complete(action)


def _complete(action: argparse.Action) -> None:
    """Let the shell complete an argument, by its name in a usage line."""
    name = str(action.metavar or "")
    if name == "SHELL":
        action.choices = _SHELLS
    elif "=" not in name and (kind := _KINDS.get(re.split(r"[^A-Z]", name)[0])):
        action.complete = kind  # type: ignore[attr-defined]

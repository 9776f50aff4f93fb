"""The command line: find the command, run it, and turn every error into one line and a status.

The status is 0 for success, 1 for a failure, 2 for a usage error, and 128 + the signal's number for
a command that SIGINT, SIGTERM or SIGHUP ends (130 after ^C).

To start quickly, a command's module is imported only when the command is called. `imgfs.__main__`
disables garbage collection until then, and the objects that imports have created are excluded from
it.
"""

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from gc import enable, freeze, isenabled
from importlib import import_module
from keyword import iskeyword
from typing import NoReturn

from engine.errors import EngineError, printable
from imgfs import advice
from imgfs.cli.support import docker_plugin
from imgfs.cli.support.command import Command, Parser, UsageError, suggestion
from imgfs.cli.support.common import Failed, print_error
from imgfs.cli.support.signals import EndingSignals, Interrupted, limited, unmasked
from imgfs.cli.support.streams import (
    discard_unwritable,
    naming_standard_output,
    open_standard_streams,
)

COMMANDS = (
    "mount",
    "umount",
    "commit",
    "import",
    "load",
    "save",
    "export",
    "cp",
    "diff",
    "images",
    "inspect",
    "history",
    "info",
    "events",
    "prune",
    "gc",
    "fsck",
    "tag",
    "rm",
    "completion",
)
"""Each has a module of its name, with an underscore behind a keyword, in the order of --help."""
ALIASES = {"ls": "images", "rmi": "rm", "unmount": "umount"}
_BY_SIGNAL = 128
"""The number of the signal is added to it."""
_NO_SOURCES = ("none", "imgfs")


_ABOUT = """A container image store that you use as a folder.

  imgfs mount /mnt/images            images as directories
  imgfs load -i app.tar              the same as cp app.tar /mnt/images/import/
  imgfs save app:1 | docker load
"""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command line (default: that of this process), and exit with its status."""
    open_standard_streams()
    signals = EndingSignals()
    try:
        signals.install()
        status = run(list(sys.argv[1:] if arguments is None else arguments))
    except Interrupted as error:  # while an outcome was printed
        status = _interrupted(error)
    signals.is_over = True  # a call would let one more signal in
    signals.ignore()
    with limited() if status > _BY_SIGNAL else nullcontext():
        discard_unwritable()
    freeze()  # the process ends: collecting garbage would only delay it
    sys.exit(status)


def run(arguments: list[str]) -> int:
    """Run a command line; return its exit status."""
    path = "imgfs"
    arguments = docker_plugin.without_docker(arguments)
    try:
        if docker_plugin.asks_for_metadata(arguments):
            print(docker_plugin.metadata(), flush=True)
            return 0
        if _is_mount_form(arguments):
            arguments = ["mount", "--source", *arguments]
        program = program_parser()
        args = program.parse_until_word(arguments)
        if args.help or args.words == ["help"]:
            program.description, program.epilog = _ABOUT, _commands()
            print(program.format_help(), end="")
        elif args.version:
            from importlib.metadata import version

            print(f"imgfs {version('imgfs')}")
        elif not args.words:
            raise UsageError("missing command")
        else:
            name, *rest = _without_help(args.words)
            command = command_of(name)
            path = f"imgfs {name}"
            if not isenabled():
                freeze()
                enable()
            with unmasked():
                command.call(path, rest, args.store)
        with naming_standard_output():
            sys.stdout.flush()
        return 0
    except UsageError as error:
        return _failed(f"{error} (see '{path} --help')", 2)
    except KeyboardInterrupt as error:
        return _interrupted(error)
    except BrokenPipeError:
        return 1
    except Failed as error:
        return _failed(str(error), 1) if str(error) else 1
    except EngineError as error:
        return _failed(str(error), 1, advice.for_store(error))
    except OSError as error:
        where = f"{printable(os.fsdecode(error.filename))}: " if error.filename else ""
        return _failed(f"{where}{error.strerror or error}", 1, advice.for_file(error))
    except Exception as error:
        if os.environ.get("IMGFS_DEBUG"):
            raise
        kind = type(error).__name__
        return _failed(f"internal error: {kind}: {error} (IMGFS_DEBUG=1 shows where)", 1)


def program_parser() -> Parser:
    """Return the parser of the options in front of a command."""
    parser = Parser("imgfs [OPTION…] COMMAND …")
    parser.add_argument(
        "--store", metavar="DIR", help="The store (default: $IMGFS_STORE, or the user's own)."
    )
    parser.flag("--version", help="Show the version.")
    return parser


def _commands() -> str:
    """Return the list of commands for --help, one line for each."""
    lines = (f"  {name:11}{command_of(name).help.splitlines()[0]}" for name in COMMANDS)
    return "\n".join(("commands:", *lines))


def command_of(name: str) -> Command:
    """Import and return a command by its name or alias; raise UsageError if there is none."""
    name = ALIASES.get(name, name)
    if name not in COMMANDS:
        instead = advice.instead_of(name) or suggestion(name, COMMANDS)
        raise UsageError(f"no such command '{name}'{instead}")
    module = f"{name}_" if iskeyword(name) else name
    found: Command = getattr(import_module(f"imgfs.cli.{module}"), name.upper())
    return found


def _without_help(words: list[str]) -> list[str]:
    """Return the words of a command; `help COMMAND` means COMMAND --help."""
    if words[0] != "help":
        return words
    if len(words) != 2:
        raise UsageError("help: expected the name of one command")
    return [words[1], "--help"]


def _is_mount_form(arguments: Sequence[str]) -> bool:
    """Return whether mount(8) has called: SOURCE MOUNTPOINT [-o OPTIONS…] instead of a command.

    A SOURCE that is not a path is accepted only with -o, since it may be a mistyped command.
    """
    options = arguments[2:3]
    return (
        len(arguments) >= 2
        and not any(word.startswith("-") for word in arguments[:2])
        and arguments[0] not in COMMANDS
        and arguments[0] not in ALIASES
        and os.path.isabs(arguments[1])
        and all(option.startswith("-") for option in options)
        and (options == ["-o"] or os.path.isabs(arguments[0]) or arguments[0] in _NO_SOURCES)
    )


def _interrupted(error: KeyboardInterrupt) -> int:
    """Return the status of a command that a signal has ended; print that ^C has."""
    number = error.number if isinstance(error, Interrupted) else signal.SIGINT
    if number == signal.SIGINT:
        if sys.stderr.isatty():
            print(file=sys.stderr)  # below the ^C
        print_error("interrupted")
    return _BY_SIGNAL + number


def _failed(sentence: str, status: int, what_to_do: str = "") -> int:
    print_error(sentence, what_to_do)
    return status

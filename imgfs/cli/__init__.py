"""The command line: finds the command, runs it, and turns whatever goes wrong into one line and a
status.

0 is success, 1 a failure, 2 a usage error, 130 an interrupt. SIGTERM and SIGHUP end a command as
tidily, with 128 and their number.

A start is felt. So commands are imported when they are called, and what that has made is kept from
the garbage collector, which `imgfs.__main__` has switched off until then.
"""

import os
import signal
import sys
from collections.abc import Sequence
from gc import enable, freeze, isenabled
from importlib import import_module
from typing import NoReturn

from engine.errors import EngineError, printable
from imgfs.cli.support.command import Command, Parser, UsageError, suggestion
from imgfs.cli.support.common import Failed
from imgfs.cli.support.streams import discard_unwritable, open_standard_streams

_COMMANDS = {
    "mount": "mount",
    "umount": "umount",
    "commit": "commit",
    "load": "load",
    "save": "save",
    "images": "images",
    "inspect": "inspect",
    "history": "inspect",
    "info": "info",
    "events": "events",
    "gc": "gc",
    "fsck": "fsck",
    "tag": "tag",
    "rm": "tag",
}
_ALIASES = {"ls": "images", "rmi": "rm", "unmount": "umount"}
_NO_SOURCES = ("none", "imgfs")


_ABOUT = """A container image store that you use as a folder.

  imgfs mount /mnt/images            images as directories
  imgfs load -i app.tar              the same as cp app.tar /mnt/images/import/
  imgfs save app:1 | docker load
"""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command line, this process's own by default, and exit with its status."""
    open_standard_streams()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)
    status = run(list(sys.argv[1:] if arguments is None else arguments))
    discard_unwritable()
    freeze()  # the process ends: nothing has to be taken apart
    sys.exit(status)


def run(arguments: list[str]) -> int:
    """Run a command line; its exit status."""
    path = "imgfs"
    try:
        if _is_mount_form(arguments):
            arguments = ["mount", "--source", *arguments]
        program = _program()
        args = program.parse_until_word(arguments)
        if args.help:
            program.description, program.epilog = _ABOUT, _commands()
            print(program.format_help(), end="")
        elif args.version:
            from importlib.metadata import version

            print(f"imgfs {version('imgfs')}")
        elif not args.words:
            raise UsageError("missing command")
        else:
            name, *rest = args.words
            command = _command(name)
            path = f"imgfs {name}"
            if not isenabled():
                freeze()
                enable()
            command.call(path, rest, args.store)
        sys.stdout.flush()
        return 0
    except UsageError as error:
        return _failed(f"{error} (see '{path} --help')", 2)
    except KeyboardInterrupt:
        if sys.stderr.isatty():
            print(file=sys.stderr)  # below the ^C
        return _failed("interrupted", 130)
    except BrokenPipeError:
        return 1
    except (Failed, EngineError) as error:
        return _failed(str(error), 1) if str(error) else 1
    except OSError as error:
        where = f"{printable(os.fsdecode(error.filename))}: " if error.filename else ""
        return _failed(f"{where}{error.strerror or error}", 1)
    except Exception as error:
        if os.environ.get("IMGFS_DEBUG"):
            raise
        kind = type(error).__name__
        return _failed(f"internal error: {kind}: {error} (IMGFS_DEBUG=1 shows where)", 1)


def _program() -> Parser:
    parser = Parser("imgfs [OPTION…] COMMAND …")
    parser.add_argument(
        "--store", metavar="DIR", help="The store (else $IMGFS_STORE, else the user's own)."
    )
    parser.flag("--version", help="Show the version.")
    return parser


def _commands() -> str:
    """A line for each."""
    lines = (f"  {name:9}{_command(name).help.splitlines()[0]}" for name in _COMMANDS)
    return "\n".join(("commands:", *lines))


def _command(name: str) -> Command:
    """By its name or another one."""
    name = _ALIASES.get(name, name)
    if name not in _COMMANDS:
        raise UsageError(f"no such command '{name}'{suggestion(name, _COMMANDS)}")
    found: Command = getattr(import_module(f"imgfs.cli.{_COMMANDS[name]}"), name.upper())
    return found


def _is_mount_form(arguments: Sequence[str]) -> bool:
    """Whether mount(8) calls: SOURCE MOUNTPOINT [-o OPTIONS…], where a person names a command.

    Another word than a path needs the -o: it may be a command that was mistyped.
    """
    options = arguments[2:3]
    return (
        len(arguments) >= 2
        and not any(word.startswith("-") for word in arguments[:2])
        and arguments[0] not in _COMMANDS
        and arguments[0] not in _ALIASES
        and os.path.isabs(arguments[1])
        and all(option.startswith("-") for option in options)
        and (options == ["-o"] or os.path.isabs(arguments[0]) or arguments[0] in _NO_SOURCES)
    )


def _end(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def _failed(sentence: str, status: int) -> int:
    print(f"imgfs: {printable(sentence, 2000)}", file=sys.stderr)
    return status

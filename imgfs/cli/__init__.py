"""The command line: finds the command, runs it, and turns whatever goes wrong into one line and a
status.

0 is success, 1 a failure, 2 a usage error, 130 an interrupt. SIGTERM and SIGHUP end a command as
tidily, with 128 and their number.

A start is felt. So commands are imported when they are called, and what that has made is kept from
the garbage collector, which `imgfs.__main__` has switched off until then.
"""

import gc
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from engine.errors import EngineError, printable
from imgfs.cli.common import Failed
from imgfs.cli.streams import discard_unwritable, open_standard_streams

_COMMANDS = {
    "mount": "mounting",
    "umount": "mounting",
    "commit": "commit",
    "load": "loading",
    "save": "saving",
    "images": "listing",
    "inspect": "looking",
    "history": "looking",
    "info": "information",
    "events": "events",
    "gc": "housekeeping",
    "fsck": "checking",
    "tag": "naming",
    "rm": "naming",
}
_ALIASES = {"ls": "images", "rmi": "rm", "unmount": "umount"}
_NO_SOURCES = ("none", "imgfs")


class _Commands(click.Group):
    """The commands, each imported when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 (click's signature)
        name = _ALIASES.get(cmd_name, cmd_name)
        if name not in _COMMANDS:
            return None
        command: Any = getattr(import_module(f"imgfs.cli.{_COMMANDS[name]}"), name)
        return command if isinstance(command, click.Command) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        found = super().resolve_command(ctx, args)
        if not gc.isenabled():
            gc.freeze()
            gc.enable()
        return found

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise click.Abort from error  # click itself would print a line


@click.group(
    cls=_Commands,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--store", metavar="DIR", help="The store (else $IMGFS_STORE, else the user's own).")
@click.version_option(package_name="imgfs", message="imgfs %(version)s")
@click.pass_context
def cli(context: click.Context, store: str | None) -> None:
    """A container image store that you use as a folder.

    \b
    imgfs mount /mnt/images            images as directories
    imgfs load -i app.tar              the same as cp app.tar /mnt/images/import/
    imgfs save app:1 | docker load
    """
    context.obj = store


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command line, this process's own by default, and exit with its status."""
    open_standard_streams()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)
    status = run(list(sys.argv[1:] if arguments is None else arguments))
    discard_unwritable()
    gc.freeze()  # the process ends: nothing has to be taken apart
    sys.exit(status)


def run(arguments: list[str]) -> int:
    """Run a command line; its exit status."""
    try:
        if _is_mount_form(arguments):
            arguments = ["mount", "--source", *arguments]
        status = cli.main(arguments, prog_name="imgfs", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "imgfs"
        return _failed(f"{error.format_message()} (see '{path} --help')", 2)
    except click.ClickException as error:
        return _failed(error.format_message(), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
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

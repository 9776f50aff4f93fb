"""Commands, and the parser of their arguments: argparse, except that errors are raised, options and
words may be mixed, and the value of an option may look like an option.
"""

from argparse import (
    REMAINDER,
    SUPPRESS,
    Action,
    ArgumentError,
    ArgumentParser,
    Namespace,
    RawDescriptionHelpFormatter,
)
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

import msgspec


class UsageError(Exception):
    """The arguments are not valid; the text says why."""


def _no_options(_parser: "Parser") -> None:
    """Add no options."""


class Command(msgspec.Struct, frozen=True):
    """A command.

    `run` is called with the values of the options, `store` (as given, or None) and `words`, the
    arguments that are no options. Its docstring is the help text; the first line is also the
    summary in the list of commands. `words` here names the words for the usage line; there must be
    at least `least` and at most `most` of them (None: any number).
    """

    run: Callable[[Namespace], None]
    options: Callable[["Parser"], None] = _no_options
    words: str = ""
    least: int = 0
    most: int | None = 0

    @property
    def help(self) -> str:
        """The help text: the summary in the first line, then the details."""
        from textwrap import dedent

        first, _, rest = (self.run.__doc__ or "").partition("\n")
        return f"{first}\n{dedent(rest)}"

    def add_options(self, parser: "Parser", store: str | None = None) -> None:
        """Add the options of the command, and --store with its default."""
        self.options(parser)
        parser.add_argument(
            "--store", default=store, metavar="DIR", help="The directory of the store, or its URL."
        )

    def call(self, path: str, arguments: Sequence[str], store: str | None) -> None:
        """Run the command with the arguments after its name, or print its help.

        `path` is the name as the user gave it. Raise UsageError for arguments that are not valid.
        """
        parser = Parser(f"{path} [OPTION…] {self.words}".rstrip())
        self.add_options(parser, store)
        args = parser.parse(arguments)
        if args.help:
            parser.description = self.help
            print(parser.format_help(), end="")
            return
        if len(args.words) < self.least:
            raise UsageError(f"too few arguments, expected {self.words}")
        if self.most is not None and len(args.words) > self.most:
            raise UsageError(f"unexpected argument {args.words[self.most]}")
        self.run(args)


class Parser(ArgumentParser):
    """A parser of options; `usage` is the usage line."""

    def __init__(self, usage: str) -> None:
        super().__init__(
            prog="imgfs",
            usage=usage,
            formatter_class=_Formatter,
            add_help=False,
            allow_abbrev=False,
        )
        self.color = False  # Python 3.14 sets it
        self.flag("-h", "--help", help="Show this message.")

    def error(self, message: str) -> NoReturn:
        """Raise UsageError, where argparse would print several lines and exit."""
        raise UsageError(message)

    def _check_value(self, action: Action, value: object) -> None:
        """Refuse a value that is none of the choices."""
        if action.choices is not None and value not in action.choices:
            raise ArgumentError(
                action, f"expected one of {', '.join(action.choices)}, found {value}"
            )

    @property
    def actions(self) -> Sequence[Action]:
        """The options, in the order in which they were added."""
        return self._actions

    def flag(self, *names: str, help: str) -> None:  # noqa: A002 (argparse's name for it)
        """Add an option without a value."""
        self.add_argument(*names, action="store_true", help=help)

    def repeatable(self, *names: str, metavar: str, help: str) -> None:  # noqa: A002 (argparse's name for it)
        """Add an option that may be repeated; its values are a list."""
        self.add_argument(*names, action="append", default=[], metavar=metavar, help=help)

    def parse(self, arguments: Sequence[str]) -> Namespace:
        """Return the options, and the other arguments as `words`, with those after a "--".

        Raise UsageError for an unknown option.
        """
        options, rest = [], iter(arguments)
        for word in rest:
            if word == "--":
                break
            value = next(rest, None) if self._takes_value(word) else None
            option = word if value is None else f"{word}={value}"
            if word.startswith("-") and "--" in (option[2:], option.partition("=")[2]):
                raise UsageError(f"argument {word}: -- is no value")  # argparse drops it
            options.append(option)
        args, words = self.parse_known_args(options)
        self._refuse_options(words)
        args.words = [*words, *rest]
        return args

    def parse_until_word(self, arguments: Sequence[str]) -> Namespace:
        """Return the leading options, and the first word with all that follows it as `words`."""
        self.add_argument("words", nargs=REMAINDER, help=SUPPRESS)
        args, unknown = self.parse_known_args(arguments)
        self._refuse_options(unknown)
        if args.words[:1] == ["--"]:
            del args.words[0]
        return args

    def _takes_value(self, word: str) -> bool:
        action = self._option_string_actions.get(word)
        return action is not None and action.nargs != 0

    def _refuse_options(self, words: Iterable[str]) -> None:
        for word in words:
            if word.startswith("-") and word != "-":
                meant = suggestion(word.partition("=")[0], self._option_string_actions)
                raise UsageError(f"no such option {word}{meant}")


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return a text that proposes the known word most like this one, "" if none is like it."""
    from difflib import get_close_matches

    close = get_close_matches(word, known, 1)
    return f", did you mean {close[0]}?" if close else ""


class _NoColors:
    """A color theme for argparse in which every color is empty."""

    def __getattr__(self, name: str) -> str:
        return ""


class _Formatter(RawDescriptionHelpFormatter):
    """Format for 80 columns; to ask for the terminal's width argparse would import shutil."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=80)

    def _set_color(self, color: bool) -> None:  # noqa: ARG002 (argparse passes it)
        """Use no colors; for them Python 3.14 would import dataclasses and inspect."""
        self._theme = _NoColors()
        self._decolor = str

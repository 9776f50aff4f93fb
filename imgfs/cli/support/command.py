"""What a command is, and how its line is read: argparse, but errors are raised, options and words
may be mixed, and the value of an option may look like an option.
"""

from argparse import (
    REMAINDER,
    SUPPRESS,
    ArgumentParser,
    Namespace,
    RawDescriptionHelpFormatter,
)
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

import msgspec


class UsageError(Exception):
    """A line that cannot be meant; the text says why."""


def _no_options(_parser: "Parser") -> None:
    """Take nothing."""


class Command(msgspec.Struct, frozen=True):
    """A command.

    `run` gets the values of its options, `store` (as it was given, or None) and `words`, what is no
    option; its docstring is the help, whose first line stands in the list of commands too. `words`
    here names them; there are `least` at least and `most` at most (None: any number).
    """

    run: Callable[[Namespace], None]
    options: Callable[["Parser"], None] = _no_options
    words: str = ""
    least: int = 0
    most: int | None = 0

    @property
    def help(self) -> str:
        """A line, and more below it."""
        from textwrap import dedent

        first, _, rest = (self.run.__doc__ or "").partition("\n")
        return f"{first}\n{dedent(rest)}"

    def call(self, path: str, arguments: Sequence[str], store: str | None) -> None:
        """Run it with what stands behind its name, or show its help; `path` is how it was named."""
        parser = Parser(f"{path} [OPTION…] {self.words}".rstrip())
        self.options(parser)
        parser.add_argument("--store", default=store, metavar="DIR", help="The store.")
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
    """A parser of options; `usage` is a line."""

    def __init__(self, usage: str) -> None:
        super().__init__(
            prog="imgfs",
            usage=usage,
            formatter_class=_Formatter,
            add_help=False,
            allow_abbrev=False,
        )
        self.color = False  # which Python 3.14 would set
        self.flag("-h", "--help", help="Show this message.")

    def error(self, message: str) -> NoReturn:
        """As argparse wants it; it would print several lines, and exit."""
        raise UsageError(message)

    def flag(self, *names: str, help: str) -> None:  # noqa: A002 (as argparse names it)
        """Take an option without a value."""
        self.add_argument(*names, action="store_true", help=help)

    def repeatable(self, *names: str, metavar: str, help: str) -> None:  # noqa: A002 (as argparse names it)
        """Take an option as often as it is given; its values are a list."""
        self.add_argument(*names, action="append", default=[], metavar=metavar, help=help)

    def parse(self, arguments: Sequence[str]) -> Namespace:
        """The options, and `words`: what is none, be it between them or behind a "--"."""
        options, rest = [], iter(arguments)
        for word in rest:
            if word == "--":
                break
            value = next(rest, None) if self._takes_value(word) else None
            option = word if value is None else f"{word}={value}"
            if word.startswith("-") and "--" in (option[2:], option.partition("=")[2]):
                raise UsageError(f"argument {word}: -- is no value")  # argparse would lose it
            options.append(option)
        args, words = self.parse_known_args(options)
        self._refuse_options(words)
        args.words = [*words, *rest]
        return args

    def parse_until_word(self, arguments: Sequence[str]) -> Namespace:
        """The options in front, and `words`: the first word and all that follows it."""
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
    """Which of the known words may have been meant."""
    from difflib import get_close_matches

    close = get_close_matches(word, known, 1)
    return f", did you mean {close[0]}?" if close else ""


class _NoColors:
    """A theme of argparse, each color of which is empty."""

    def __getattr__(self, name: str) -> str:
        return ""


class _Formatter(RawDescriptionHelpFormatter):
    """A narrow page, and no question to the terminal, which costs an import of shutil."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=80)

    def _set_color(self, color: bool) -> None:  # noqa: ARG002 (as argparse calls it)
        """Leave out the colors, which Python 3.14 would import dataclasses and inspect for."""
        self._theme = _NoColors()
        self._decolor = str

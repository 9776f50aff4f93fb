"""The option --format: a form of our own, or a template of docker's."""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from engine.errors import escaped
from imgfs.cli.support.command import Parser
from imgfs.cli.support.common import Failed

if TYPE_CHECKING:
    from imgfs.cli.support.templates import Template

_NARROWEST, _GAP = 10, 3
"""The least width of a column of docker's tables, and the spaces after its longest cell."""
_UNSAFE = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""The categories of characters that are not printed as they are."""


def template_option(parser: Parser, *forms: str, short: tuple[str, ...] = ()) -> None:
    """Add --format; it takes one of the forms, the first by default, or a template."""
    parser.add_argument(
        *short,
        "--format",
        default=forms[0],
        type=_form(forms),
        metavar="FORMAT",
        help=f"Output format: {', '.join(forms)}, or a template as for docker: '{{{{.…}}}}'.",
    )


def _form(forms: tuple[str, ...]) -> Callable[[str], str]:
    def check(given: str) -> str:
        if given not in forms and "{{" not in given:
            expected = f"{', '.join(forms)} or a template such as '{{{{json .}}}}'"
            raise ArgumentTypeError(f"expected {expected}, found {given!r}")
        return given

    return check


def is_template(form: str) -> bool:
    """Return whether a value of --format is a template."""
    return "{{" in form


def print_rows(form: str, heads: Mapping[str, str], rows: Iterable[Mapping[str, str]]) -> None:
    """Print a line for each row with a template; after `table ` as a table.

    `heads` holds the fields of a row, and the heading of each. In a table the end of a line in a
    value is shown as \\n.
    """
    from imgfs.cli.support.template_functions import HEADER_FUNCTIONS, Record

    table = form.startswith("table")
    source = form.removeprefix("table").strip(" ") if table else form
    source = source.replace(r"\t", "\t").replace(r"\n", "\n")
    lines = _rendered(compiled(source), map(_cells, rows) if table else rows)
    if table:
        heading = rendered(compiled(source, HEADER_FUNCTIONS), Record(heads))
        _print_columns([heading, *lines])
        return
    for line in lines:
        sys.stdout.write(f"{line}\n")


def compiled(source: str, functions: Mapping[str, Callable[..., Any]] | None = None) -> Template:
    """Return a template; raise Failed for one that is not valid."""
    from imgfs.cli.support.template_functions import FUNCTIONS, TemplateFailed
    from imgfs.cli.support.templates import Template

    try:
        return Template(source, functions or FUNCTIONS)
    except TemplateFailed as error:
        raise Failed(f"--format: {error}") from error


def rendered(template: Template, data: Any) -> str:
    """Return the text of a template, safe for any terminal.

    Raise Failed if the data lacks a field.
    """
    from imgfs.cli.support.template_functions import TemplateFailed

    try:
        return _safe(template.render(data))
    except TemplateFailed as error:
        raise Failed(f"--format: {error}") from error


def _safe(text: str) -> str:
    """Return a text with what moves a cursor or changes how others look escaped.

    Those are control and format characters and line separators, except tabs and ends of lines, and
    surrogates, which cannot be encoded. Spaces of any width stay as they are.
    """
    if text.isprintable():
        return text
    import unicodedata

    return "".join(
        escaped(c) if c not in "\t\n" and unicodedata.category(c) in _UNSAFE else c for c in text
    )


def _cells(row: Mapping[str, str]) -> Mapping[str, str]:
    """Return a row without the ends of lines that would begin another row."""
    return {name: value.replace("\n", r"\n") for name, value in row.items()}


def _rendered(template: Template, rows: Iterable[Mapping[str, str]]) -> Iterable[str]:
    from imgfs.cli.support.template_functions import Record

    return (rendered(template, Record(row)) for row in rows)


def _print_columns(texts: Iterable[str]) -> None:
    """Print texts whose cells end with tabs, in columns that are as wide as docker's."""
    lines = [line.split("\t") for text in texts for line in text.split("\n")]
    widths: dict[int, int] = {}
    for cells in lines:
        for column, cell in enumerate(cells[:-1]):
            widths[column] = max(widths.get(column, _NARROWEST), len(cell) + _GAP)
    for cells in lines:
        padded = (cell.ljust(widths[column]) for column, cell in enumerate(cells[:-1]))
        sys.stdout.write(f"{''.join(padded)}{cells[-1]}\n")

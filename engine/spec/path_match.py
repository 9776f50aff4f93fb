r"""Name patterns as Go's path.Match has them.

`*` is any run without a slash, `?` any character but a slash, `[a-z]` and `[^a-z]` a character of a
class or outside it, and `\` takes the next character literally.
"""

from __future__ import annotations

import re
from typing import Final

from engine.errors import InvalidInput, printable

_MEMBER = r"(?:\\.|[^\\\]-])"
_TOKEN: Final = re.compile(
    r"(?P<star>\*+)|(?P<one>\?)"
    rf"|\[(?P<negated>\^?+)(?P<ranges>(?:{_MEMBER}(?:-{_MEMBER})?)+)\]"
    r"|(?P<plain>\\.|[^\\*?\[])",
    re.DOTALL,
)
_RANGE: Final = re.compile(r"\\?(?P<low>.)(?:-\\?(?P<high>.))?", re.DOTALL)


def match(pattern: str, name: str) -> bool:
    """Whether `pattern` fits the whole of `name`; InvalidInput for a malformed pattern.

    As in Go, what stands between two stars is taken where it is first found, so time grows with
    the product of both lengths at most.
    """
    first, *starred = _chunks(pattern)
    if not starred:
        return re.fullmatch(first, name, re.DOTALL) is not None
    *middle, last = (rf"[^/]*?{chunk}" for chunk in starred)
    committed = "".join(f"(?>{chunk})" for chunk in middle)
    return re.fullmatch(f"{first}{committed}{last}", name, re.DOTALL) is not None


def _chunks(pattern: str) -> list[str]:
    """Regular expressions of what stands between the stars."""
    chunks = [""]
    position = 0
    while position < len(pattern):
        token = _TOKEN.match(pattern, position)
        if token is None:
            raise InvalidInput(f"malformed name pattern: {printable(pattern)}")
        if token["star"]:
            chunks.append("")
        else:
            chunks[-1] += _single(token)
        position = token.end()
    return chunks


def _single(token: re.Match[str]) -> str:
    if token["one"]:
        return "[^/]"
    if token["plain"]:
        return re.escape(token["plain"][-1])
    ranges = [(r["low"], r["high"] or r["low"]) for r in _RANGE.finditer(token["ranges"])]
    members = "".join(f"{re.escape(low)}-{re.escape(high)}" for low, high in ranges if low <= high)
    if token["negated"]:
        return f"[^{members}]" if members else "."
    return f"[{members}]" if members else "(?!)"

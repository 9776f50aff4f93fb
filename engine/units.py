"""Units that several packages convert between, and numbers as decimal text."""

from typing import Final

NS_PER_SECOND: Final = 1_000_000_000
DIGITS: Final = 18
"""The most decimal digits of a number that 64 bits hold in any case."""


def is_number(text: str) -> bool:
    """Return whether a text consists of decimal digits, of which there are at most DIGITS."""
    return text.isascii() and text.isdigit() and len(text) <= DIGITS

"""Shared by all fuzz targets: outcomes, and ways to cut up input.

An `EngineError` is a valid outcome if its sentence is one line that is safe for a terminal. Any
other exception is a finding.
"""

import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from engine.errors import EngineError

T = TypeVar("T")


@dataclass(frozen=True)
class Refused:
    """The error of a rejected input."""

    kind: type[EngineError]
    sentence: str


def answer(question: Callable[[], T]) -> T | Refused:
    """Return the outcome of a call: its result, or the error with which it rejected the input."""
    try:
        return question()
    except EngineError as error:
        refused = Refused(type(error), str(error))
    assert refused.sentence, f"a {refused.kind.__name__} that says nothing"
    assert refused.sentence.isprintable(), f"not for a terminal: {refused.sentence!r}"
    return refused


def pieces(data: bytes) -> Iterator[memoryview]:
    """`data` in pieces of all sizes, the same for the same data; some are empty."""
    sizes = random.Random(zlib.crc32(data))
    view = memoryview(data)
    while view:
        size = sizes.choice((0, 1, 2, 7, 100, 511, 512, 513, 5000, 70_000))
        yield view[:size]
        view = view[size:]


def as_text(data: bytes) -> str:
    """Any bytes as the text that a command line or a JSON document may bring."""
    return data.decode("utf-8", "surrogateescape")

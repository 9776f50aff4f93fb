"""Where time goes, told to whoever traces. The engine knows spans and no tracing library."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Protocol

Attributes = Mapping[str, str | int]
_NOTHING: Final[AbstractContextManager[object]] = nullcontext()


class Tracer(Protocol):
    """Takes spans, as OpenTelemetry's tracers do."""

    def span(
        self, name: str, attributes: Attributes | None = None
    ) -> AbstractContextManager[object]:
        """What is entered when the work begins and left when it ends; an exception that leaves it
        is the span's error.
        """


class Untraced:
    """Nobody traces."""

    def span(
        self,
        name: str,  # noqa: ARG002 (the protocol's)
        attributes: Attributes | None = None,  # noqa: ARG002 (the protocol's)
    ) -> AbstractContextManager[object]:
        """Nothing is told."""
        return _NOTHING

"""Trace spans of the engine, independent of any tracing library."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Protocol

Attributes = Mapping[str, str | int]
_NOTHING: Final[AbstractContextManager[object]] = nullcontext()


class Tracer(Protocol):
    """A receiver of spans, with the interface of OpenTelemetry's tracers."""

    def span(
        self, name: str, attributes: Attributes | None = None
    ) -> AbstractContextManager[object]:
        """Return a context manager that spans the work; an exception that leaves it is recorded as
        the error of the span.
        """


class Untraced:
    """A tracer that discards every span."""

    def span(
        self,
        name: str,  # noqa: ARG002 (the protocol's argument)
        attributes: Attributes | None = None,  # noqa: ARG002 (the protocol's argument)
    ) -> AbstractContextManager[object]:
        """Return a context manager that does nothing."""
        return _NOTHING

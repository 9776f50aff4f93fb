"""OpenTelemetry, if it is installed (`imgfs[tracing]`) and configured by its variables."""

import os
import sys
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from engine.tracing import Attributes, Tracer, Untraced

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def tracer() -> Tracer:
    """Return the tracer of this process: Untraced without $OTEL_TRACES_EXPORTER or an endpoint."""
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "")
    if exporter == "none" or not (exporter or any(os.environ.get(name) for name in _ENDPOINTS)):
        return Untraced()
    try:
        return OpenTelemetry(_provider(exporter))
    except ImportError as error:
        print(f"imgfs: warning: no tracing without imgfs[tracing]: {error}", file=sys.stderr)
        return Untraced()


class OpenTelemetry:
    """A tracer that makes spans with an OpenTelemetry provider."""

    def __init__(self, provider: "TracerProvider") -> None:
        self._tracer = provider.get_tracer("imgfs")

    def span(
        self, name: str, attributes: Attributes | None = None
    ) -> AbstractContextManager[object]:
        """Start a span, as `Tracer.span`."""
        return self._tracer.start_as_current_span(name, attributes=dict(attributes or {}))


def _provider(exporter: str) -> "TracerProvider":
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import (
        BatchSpanProcessor,
        ConsoleSpanExporter,
        SimpleSpanProcessor,
    )

    provider = TracerProvider()
    if exporter == "console":
        provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=sys.stderr)))
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider

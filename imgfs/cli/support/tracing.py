"""OpenTelemetry, where it is installed (`imgfs[tracing]`) and configured by its environment."""

import os
import sys
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from engine.tracing import Attributes, Tracer, Untraced

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def tracer() -> Tracer:
    """Who traces this process; without $OTEL_TRACES_EXPORTER and an endpoint nobody, at no cost."""
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "")
    if exporter == "none" or not (exporter or any(os.environ.get(name) for name in _ENDPOINTS)):
        return Untraced()
    try:
        return OpenTelemetry(_provider(exporter))
    except ImportError as error:
        print(f"imgfs: warning: no tracing without imgfs[tracing]: {error}", file=sys.stderr)
        return Untraced()


class OpenTelemetry:
    """Spans for a provider of tracers."""

    def __init__(self, provider: "TracerProvider") -> None:
        self._tracer = provider.get_tracer("imgfs")

    def span(
        self, name: str, attributes: Attributes | None = None
    ) -> AbstractContextManager[object]:
        """As `Tracer.span`."""
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

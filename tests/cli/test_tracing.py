"""Tests of trace spans, which are those of moby's image save."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from engine.archive.save import Output, save
from engine.archive.save_for_docker import save_for_docker
from engine.layouts import combined, docker_save, selection
from imgfs.cli.support.tracing import OpenTelemetry
from tests import archives
from tests.archives import ImageParts
from tests.cli.command import Command, succeeded
from tests.local_engine import LocalEngine

APP = ImageParts()
ARCHIVE = archives.docker_archive((APP, ["app:1"]))


@pytest.mark.parametrize("layout", ["combined", "docker"])
def test_save_makes_a_span_for_each_layer(tmp_path: Path, layout: str) -> None:
    reported = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(reported))
    output = Output(len, tracer=OpenTelemetry(provider))
    with LocalEngine(tmp_path / "store") as engine:
        with engine.begin_import() as session:
            session.feed(ARCHIVE)
            session.finish()
        images = engine.images.all()
        if layout == "combined":
            save(engine.store, images, combined.Options(fallback=selection.any_complete), output)
        else:
            options = docker_save.Options(fallback=selection.any_complete)
            save_for_docker(engine.store, images, options, output)
    spans = reported.get_finished_spans()
    assert {span.name for span in spans} == {
        "save",
        "saveImage",
        "saveConfigAndLayer",
        "writeTar",
    }
    (image,) = (span for span in spans if span.name == "saveImage")
    assert dict(image.attributes or {}) == {"image.id": images[0].target.digest}
    layers = [(span.attributes or {})["layer.id"] for span in spans if "Layer" in span.name]
    assert archives.digest(APP.layers[0]) in layers


def test_tracing_is_configured_by_the_environment(imgfs: Command) -> None:
    succeeded(imgfs("load", stdin=ARCHIVE))
    done = imgfs("save", "app:1", OTEL_TRACES_EXPORTER="console")
    assert done.status == 0
    assert b'"name": "writeTar"' in done.err
    assert succeeded(imgfs("save", "app:1")).out == done.out


def test_spans_are_sent_to_a_collector(imgfs: Command) -> None:
    received: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name for it)
            """Print nothing."""

    succeeded(imgfs("load", stdin=ARCHIVE))
    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            endpoint = f"http://127.0.0.1:{server.server_port}"
            succeeded(
                imgfs(
                    "save",
                    "app:1",
                    OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
                    OTEL_EXPORTER_OTLP_COMPRESSION="none",
                    OTEL_EXPORTER_OTLP_TIMEOUT="60",
                    OTEL_BSP_SCHEDULE_DELAY="600000",  # all spans at once, at the end
                    NO_PROXY="127.0.0.1",
                )
            )
        finally:
            server.shutdown()
    ((path, spans),) = received
    assert path == "/v1/traces"
    assert b"writeTar" in spans
    assert b"saveConfigAndLayer" in spans

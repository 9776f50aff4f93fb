"""A store that is closed while it is asked."""

from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Event, Thread

from engine.errors import EngineError
from engine.stores.open import open_store
from tests.archives import ImageParts
from tests.stores.registry.memory_registry import memory_registry
from tests.waiting import wait_until

IMAGE = ImageParts()
REPOSITORIES = 30
"""More than are asked at once."""


def test_a_list_that_is_being_made_ends(tmp_path: Path) -> None:
    begun, released = Event(), Event()

    def stall(handler: BaseHTTPRequestHandler, data: bytes) -> None:
        begun.set()
        released.wait(60)
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        with suppress(OSError):
            handler.wfile.write(data)

    with memory_registry() as registry:
        for number in range(REPOSITORIES):
            registry.put(f"app{number}", "1", IMAGE)
            registry.handlers[f"/v2/app{number}/tags/list"] = stall
        store = open_store(f"registry://{registry.host}?cache={tmp_path}/cache")

        def list_all() -> None:
            with suppress(EngineError):
                store.images.all()

        listing = Thread(target=list_all, daemon=True)
        listing.start()
        assert begun.wait(30)
        closing = Thread(target=store.close, daemon=True)
        closing.start()
        closing.join(60)
        released.set()
        wait_until(lambda: not listing.is_alive(), "the list has ended")

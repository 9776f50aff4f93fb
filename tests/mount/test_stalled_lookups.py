"""Lookups in one directory, of which one waits for a registry that does not answer."""

from collections.abc import Callable
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Event

from tests.archives import ImageParts, digest, layer
from tests.mounts import Mounted, started
from tests.stores.registry.memory_registry import memory_registry
from tests.waiting import wait_until

STALLED, ANSWERED = (ImageParts(layers=[layer(name)]) for name in ("stalled", "answered"))


def test_a_lookup_that_stalls_keeps_no_other_waiting(
    mount: Callable[..., Mounted], tmp_path: Path
) -> None:
    begun, released = Event(), Event()

    def stall(handler: BaseHTTPRequestHandler, _data: bytes) -> None:
        begun.set()
        released.wait(120)
        handler.send_error(503)

    with memory_registry() as registry, ExitStack() as ending:
        ending.callback(released.set)
        registry.put("app", "stalled", STALLED)
        registry.put("app", "answered", ANSWERED)
        for reference in ("stalled", digest(STALLED.manifest())):
            registry.handlers[f"/v2/app/manifests/{reference}"] = stall
        mounted = mount(f"registry://{registry.host}?cache={tmp_path}/cache")
        repository = mounted / registry.host
        waiting = ending.enter_context(started("stat", repository / "app:stalled"))
        assert begun.wait(30)
        looking = ending.enter_context(started("stat", repository / "app:answered"))
        wait_until(lambda: looking.poll() is not None, "the other lookup is answered")
        assert looking.returncode == 0
        assert waiting.poll() is None
        released.set()

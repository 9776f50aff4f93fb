"""Kubernetes has what is loaded into its namespace: the CRI of a containerd lists it."""

from pathlib import Path

import grpc
import pytest

from engine import names
from engine.stores.open import create_store
from tests.stores.containerd.loads import NAME, load
from tests.stores.containerd.server import Server, lacking, running
from tests.waiting import wait_until


def test_the_cri_has_what_is_loaded(tmp_path: Path) -> None:
    if reason := lacking():
        pytest.skip(reason)
    with (
        running(tmp_path / "c", disabled=()) as server,
        create_store(server.url("k8s.io")) as store,
    ):
        load(store)
        wait_until(lambda: NAME in listed_by_cri(server), "the CRI lists the image")
        found = server.ctr("k8s.io", "images", "ls", 'labels."io.cri-containerd.image"==managed')
        assert NAME in found
        assert [image.name for image in store.images.all()] == [NAME]
        names.remove(store, "app:1")
        wait_until(lambda: listed_by_cri(server) == "", "the CRI lists nothing")
        assert server.ctr("k8s.io", "images", "ls", "-q") == ""


def listed_by_cri(server: Server) -> str:
    """Return the answer of the CRI to ListImages, whose texts are readable in its bytes."""
    options = [("grpc.default_authority", "localhost")]
    with grpc.insecure_channel(f"unix:{server.socket}", options=options) as channel:
        images = channel.unary_unary("/runtime.v1.ImageService/ListImages")
        try:
            answer: bytes = images(b"", timeout=20, wait_for_ready=True)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                pytest.skip("this containerd has no CRI")
            raise
    return answer.decode(errors="replace")

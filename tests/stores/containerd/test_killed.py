"""Processes that are killed, and what the collection of containerd then keeps."""

import signal
import subprocess
import sys
from pathlib import Path

from engine.stores.open import create_store, open_store
from engine.stores.protocols import Store
from tests.archives import ImageParts, layer, oci_archive
from tests.stores.containerd.loads import APP, NAME, OTHER, listed
from tests.stores.containerd.server import Server

MANY = 10_000
KILLED = """
import sys
from engine.stores.open import create_store
from engine.testing.blobs import write_blob

store = create_store(sys.argv[1])
writer = store.content.unnamed_writer()
writer.write(b"some")
with store.leases.hold(), store.transaction():
    write_blob(store.content, "a", b"a blob")
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_has_left_is_dropped(
    server: Server, namespace: str, imported: Store
) -> None:
    before = server.stored(namespace)
    command = [sys.executable, "-c", KILLED, server.url(namespace)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        with create_store(server.url(namespace)):
            assert len(server.ctr(namespace, "leases", "ls", "-q").split()) == 2
        process.kill()
    assert len(server.stored(namespace)) == len(before) + 1
    with create_store(server.url(namespace)):
        assert server.ctr(namespace, "leases", "ls", "-q") == ""
        assert server.ctr(namespace, "content", "active").splitlines()[1:] == []
        server.collect(namespace)
    assert server.stored(namespace) == before
    assert listed(imported) == [NAME]


KILLED_AT_A_CALL = """
import os
import signal
import sys
from engine.archive.import_options import ImportOptions
from engine.archive.importer import Import
from engine.stores.containerd.client import Client
from engine.stores.open import create_store

def counted(method):
    def call(*arguments):
        global calls
        if calls == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
        calls += 1
        return method(*arguments)
    return call

calls = 0
with create_store(sys.argv[1]) as store:
    for name in ("call", "read", "write"):
        setattr(Client, name, counted(getattr(Client, name)))
    with Import(store, ImportOptions()) as session:
        session.feed(open(sys.argv[2], "rb").read())
        session.finish()
    print(calls)
"""


def test_what_is_listed_is_whole_wherever_a_load_is_killed(
    server: Server, namespace: str, tmp_path: Path
) -> None:
    archive = tmp_path / "two.tar"
    archive.write_bytes(oci_archive((APP, NAME), (ImageParts(layers=(layer("c"),)), OTHER)))

    def load_until(call: int) -> tuple[list[str], bytes]:
        """Kill a load at one of its calls of containerd; return the names that are there then, and
        how many calls it has made if it was not killed.
        """
        url = server.url(f"{namespace}-{call}")
        command = [sys.executable, "-c", KILLED_AT_A_CALL, url, str(archive), str(call)]
        done = subprocess.run(command, capture_output=True, check=False)
        assert done.returncode == (0 if done.stdout else -signal.SIGKILL), done.stderr
        return remains(server, f"{namespace}-{call}"), done.stdout

    whole, said = load_until(MANY)
    assert whole == [NAME, OTHER]
    calls = int(said)
    moments = sorted({*range(0, calls, 6), *range(calls - 5, calls)})
    ends = [load_until(call)[0] for call in moments]
    assert ends[0] == []
    assert all(end in ([], [NAME], whole) for end in ends)


def remains(server: Server, namespace: str) -> list[str]:
    """Return the names that are there, once what they do not need has been collected."""
    for opens in (open_store, create_store):  # the latter drops what a killed process has left
        with opens(server.url(namespace)) as store:
            server.collect(namespace)
            targets = {image.name: image.target.digest for image in store.images.all()}
            found = [store.images.summary(target) for target in targets.values()]
            assert not any(each.missing for each in found)
    assert server.stored(namespace) == {blob for each in found for blob in each.blobs}
    assert server.ctr(namespace, "content", "active").splitlines()[1:] == []
    return sorted(targets)

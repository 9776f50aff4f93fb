"""Signals to a running command: it leaves no ingest behind, or continues."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.cli.command import Command, Done, names, refusal, succeeded
from tests.faults import stores
from tests.faults.stores import leftovers, listed
from tests.local_engine import LocalEngine
from tests.waiting import wait_until

ENDING = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
LAYER = archives.layer("app", os.urandom(1 << 20) * 4)
APP = archives.docker_archive((ImageParts(layers=[LAYER]), ["app:1"]))
HALF = 3 << 20


@contextmanager
def running(imgfs: Command, *arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command with pipes for its standard streams; kill it at the end of the block."""
    pipe = subprocess.PIPE
    with imgfs.start(*arguments, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_end(process: subprocess.Popen[bytes], rest: bytes = b"") -> Done:
    out, err = process.communicate(rest, timeout=60)
    return Done(process.returncode, out, err)


def is_stopped(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    return status.rpartition(")")[2].split()[0] == "T"


@contextmanager
def loading(imgfs: Command) -> Iterator[subprocess.Popen[bytes]]:
    """Run a load that has read half of its archive and waits for more."""
    ingest = imgfs.store / "ingest"
    with running(imgfs, "load", "-q") as process:
        assert process.stdin is not None
        process.stdin.write(APP[:HALF])
        process.stdin.flush()
        wait_until(lambda: any(ingest.iterdir()), "it writes to the store")
        yield process


def check_end(done: Done, number: signal.Signals) -> None:
    if number == signal.SIGINT:
        assert refusal(done, 130) == "interrupted"
    else:
        assert (done.status, done.err) == (ENDING[number], b"")


@pytest.mark.parametrize("number", ENDING)
def test_load_removes_its_ingests_when_a_signal_ends_it(
    imgfs: Command, number: signal.Signals
) -> None:
    with LocalEngine(imgfs.store) as engine:
        before = listed(engine)
        with loading(imgfs) as process:
            process.send_signal(number)
            check_end(wait_for_end(process), number)
        assert (listed(engine), leftovers(engine)) == (before, [])
    succeeded(imgfs("load", stdin=APP))


@pytest.mark.parametrize("number", [signal.SIGPIPE, signal.SIGSTOP])
def test_load_continues_after_sigpipe_and_sigcont(imgfs: Command, number: signal.Signals) -> None:
    with loading(imgfs) as process:
        process.send_signal(number)
        if number == signal.SIGSTOP:
            wait_until(lambda: is_stopped(process.pid), "it has stopped")
            succeeded(imgfs("tag", "base:1", "base:2"))  # no other command waits for it
            process.send_signal(signal.SIGCONT)
        succeeded(wait_for_end(process, APP[HALF:]))
    with LocalEngine(imgfs.store) as engine:
        assert len(engine.images.all()) in (2, 3)
        assert leftovers(engine) == []


def test_load_ignores_a_hangup_that_its_caller_ignores(imgfs: Command) -> None:
    """nohup(1) sets the signal's disposition so before it starts the command."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with loading(imgfs) as process:
            process.send_signal(signal.SIGHUP)
            succeeded(wait_for_end(process, APP[HALF:]))
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.fixture
def large(imgfs: Command) -> bytes:
    """Store the image `large:1`, which takes a while to save; return its archive."""
    layer = archives.layer("large", os.urandom(1 << 20) * 32)
    archive = archives.docker_archive((ImageParts(layers=[layer]), ["large:1"]))
    with LocalEngine(imgfs.store) as engine:
        stores.load(engine, archive)
    return archive


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("number", ENDING)
def test_save_leaves_no_partial_file_when_a_signal_ends_it(
    imgfs: Command, number: signal.Signals, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with running(imgfs, "save", "-o", out / "x.tar", "large:1") as process:
        wait_until(lambda: any(out.iterdir()), "it writes")
        process.send_signal(number)
        done = wait_for_end(process)
    if done.status in (0, -number):  # it had finished, or Python's own exit had begun
        assert (out / "x.tar").exists()
    else:
        check_end(done, number)
    if left := [path.name for path in out.iterdir()]:  # the signal may come after the end
        assert left == ["x.tar"]
        assert (out / "x.tar").read_bytes() == imgfs("save", "large:1").out
    with LocalEngine(imgfs.store) as engine:
        assert leftovers(engine) == []


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("number", [*ENDING, signal.SIGSTOP])
def test_save_into_a_pipe_ends_or_continues_as_the_signal_says(
    imgfs: Command, number: signal.Signals
) -> None:
    with running(imgfs, "save", "large:1") as process:
        assert process.stdout is not None
        assert process.stdout.read(1)
        process.send_signal(number)
        if number == signal.SIGSTOP:
            wait_until(lambda: is_stopped(process.pid), "it has stopped")
            process.send_signal(signal.SIGCONT)
            done = wait_for_end(process)
            assert (done.status, done.err) == (0, b"")
            assert len(done.out) > 32 << 20
        else:
            check_end(wait_for_end(process), number)
    with LocalEngine(imgfs.store) as engine:
        assert leftovers(engine) == []


def test_save_ends_silently_when_its_reader_closes_the_pipe(imgfs: Command, large: bytes) -> None:
    assert large
    with running(imgfs, "save", "large:1") as process:
        assert process.stdout is not None
        process.stdout.read(1)
        process.stdout.close()
        process.wait(60)
        assert process.stderr is not None
        assert (process.returncode, process.stderr.read()) == (1, b"")
    with LocalEngine(imgfs.store) as engine:
        assert leftovers(engine) == []


@pytest.mark.parametrize("number", ENDING)
def test_commit_removes_its_ingests_when_a_signal_ends_it(
    imgfs: Command, number: signal.Signals, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "large").write_bytes(os.urandom(1 << 20) * 48)
    with LocalEngine(imgfs.store) as engine:
        before = listed(engine)
        with running(imgfs, "commit", "-q", "--base", "base:1", root, "made:1") as process:
            ingest = imgfs.store / "ingest"
            wait_until(
                lambda: any(ingest.iterdir()) or process.poll() is not None,
                "it writes to the store",
            )
            process.send_signal(number)
            done = wait_for_end(process)
        is_made = "made:1" in names(imgfs.store)  # the signal may come after the transaction
        if done.status in (0, -number):  # it had finished, or Python's own exit had begun
            assert is_made
        else:
            check_end(done, number)
        if is_made:
            succeeded(imgfs("save", "made:1"))
        else:
            assert listed(engine) == before
        assert leftovers(engine) == []
    succeeded(imgfs("commit", "-q", "--base", "base:1", root, "made:1"))

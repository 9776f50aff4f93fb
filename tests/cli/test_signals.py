"""Signals at defined points of a command: before it runs, in its clean-up, and where Python cannot
raise what they mean.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import msgspec
import pytest

from imgfs.cli.support.signals import ENDING, EndingSignals, Interrupted, unmasked
from tests import archives
from tests.archives import ImageParts
from tests.cli.command import Done, refusal

LARGE = archives.docker_archive(
    (ImageParts(layers=[archives.layer("large", os.urandom(1 << 20) * 4)]), ["large:1"])
)
SEND = "import os, signal, sys\nsend = lambda: os.kill(os.getpid(), signal.SIGINT)\n"
MAIN = "\nfrom imgfs.__main__ import main\nmain()\n"


def run(program: str, store: Path, *arguments: str | Path, stdout: int = subprocess.PIPE) -> Done:
    """Run a command line in a process that begins with a program."""
    command = [sys.executable, "-c", program + MAIN, *map(str, arguments)]
    done = subprocess.run(
        command,
        check=False,
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=30,
        env={**os.environ, "IMGFS_STORE": str(store), "PYTHONUNBUFFERED": ""},
    )
    return Done(done.returncode, done.stdout or b"", done.stderr)


@pytest.fixture
def signals() -> Iterator[EndingSignals]:
    """Handle the signals in this process."""
    numbers = (*ENDING, signal.SIGALRM)
    before = {number: signal.getsignal(number) for number in numbers}
    installed = EndingSignals()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    installed.install()
    yield installed
    installed.ignore()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_an_interrupt_before_the_command_runs_ends_it_silently(store: Path) -> None:
    sending = (
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        "        name == 'imgfs.cli' and send()\n"
        "sys.meta_path.insert(0, Finder())"
    )
    assert run(SEND + sending, store, "images") == Done(-signal.SIGINT, b"", b"")


def test_an_interrupt_of_the_clean_up_does_not_stop_it(
    store: Path, stock: Callable[..., None], tmp_path: Path
) -> None:
    """An impatient user presses ^C twice."""
    stock(LARGE)
    out = tmp_path / "out"
    out.mkdir()
    sending = (
        "import imgfs.cli.save\n"
        "imgfs.cli.save.save = lambda *_: send()\n"
        "unlink = os.unlink\n"
        "os.unlink = lambda *words, **more: (send(), unlink(*words, **more))"
    )
    done = run(SEND + sending, store, "save", "-o", out / "x.tar", "large:1")
    assert refusal(done, 130) == "interrupted"
    assert not list(out.iterdir())


@pytest.mark.parametrize("number", ENDING)
def test_the_third_signal_ends_the_command_at_once(store: Path, number: signal.Signals) -> None:
    sending = (
        f"send = lambda: os.kill(os.getpid(), {int(number)})\n"
        "from imgfs.cli import images\nfrom imgfs.cli.support import command\n"
        "def wait(_):\n"
        "    try: send()\n"
        "    finally: send(), send(), os._exit(3)\n"
        "images.IMAGES = command.Command(wait)"
    )
    assert run(SEND + sending, store, "images") == Done(-number, b"", b"")


def test_an_interrupt_does_not_wait_for_a_reader_that_has_stopped(store: Path) -> None:
    printing = (
        "from imgfs.cli import images\nfrom imgfs.cli.support import command\n"
        "images.IMAGES = command.Command(lambda _: (print('a line'), send()))"
    )
    unread, pipe = os.pipe()
    with open(unread, "rb"), open(pipe, "wb", buffering=0):
        os.set_blocking(pipe, False)
        with suppress(BlockingIOError):
            while os.write(pipe, bytes(1)):
                pass
        os.set_blocking(pipe, True)
        done = run(SEND + printing, store, "images", stdout=pipe)
    assert refusal(done, 130) == "interrupted"


@pytest.mark.parametrize("number", ENDING)
def test_what_was_printed_before_a_signal_is_not_lost(store: Path, number: int) -> None:
    """It tells what the command has done, such as the images that it has loaded."""
    printing = (
        "from imgfs.cli import images\nfrom imgfs.cli.support import command\n"
        "images.IMAGES = command.Command(\n"
        f"    lambda _: (print('a line'), os.kill(os.getpid(), {number}))\n)"
    )
    done = run(SEND + printing, store, "images")
    assert (done.status, done.lines) == (128 + number, ["a line"])


@pytest.mark.parametrize("number", ENDING)
def test_the_first_signal_is_raised_and_the_next_is_not(
    signals: EndingSignals, number: signal.Signals
) -> None:
    assert not signals.is_over
    cleaned = False

    def interrupted() -> None:
        nonlocal cleaned
        try:
            signal.raise_signal(number)
        finally:
            for other in ENDING:
                signal.raise_signal(other)
            cleaned = True

    with pytest.raises(Interrupted) as caught:
        interrupted()
    assert (caught.value.number, cleaned) == (number, True)


def test_a_signal_after_the_outcome_is_not_raised(signals: EndingSignals) -> None:
    signals.is_over = True
    for number in ENDING:
        signal.raise_signal(number)


def test_a_signal_that_was_lost_is_raised_again(signals: EndingSignals) -> None:
    assert not signals.is_over
    with suppress(Interrupted):  # as Python does where nobody can catch it
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(Interrupted) as caught:
        signal.pause()
    assert caught.value.number == signal.SIGTERM


class Document(msgspec.Struct):
    """A document whose type msgspec finds out with an interrupt in the middle."""

    value: "signal.raise_signal(signal.SIGINT) or int"  # type: ignore[valid-type]  # it is one


@pytest.mark.usefixtures("signals")
def test_a_signal_waits_while_msgspec_makes_a_type() -> None:
    """An exception there makes it read memory that it has released."""
    with pytest.raises(Interrupted):
        read_document()


def read_document() -> None:
    assert msgspec.json.decode(b'{"value": 1}', type=Document).value == 1
    signal.pause()


@contextmanager
def block() -> Iterator[None]:
    """Enter a block that does nothing."""
    yield


@pytest.mark.usefixtures("signals")
def test_a_signal_waits_until_a_block_is_entered() -> None:
    """Between the start of a block and its entry, nothing would undo what it has begun."""
    entered = False

    def enter() -> None:
        nonlocal entered
        entering = block()
        entering.gen = map(signal.raise_signal, (signal.SIGINT,))  # type: ignore[assignment]  # `next` in C
        entering.__enter__()
        entered = True
        signal.pause()

    with pytest.raises(Interrupted):
        enter()
    assert entered


@pytest.mark.usefixtures("signals")
def test_a_signal_waits_while_the_locks_of_futures_are_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever sets the result of one would wait for its lock for ever."""
    released: list[str] = []

    class Condition:
        acquire = staticmethod(partial(signal.raise_signal, signal.SIGINT))  # in C: no frame
        release = staticmethod(partial(released.append, "released"))

    future: Future[None] = Future()
    future.set_result(None)
    monkeypatch.setattr(future, "_condition", Condition())

    def take() -> None:
        assert wait([future]).done == {future}
        signal.pause()

    with pytest.raises(Interrupted):
        take()
    assert released == ["released"]


@pytest.mark.usefixtures("signals")
def test_a_signal_waits_for_a_finalizer() -> None:
    """Python prints an exception in `__del__`, and goes on."""
    ended = False

    class Final:
        def __del__(self) -> None:
            nonlocal ended
            signal.raise_signal(signal.SIGINT)
            ended = True

    def forget() -> None:
        Final()
        assert ended
        signal.pause()

    with pytest.raises(Interrupted):
        forget()


def test_an_error_of_the_clean_up_does_not_hide_the_interrupt() -> None:
    def interrupted() -> None:
        try:
            raise Interrupted(signal.SIGTERM)
        finally:
            raise RuntimeError("release unlocked lock")

    with pytest.raises(Interrupted), unmasked():
        interrupted()


def test_an_error_without_an_interrupt_stays_as_it_is() -> None:
    error = ValueError("broken")
    error.__cause__ = KeyError("x")
    with pytest.raises(ValueError, match="broken") as caught, unmasked():
        raise error
    assert caught.value.__cause__ is error.__cause__ is not None

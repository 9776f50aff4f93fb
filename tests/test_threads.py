"""Work beside the caller: its result, its error, and an end that waits for nobody."""

import gc
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from threading import Barrier, Condition, Event, Thread, current_thread, main_thread
from weakref import finalize

import pytest

from engine.threads import Ahead, Discarded, Workers, begin, run_all, run_concurrently

LARGE = memoryview(bytes(1 << 20))


def test_a_result_and_an_error() -> None:
    assert begin(divmod, 7, 2)() == (3, 1)
    failing = begin(divmod, 7, 0)
    with pytest.raises(ZeroDivisionError):
        failing()


@pytest.mark.parametrize("data", [LARGE, LARGE[:1]], ids=["large", "small"])
def test_data_is_handled_when_it_was_waited_for(data: memoryview) -> None:
    seen: list[int] = []
    run_concurrently(lambda piece: seen.append(len(piece)), data)()
    assert seen == [len(data)]


def test_all_calls_run_at_the_same_time() -> None:
    met = Barrier(3)
    run_all(lambda _: met.wait(60), range(3))
    run_all(met.wait, [])


@pytest.mark.parametrize("items", [("fail", "go on"), ("go on", "fail")])
def test_all_calls_end_before_the_error_of_one_is_raised(items: tuple[str, str]) -> None:
    failed, ended = Event(), Event()

    def work(item: str) -> None:
        if item == "fail":
            failed.set()
            raise ZeroDivisionError
        failed.wait(60)
        ended.set()

    with pytest.raises(ZeroDivisionError):
        run_all(work, items)
    assert ended.is_set()


def test_a_process_ends_whatever_is_under_way() -> None:
    """An interrupted command must not hang for work that nobody waits for."""
    program = (
        "import threading; from engine.threads import begin\n"
        "begin(threading.Event().wait); raise KeyboardInterrupt"
    )
    done = subprocess.run([sys.executable, "-c", program], timeout=60, stderr=subprocess.PIPE)
    assert done.stderr.endswith(b"KeyboardInterrupt\n")


def test_work_may_begin_other_work_and_wait_for_it() -> None:
    """As many threads as there are wait at the same time."""
    workers, all_begun = Workers(2), Barrier(2)

    def outer(number: int) -> int:
        all_begun.wait(60)
        inner = [workers.begin(pow, number, exponent) for exponent in range(3)]
        return sum(result() for result in inner)

    assert [result() for result in [workers.begin(outer, n) for n in (2, 3)]] == [7, 13]
    workers.close()


def test_workers_that_end_do_what_they_are_at_and_no_more() -> None:
    others = set(threading.enumerate())
    workers = Workers(1)
    (thread,) = (t for t in set(threading.enumerate()) - others if t.name == "engine")
    entered, allowed = Event(), Event()
    done: list[int] = []

    def work() -> None:
        entered.set()
        allowed.wait()
        done.append(1)

    workers.begin(work)
    queued = workers.begin(done.append, 2)
    entered.wait()
    workers.close()
    late = workers.begin(done.append, 3)
    errors: list[BaseException] = []

    def wait_for_both() -> None:
        for discarded in (queued, late):
            try:
                discarded()
            except Discarded as error:
                errors.append(error)

    waiting = Thread(target=wait_for_both, daemon=True)
    waiting.start()
    waiting.join(30)
    assert [str(error).count("discarded") for error in errors] == [1, 1]
    allowed.set()
    thread.join()
    assert done == [1]


@pytest.mark.parametrize("most", [1, 4])
def test_items_are_made_ahead_in_order(most: int) -> None:
    assert list(Ahead(iter(range(1, 100)), most)) == list(range(1, 100))
    assert list(Ahead(iter(()), most)) == []


@pytest.mark.parametrize("most", [1, 4])
def test_an_error_in_making_items_comes_in_its_place(most: int) -> None:
    items = Ahead((1 // number for number in (1, 1, 0)), most)
    assert [next(items), next(items)] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(items)
    assert list(items) == []


@pytest.mark.parametrize("most", [1, 4])
def test_as_many_items_are_made_ahead_as_wanted(most: int) -> None:
    made: list[int] = []
    enough = Event()

    def items() -> Iterator[int]:
        for number in count():
            made.append(number)
            if number == most:
                enough.set()
            yield number

    coming = Ahead(items(), most)
    assert next(coming) == 0
    assert enough.wait(60)
    coming.close()
    assert made == [*range(most + 1)]


def test_when_it_is_closed_no_item_is_being_made() -> None:
    begun, released = Event(), Event()
    made: list[int] = []

    def items() -> Iterator[int]:
        yield 1
        begun.set()
        assert released.wait(60)
        made.append(2)
        yield 2

    coming = Ahead(items(), 4)
    assert next(coming) == 1
    assert begun.wait(60)
    closing = Thread(target=coming.close, daemon=True)
    closing.start()
    released.set()
    closing.join(60)
    assert not closing.is_alive()
    assert made == [2]


def test_items_are_made_by_a_thread_of_those_that_make_them() -> None:
    assert begin(lambda: list(Ahead(iter(range(10)), 4)))() == list(range(10))


def test_an_interrupt_while_a_thread_begins_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(_work: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("engine.threads.begin", interrupted)
    coming = Ahead(iter(range(10)), 4)
    with pytest.raises(KeyboardInterrupt):
        next(coming)
    coming.close()


def test_one_thread_at_a_time_makes_items(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers(2)
    monkeypatch.setattr("engine.threads.begin", workers.begin)
    released, taken, inside, done = Event(), Event(), Event(), Event()

    class Late(Condition):
        """The first of the makers goes on late after it has released the lock at its end."""

        def __exit__(self, *error: object) -> None:
            super().__exit__(*error)  # type: ignore[arg-type]  # those of any context manager
            if current_thread() is not main_thread() and made and not released.is_set():
                released.set()
                assert taken.wait(60)

    made: list[int] = []

    def items() -> Iterator[int]:
        made.append(0)
        yield 0
        inside.set()
        assert done.wait(60)
        yield 1

    monkeypatch.setattr("engine.threads.Condition", Late)
    coming = Ahead(items(), 1)
    assert next(coming) == 0
    assert released.wait(60)
    assert inside.wait(60)  # the second maker
    taken.set()
    workers.begin(int)()  # the first one has ended
    done.set()
    assert list(coming) == [1]
    workers.close()


@pytest.mark.parametrize("last", [1, 0])
def test_nothing_is_kept_of_items_that_are_exhausted(last: int) -> None:
    class Source:
        pass

    def items(_source: Source) -> Iterator[int]:
        yield 1 // last

    gone = Event()
    source = Source()
    finalize(source, gone.set)
    gc.disable()
    try:
        with suppress(ZeroDivisionError):
            list(Ahead(items(source), 4))
        del source
        assert gone.wait(60)
    finally:
        gc.enable()


def test_an_interrupt_after_a_thread_has_begun_does_not_end_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, released = Event(), Event()
    made: list[int] = []

    def items() -> Iterator[int]:
        begun.set()
        assert released.wait(60)
        made.append(1)
        yield 1

    def interrupted(work: Callable[[], None]) -> None:
        begin(work)
        assert begun.wait(60)
        raise KeyboardInterrupt

    monkeypatch.setattr("engine.threads.begin", interrupted)
    coming = Ahead(items(), 4)
    with pytest.raises(KeyboardInterrupt):
        next(coming)
    closing = Thread(target=coming.close, daemon=True)
    closing.start()
    released.set()
    closing.join(60)
    assert (closing.is_alive(), made) == (False, [1])

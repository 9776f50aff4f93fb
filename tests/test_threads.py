"""Work beside the caller: its result, its error, and an end that waits for nobody."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import count
from threading import Barrier, Event, Thread

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
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            next(items)


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

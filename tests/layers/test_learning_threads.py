"""The layer of which most is left is next."""

from functools import partial
from threading import Event

from engine.layers.learning_threads import LearningThreads


def test_the_most_work_is_next() -> None:
    threads = LearningThreads(1)
    begun, released, ended = Event(), Event(), Event()

    def wait() -> None:
        begun.set()
        released.wait()

    threads.begin(wait, lambda: 1)
    begun.wait()
    assert threads.are_all_busy
    done: list[int] = []
    for size in (20, 40, 10, 30):
        threads.begin(partial(done.append, size), partial(int, size))
    threads.begin(ended.set, lambda: 0)
    released.set()
    ended.wait()
    assert done == [40, 30, 20, 10]

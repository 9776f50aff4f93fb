"""The pass of which most is left makes the next step, and few are begun at a time."""

from threading import Event

from engine.layers.learning_threads import LearningThreads

STEP = 10


class Layer:
    """A pass of steps of STEP bytes, which are recorded by its name, its end by a capital."""

    def __init__(self, name: str, size: int, steps: list[str]) -> None:
        self._name = name
        self._steps = steps
        self.ended = Event()
        self.is_begun = False
        self.left = size

    def step(self) -> bool:
        if not self.left:
            self._steps.append(self._name.upper())
            self.ended.set()
            return False
        self.is_begun = True
        self.left -= STEP
        self._steps.append(self._name)
        return True


class Gate:
    """A pass that occupies a thread until it is released."""

    is_begun = True
    left = 0

    def __init__(self) -> None:
        self.entered, self.released = Event(), Event()

    def step(self) -> bool:
        self.entered.set()
        assert self.released.wait(60)
        return False


def steps_of(sizes: dict[str, int]) -> str:
    """Return the names of layers in the order of the steps that one thread makes."""
    threads = LearningThreads(1)
    gate = Gate()
    threads.begin(gate)
    assert gate.entered.wait(60)
    assert threads.are_all_busy
    steps: list[str] = []
    layers = [Layer(name, size, steps) for name, size in sizes.items()]
    for layer in layers:
        threads.begin(layer)
    gate.released.set()
    assert all(layer.ended.wait(60) for layer in layers)
    return "".join(steps)


def test_the_layer_of_which_most_is_left_is_next_so_that_all_end_together() -> None:
    assert steps_of({"a": 20, "b": 50}) == "bbbabaAbB"


def test_few_layers_are_begun_before_one_is_completed() -> None:
    sizes = {"a": 30, "b": 20, "c": 60, "d": 50, "e": 40}
    assert steps_of(sizes) == "cdceeeeEdcaaaAdcbdcbBdDcC"


def test_a_layer_of_which_nothing_is_left_ends_at_once() -> None:
    assert steps_of({"a": 20, "b": 0}) == "BaaA"

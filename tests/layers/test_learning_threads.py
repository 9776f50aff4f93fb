"""The pass of which most is left makes the next step, and few are begun at a time."""

from threading import Event

from engine.layers.learning_threads import LearningThreads

STEP = 10


class Layer:
    """A pass of steps of STEP bytes, which are recorded by its name, its end by a capital."""

    def __init__(self, name: str, size: int, steps: list[str]) -> None:
        self.name = name
        self._steps = steps
        self.is_awaited = False
        self.ended = Event()
        self.is_begun = False
        self.left = size

    @property
    def is_urgent(self) -> bool:
        return self.is_awaited or not self.left

    def step(self) -> bool:
        if not self.left:
            self._steps.append(self.name.upper())
            self.ended.set()
            return False
        self.is_begun = True
        self.left -= STEP
        self._steps.append(self.name)
        return True


class Gate:
    """A pass that occupies a thread until it is released."""

    is_begun = is_urgent = True
    left = 0

    def __init__(self) -> None:
        self.entered, self.released = Event(), Event()

    def step(self) -> bool:
        self.entered.set()
        assert self.released.wait(60)
        return False


def steps_of(sizes: dict[str, int], awaited: str = "") -> str:
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
        if layer.name == awaited:
            layer.is_awaited = True
            threads.hurry(layer)
    gate.released.set()
    assert all(layer.ended.wait(60) for layer in layers)
    return "".join(steps)


def test_the_layer_of_which_most_is_left_is_next_so_that_all_end_together() -> None:
    assert steps_of({"a": 20, "b": 50}) == "bbbbabBaA"


def test_few_layers_are_begun_before_one_is_completed() -> None:
    sizes = {"a": 30, "b": 20, "c": 60, "d": 50, "e": 40}
    assert steps_of(sizes) == "ccdcdeeeeEcdaaaAcdbcCdDbB"


def test_a_layer_of_which_nothing_is_left_ends_at_once() -> None:
    assert steps_of({"a": 20, "b": 0}) == "BaaA"


def test_a_layer_that_somebody_waits_for_is_first_also_if_it_is_one_too_many() -> None:
    sizes = {"a": 40, "b": 50, "c": 60, "d": 20}
    assert steps_of(sizes, awaited="d").startswith("ddD")
    assert steps_of(sizes).endswith("D")

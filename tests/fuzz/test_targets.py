"""A short run of the fuzz targets, the same every time; `scripts/fuzz` runs them for longer."""

import random
from typing import Final

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

EXAMPLES: Final = {"load": 60, "load-documents": 60, "streams": 150}
"""Others are faster."""
_TOKENS = (b"\0", b"\xff", b"\n", b"0", b"9" * 20, b"-1", b"/", b"..", b'"', b"{", b"[", b"null")
_LONG = 2000


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str) -> None:
    for seed in seeds(name):
        TARGETS[name](seed)


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_seeds(name: str) -> None:
    found = seeds(name)
    known = st.integers(0, len(found) - 1)

    @settings(
        max_examples=EXAMPLES.get(name, 300), suppress_health_check=[*HealthCheck], deadline=None
    )
    @given(known, known, st.integers(0, 2**32))
    def run(seed: int, other: int, number: int) -> None:
        data = mutated(found[seed], found[other], random.Random(number))
        note(f"TARGETS[{name!r}]({data!r})")
        TARGETS[name](data)

    run()


@pytest.mark.parametrize("name", TARGETS)
@given(st.binary(max_size=600))
@settings(max_examples=30)
def test_any_bytes(name: str, data: bytes) -> None:
    TARGETS[name](data)


def mutated(seed: bytes, other: bytes, chance: random.Random) -> bytes:
    """Return a seed with bytes changed, removed, inserted, doubled or copied from the other
    seed.
    """
    data = bytearray(seed)
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(data) + 1)
        end = min(len(data), start + chance.choice((0, 1, 1, 2, 8, 512)))
        match chance.randrange(6):
            case 0:
                data[start:end] = chance.randbytes(end - start)
            case 1:
                del data[start:end]
            case 2:
                data[start:start] = chance.choice(_TOKENS)
            case 3:
                data[start:end] = data[start:end] * 2
            case 4:
                place = chance.randrange(len(other) + 1)
                data[start:end] = other[place : place + _LONG]
            case _:
                data[start:end] = bytes(byte ^ 1 << chance.randrange(8) for byte in data[start:end])
    return bytes(data)

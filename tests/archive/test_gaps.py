"""Gaps of files against a model that remembers every byte."""

from hypothesis import given
from hypothesis import strategies as st

from engine.archive.gaps import Gaps

SIZES = st.integers(0, 30)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("write"), SIZES, SIZES), st.tuples(st.just("size"), SIZES, SIZES)
        )
    )
)
def test_gaps_are_the_bytes_that_nobody_has_written(calls: list[tuple[str, int, int]]) -> None:
    gaps = Gaps()
    written: list[bool] = []
    for call, start, length in calls:
        if call == "write" and length:
            gaps.fill(start, start + length)
            gaps.add(len(written), start)
            written += [False] * (start + length - len(written))
            written[start : start + length] = [True] * length
        elif call == "size":
            gaps.cut(start)
            gaps.add(len(written), start)
            del written[start:]
            written += [False] * (start - len(written))
        assert bool(gaps) == (False in written)

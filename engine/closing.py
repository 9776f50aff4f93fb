"""A base class of what is closed at the end of a `with` block."""

from typing import Self


class Closing:
    """A context manager whose end is `close`, which does nothing by default."""

    __slots__ = ()

    def close(self) -> None:
        """Release what is held open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

"""The parts of a file that nobody has written."""


class Gaps:
    """Ranges of bytes that are zero because they have not been written, in order."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []

    def __bool__(self) -> bool:
        return bool(self._ranges)

    def add(self, start: int, end: int) -> None:
        """Add a range behind all others."""
        if start < end:
            self._ranges.append((start, end))

    def fill(self, start: int, end: int) -> None:
        """Note that the bytes from `start` to `end` have been written."""
        if not self._ranges:
            return
        parts = []
        for low, high in self._ranges:
            parts += [(low, min(high, start)), (max(low, end), high)]
        self._ranges = [(low, high) for low, high in parts if low < high]

    def cut(self, size: int) -> None:
        """Note that the file has `size` bytes now."""
        self._ranges = [(low, min(high, size)) for low, high in self._ranges if low < size]

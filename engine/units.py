"""Units that several packages convert between."""

from typing import Final

NS_PER_SECOND: Final = 1_000_000_000

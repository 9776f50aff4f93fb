"""Every hostile archive, and the expected result of loading it."""

from tests.hostile.bombs import BOMBS
from tests.hostile.case import Case
from tests.hostile.documents import DOCUMENTS
from tests.hostile.tars import TARS

CASES = {case.name: case for case in (*TARS, *DOCUMENTS, *BOMBS)}
assert len(CASES) == len(TARS) + len(DOCUMENTS) + len(BOMBS)

__all__ = ["CASES", "Case"]

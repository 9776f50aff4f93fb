"""docs/troubleshooting.md explains every error that a mount can answer with."""

import errno
import os
from pathlib import Path

import pytest

from imgfs.fuse import errnos

PAGE = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text()


@pytest.mark.parametrize("number", sorted({number for _, number in errnos.TABLE} - {errno.EINVAL}))
def test_the_page_explains_each_errno_by_its_name_and_its_words(number: int) -> None:
    assert errno.errorcode[number] in PAGE
    assert os.strerror(number) in PAGE

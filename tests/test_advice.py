"""Tests of the advice about errors."""

import errno

import pytest

from engine.errors import BrokenArchive, DigestMismatch, LimitExceeded, StoreBusy
from imgfs.advice import after_copy


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (DigestMismatch("x", "a", "b"), "damaged"),
        (LimitExceeded("archive", "bytes", 1, 2), "higher limit"),
        (BrokenArchive("", "bad"), "save the image anew"),
        (OSError(errno.ENOSPC, "No space left on device"), "imgfs gc"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "imgfs gc"),
        (OSError(errno.EIO, "Input/output error"), "Copy it again"),
        (StoreBusy("/store", "is locked"), "Copy it again"),
    ],
)
def test_the_advice_depends_on_the_error(error: Exception, words: str) -> None:
    assert words in after_copy(error)

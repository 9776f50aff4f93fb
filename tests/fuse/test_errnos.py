"""Tests that each exception of the engine has an errno in the table."""

import errno
import logging

import pytest

from engine import errors
from imgfs.fuse.errnos import errno_of


def kinds(base: type[Exception] = errors.EngineError) -> list[type[Exception]]:
    """Every error below `base` that is raised; what only errors have in common is private."""
    below = [kind for child in base.__subclasses__() for kind in (child, *kinds(child))]
    return [kind for kind in below if not kind.__name__.startswith("_")]


EXPECTED = {
    errors.BrokenArchive("x", "is broken"): errno.EBADMSG,
    errors.MissingMember("x"): errno.EBADMSG,
    errors.InvalidDocument("x", "is no JSON"): errno.EBADMSG,
    errors.DigestMismatch("x", "a", "b"): errno.EIO,
    errors.SizeMismatch("x", 1, 2): errno.EIO,
    errors.DamagedLayer("x", "is damaged"): errno.EIO,
    errors.LimitExceeded("x", "bytes", 1, 2): errno.EFBIG,
    errors.NotFound("image", "x"): errno.ENOENT,
    errors.AlreadyExists("image", "x"): errno.EEXIST,
    errors.Unavailable("ingest", "x"): errno.EBUSY,
    errors.ChangedFile("x"): errno.ESTALE,
    errors.StoreError("x", "is damaged"): errno.EIO,
    OSError(errno.ENOSPC, "full"): errno.ENOSPC,
    OSError(errno.EDQUOT, "quota"): errno.EDQUOT,
}


@pytest.mark.parametrize("error", EXPECTED, ids=lambda error: f"{type(error).__name__}-{error}")
def test_the_errno_of_an_error(error: Exception) -> None:
    assert errno_of(error) == EXPECTED[error]


@pytest.mark.parametrize("kind", kinds())
def test_no_error_of_the_engine_is_a_surprise(
    kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        assert errno_of(kind.__new__(kind)) > 0
    assert not caplog.records


def test_a_surprise_is_logged_and_an_input_output_error(caplog: pytest.LogCaptureFixture) -> None:
    assert errno_of(ZeroDivisionError("oops")) == errno.EIO
    assert "ZeroDivisionError: oops" in caplog.text

"""Tests of the limits of a command's process."""

import resource

import pytest

from imgfs.cli.support.limits import raise_open_files


def test_open_files_keep_their_limit_where_the_kernel_refuses_the_maximum(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It answers EPERM if the maximum is greater than fs.nr_open."""

    def refuse(_limit: int, _values: tuple[int, int]) -> None:
        raise ValueError("not allowed to raise maximum limit")

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(resource, "setrlimit", refuse)
    raise_open_files()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before

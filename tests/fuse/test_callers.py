"""The calls of threads that wait for an answer, as /proc shows them."""

import platform

import pytest

from imgfs.fuse import callers
from imgfs.vfs.nodes import Call

MKDIR = {"x86_64": "83"}.get(platform.machine(), "34")


def test_a_thread_on_its_way_to_sleep_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([["running"], ["running"], [MKDIR, "0x0"]])
    monkeypatch.setattr(callers, "_words", lambda _thread, _file: next(looks))
    monkeypatch.setattr(callers, "_FALLING_ASLEEP", 60)
    assert callers.call_of(1) is Call.MAKE_DIRECTORY


def test_a_thread_that_does_not_sleep_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    words = {"syscall": ["running"], "comm": ["cp"]}
    monkeypatch.setattr(callers, "_words", lambda _thread, file: words[file])
    monkeypatch.setattr(callers, "_FALLING_ASLEEP", 0)
    assert callers.call_of(1) is Call.UNKNOWN_OF_COPIER

"""Tests of passthrough with a fake kernel."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import trio
import trio.testing

from imgfs.fuse import passthrough
from imgfs.fuse.native import library
from imgfs.fuse.native.library import NativeLibrary, load, number_of
from imgfs.fuse.passthrough import Passthrough

INODE = 77


def made(kernel: "Kernel | str", store: Path) -> Passthrough:
    return Passthrough(kernel if isinstance(kernel, str) else cast(NativeLibrary, kernel), store)


@pytest.fixture(autouse=True)
def privileged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passthrough, "_capabilities", lambda: -1)


class Kernel:
    """The functions of the native library for passthrough."""

    def __init__(self, answer: int = 0, agreed: bool = True, shook_hands: bool = True) -> None:
        self.answer = answer
        self.agreed = agreed
        self.shook_hands = shook_hands
        self.open: set[int] = set()
        self.last = 0
        self.wanted = False

    def imgfs_shook_hands(self) -> bool:
        return self.shook_hands

    def imgfs_passthrough_want(self) -> None:
        self.wanted = True

    def imgfs_passthrough_agreed(self) -> bool:
        return self.agreed

    def imgfs_backing_open(self, descriptor: int, /) -> int:
        os.fstat(descriptor)
        if self.answer:
            return self.answer
        self.last += 1
        self.open.add(self.last)
        return self.last

    def imgfs_backing_close(self, backing: int, /) -> None:
        self.open.remove(backing)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def blob(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "blob"
    path.write_bytes(b"12345")
    descriptor = os.open(path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize(
    ("native", "status"),
    [
        (Kernel(), "on"),
        ("switched off", "off: switched off"),
        (
            Kernel(shook_hands=False),
            "off: libfuse has answered the kernel's offer by itself",
        ),
        (Kernel(agreed=False), "off: the kernel does not offer it (Linux 6.9 does)"),
        (Kernel(answer=-1), "off: the kernel refuses it: Operation not permitted"),
    ],
)
def test_the_status_says_whether_passthrough_works(
    store: Path, blob: int, native: Kernel | str, status: str
) -> None:
    way = made(native, store)
    assert way.status == status
    assert (way.back(INODE, blob, 5) is not None) == (status == "on")


def test_an_inode_has_one_id_until_it_is_forgotten(store: Path, blob: int) -> None:
    kernel = Kernel()
    way = made(kernel, store)
    backed = way.back(INODE, blob, 5)
    assert backed is not None
    assert way.back(INODE, blob, 5) is backed
    assert way.known(INODE) is backed
    assert kernel.open == {backed.backing}
    assert number_of(backed.opened(12345)) == 12345
    way.forget(INODE)
    assert kernel.open == set()
    assert way.known(INODE) is None


def test_a_file_of_another_size_is_not_passed_through(store: Path, blob: int) -> None:
    kernel = Kernel()
    way = made(kernel, store)
    assert way.back(INODE, blob, 6) is None
    assert way.back(INODE, blob, 5) is None
    way.forget(INODE)
    assert way.back(INODE, blob, 5) is not None


def test_idle_files_are_closed(store: Path, blob: int) -> None:
    kernel = Kernel()
    way = made(kernel, store)

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(way.close_idle)
            backed = way.back(INODE, blob, 5)
            assert backed is not None
            backed.opened(1)
            await trio.sleep(10.5)
            assert len(way) == 1
            await backed.release()
            await trio.sleep(1.1)
            backed.opened(2)
            await backed.release()
            await trio.sleep(0.9)
            assert len(way) == 1
            await trio.sleep(2)
            assert len(way) == 0
            nursery.cancel_scope.cancel()

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
    assert kernel.open == set()


def test_passthrough_is_not_requested_without_the_privilege(
    monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    monkeypatch.setattr(passthrough, "_capabilities", lambda: 0)
    kernel = Kernel()
    assert made(kernel, store).status == "off: CAP_SYS_ADMIN is needed"
    assert not kernel.wanted


def test_load_returns_why_there_is_no_native_library(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(library, "find_spec", lambda _: None)
        assert load() == "pyfuse3 brings a libfuse of its own"
    monkeypatch.setattr(library, "EXTENSION_SUFFIXES", [".none"])
    assert load() == "this imgfs was built without it"

"""Mounts of registries."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.mounts import Mounted
from tests.waiting import wait_until


def mount_registry(
    mount: Callable[..., Mounted],
    url: str,
    at: str = "mnt",
    options: tuple[str, ...] = (),
    names: tuple[str, ...] = ("app:1",),
) -> Mounted:
    """Mount a registry, and wait until the mount knows its images: from then on, an answer that
    comes late hides none of them.
    """
    mounted = mount(url, at=at, options=options)
    for name in names:
        wait_until(partial(_is_there, mounted / name), f"the registry has answered for {name}", 60)
    return mounted


def _is_there(path: Path) -> bool:
    """Return whether a path can be looked up; while its registry does not answer, it cannot."""
    try:
        path.stat()
    except OSError:
        return False
    return True

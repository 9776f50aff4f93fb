"""Resource limits of this process, and its memory allocator."""

import resource
from contextlib import suppress

_M_ARENA_MAX, _ARENAS = -8, 2
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD, _REUSED = -3, -1, 16 << 20


def raise_open_files() -> None:
    """Raise the limit of open files to the maximum: a load holds one for each large member.

    Keep it as it is if the kernel refuses the maximum, since it is greater than fs.nr_open.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def tune_memory() -> None:
    """Limit glibc to two arenas for all threads, since an arena keeps the memory that it once used,
    and let it reuse freed memory: new pages from the kernel cost more than a copy of their content.
    """
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # other C libraries have no arenas
        mallopt(_M_ARENA_MAX, _ARENAS)
        mallopt(_M_MMAP_THRESHOLD, _REUSED)
        mallopt(_M_TRIM_THRESHOLD, _REUSED)

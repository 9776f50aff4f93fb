"""What this process may use."""

import resource

_M_ARENA_MAX, _ARENAS = -8, 2
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD, _REUSED = -3, -1, 16 << 20


def raise_open_files() -> None:
    """As many open files as the system lets us have: a load holds one for each large member."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def tune_memory() -> None:
    """Let all threads share glibc's arenas: each thread's own would keep what it has once used. And
    let what is freed be used again: memory that the kernel gives anew costs more than a copy of it.
    """
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # other C libraries have no arenas
        mallopt(_M_ARENA_MAX, _ARENAS)
        mallopt(_M_MMAP_THRESHOLD, _REUSED)
        mallopt(_M_TRIM_THRESHOLD, _REUSED)

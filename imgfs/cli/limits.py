"""What this process may use."""

import resource

_M_ARENA_MAX = -8
_ARENAS = 2


def raise_open_files() -> None:
    """As many open files as the system lets us have: a load holds one for each large member."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def limit_arenas() -> None:
    """Let all threads share glibc's arenas: each thread's own would keep what it has once used."""
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # other C libraries have no arenas
        mallopt(_M_ARENA_MAX, _ARENAS)

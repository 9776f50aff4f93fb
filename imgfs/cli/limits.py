"""What this process may use."""

import resource


def raise_open_files() -> None:
    """As many open files as the system lets us have: a load holds one for each large member."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

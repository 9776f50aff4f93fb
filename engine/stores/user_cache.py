"""The directory in which stores keep what they can make again."""

from pathlib import Path

import platformdirs

from engine.errors import StoreError


def user_cache() -> Path:
    """Return this user's directory for caches, whether it exists or not; raise StoreError if the
    user has no home directory.
    """
    try:
        return platformdirs.user_cache_path("imgfs")
    except RuntimeError:
        reason = "this user has no home directory; set HOME or XDG_CACHE_HOME"
        raise StoreError("cache", reason) from None

"""The table of errnos for exceptions.

An exception that is not in it is a bug of imgfs: it is logged with its traceback and becomes EIO.
"""

import errno
import logging

from engine import errors, threads

log = logging.getLogger(__name__)

TABLE: tuple[tuple[type[Exception], int], ...] = (
    (errors.ContentMismatch, errno.EIO),
    (errors.DamagedLayer, errno.EIO),
    (errors.LimitExceeded, errno.EFBIG),
    (errors.InvalidInput, errno.EBADMSG),
    (errors.MissingContent, errno.ENODATA),
    (errors.NotFound, errno.ENOENT),
    (errors.Ambiguous, errno.EINVAL),
    (errors.AlreadyExists, errno.EEXIST),
    (errors.Unavailable, errno.EBUSY),
    (errors.ChangedFile, errno.ESTALE),
    (errors.StoreBusy, errno.EBUSY),
    (errors.Unreachable, errno.EHOSTUNREACH),
    (errors.AccessDenied, errno.EACCES),
    (errors.StoreReadOnly, errno.EROFS),
    (errors.Unsupported, errno.EOPNOTSUPP),
    (errors.StoreError, errno.EIO),
    (threads.Discarded, errno.EIO),
)


def errno_of(error: Exception) -> int:
    """Return the errno for an exception; an OSError keeps its own."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    for kind, number in TABLE:
        if isinstance(error, kind):
            return number
    log.error("unexpected %s: %s", type(error).__name__, error, exc_info=error)
    return errno.EIO


def missing_attribute(name: str) -> int:
    """Return the errno of a query of an extended attribute that a node lacks."""
    # ls stops to query other attributes after EOPNOTSUPP
    return errno.ENODATA if name.startswith("user.") else errno.EOPNOTSUPP

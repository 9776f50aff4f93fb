"""Run a command as on a file system without hard links, symlinks, extended attributes and unnamed
files: `python -m tests.faults.poor COMMAND…`.

A seccomp filter has the kernel refuse the calls.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

_LINKS = {"link": 86, "linkat": 265, "symlink": 88, "symlinkat": 266}
_ATTRIBUTES = {"setxattr": 188, "lsetxattr": 189, "fsetxattr": 190}
_OPENAT = 257
_O_TMPFILE = 0o20000000
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_LOAD, _IF_EQUAL, _IF_ANY, _RETURN = 0x20, 0x15, 0x45, 0x06
_NUMBER, _FLAGS = 0, 16 + 2 * 8
_NO_NEW_PRIVS, _SECCOMP, _FILTER = 38, 22, 2


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def lacking() -> str | None:
    """Return why this machine cannot filter system calls, or None."""
    return None if platform.machine() == "x86_64" else "the filter is for x86-64"


def _filter() -> bytes:
    def one(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
        return struct.pack("=HBBI", code, then, otherwise, value)

    steps = [one(_LOAD, _NUMBER)]
    for number, refusal in (
        *((n, errno.EPERM) for n in _LINKS.values()),
        *((n, errno.EOPNOTSUPP) for n in _ATTRIBUTES.values()),
    ):
        steps += [one(_IF_EQUAL, number, 0, 1), one(_RETURN, _ERRNO | refusal)]
    steps += [
        one(_IF_EQUAL, _OPENAT, 0, 3),
        one(_LOAD, _FLAGS),
        one(_IF_ANY, _O_TMPFILE, 0, 1),
        one(_RETURN, _ERRNO | errno.EOPNOTSUPP),
        one(_RETURN, _ALLOW),
    ]
    return b"".join(steps)


def _install() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    code = _filter()
    program = _Program(len(code) // 8, code)
    if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        _SECCOMP, _FILTER, ctypes.byref(program), 0, 0
    ):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    _install()
    os.execv(sys.argv[1], sys.argv[1:])

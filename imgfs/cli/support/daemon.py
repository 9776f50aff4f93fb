"""The process of a mount: this one, or a daemon."""

import logging
import os
import signal
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from engine.errors import EngineError
from imgfs.cli.support.common import Failed
from imgfs.cli.support.service import log_to_stderr, notify

Serve = Callable[[Callable[[], None]], None]
"""A function that serves a mount until it ends. It calls its argument once the mount can be used,
and raises RuntimeError with libfuse's reason if it cannot be mounted.
"""
_READY = b"\0ready"
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def in_foreground(serve: Serve, mountpoint: Path, on_mounted: Callable[[], None]) -> None:
    """Serve until the mount ends, and tell a service manager when the mount can be used."""
    log_to_stderr()

    def ready() -> None:
        on_mounted()
        notify(f"READY=1\nSTATUS=Mounted on {mountpoint}")

    with _fuse_errors(mountpoint):
        serve(ready)
    notify("STOPPING=1")


def in_background(serve: Serve, mountpoint: Path) -> None:
    """Fork; return once the child is ready; raise Failed with its error if it ends before that.

    A signal that ends this process meanwhile ends the child.
    """
    read_end, write_end = os.pipe()
    sys.stdout.flush()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # until both can react to them
    child = os.fork()
    if child == 0:
        os.close(read_end)
        _become_daemon(serve, mountpoint, write_end, mask)
    os.close(write_end)
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        with open(read_end, "rb") as pipe:
            output = pipe.read()
    except BaseException:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
        raise
    if not output.endswith(_READY):
        lines = list(filter(None, output.decode(errors="replace").split("\n")))
        fuse = [line for line in lines if line.startswith(("fusermount3: ", "fuse: "))]
        raise Failed([f"{mountpoint}: the mount ended at once", *lines, *fuse][-1])


def _become_daemon(
    serve: Serve, mountpoint: Path, write_end: int, mask: Collection[int]
) -> NoReturn:
    """Serve in the child with this signal mask; until the mount is ready the parent reads its
    standard error.
    """
    status = 1
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.dup2(write_end, 2)
        _log_to_syslog()

        def ready() -> None:
            os.setsid()  # not before: autofs lets only its own process group mount
            os.write(write_end, _READY)
            os.dup2(null, 2)
            os.close(write_end)

        with _fuse_errors(mountpoint):
            serve(ready)
        status = 0
    except (Failed, EngineError) as error:
        print(f"\n{error}", file=sys.stderr, flush=True)
    except OSError as error:
        print(f"\n{error.filename or mountpoint}: {error.strerror}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:  # by a signal, before the event loop runs
        pass
    except BaseException as error:  # the child must not return into the parent's code
        logging.getLogger(__name__).critical("the mount ended", exc_info=error)
        print(f"\n{mountpoint}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def _log_to_syslog() -> None:
    """Log to the system log, or nowhere if there is none."""
    from logging.handlers import SysLogHandler

    handler: logging.Handler = logging.NullHandler()
    with suppress(OSError):
        handler = SysLogHandler("/dev/log")
        handler.ident = "imgfs: "
    logging.basicConfig(level=logging.INFO, handlers=[handler])


@contextmanager
def _fuse_errors(mountpoint: Path) -> Iterator[None]:
    """Turn libfuse's RuntimeError into Failed, with a reason that the user can act on."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error)
        if not os.path.exists("/dev/fuse"):
            reason = "there is no /dev/fuse (load the module fuse)"
        elif not os.access("/dev/fuse", os.R_OK | os.W_OK):
            reason = "/dev/fuse may not be opened by this user"
        elif not any(os.access(f"{d}/fusermount3", os.X_OK) for d in os.get_exec_path()):
            reason = "fusermount3 is missing (package fuse3)"
        elif not os.access(mountpoint, os.W_OK):
            reason = "a user must be able to write to the directory that he mounts on"
        raise Failed(f"{mountpoint}: cannot be mounted: {reason}") from error

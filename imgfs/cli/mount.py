"""`imgfs mount`, and the form in which mount(8) calls it."""

import os
import sys
from argparse import SUPPRESS, Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from msgspec.structs import replace

from engine.errors import printable
from engine.limits import Limits
from engine.spec import platforms
from engine.spec.oci import Platform
from imgfs.cli.support.cache import cache_options, with_cache
from imgfs.cli.support.command import Command, Parser, UsageError
from imgfs.cli.support.common import Failed, store_location
from imgfs.cli.support.daemon import in_background, in_foreground
from imgfs.cli.support.durations import parse_duration
from imgfs.cli.support.files import followed
from imgfs.cli.support.limits import raise_open_files, tune_memory
from imgfs.cli.umount import daemon, is_ours, is_stale, unmount
from imgfs.vfs.additional_layers import ADDITIONAL_LAYERS
from imgfs.vfs.names import FAMILIAR, SAFE, Names
from imgfs.vfs.roots import LAYERS, ROOTFS
from imgfs.vfs.views import CombinedView, DockerView, View

_IGNORED = (
    "defaults rw nosuid nodev exec noexec atime noatime relatime norelatime "
    "strictatime diratime nodiratime async sync auto noauto user nouser users owner group "
    "_netdev nofail default_permissions silent loud"
)
"""Options that mount(8) passes on but that are for the kernel or for other programs."""
_HANDED_ON = frozenset({"allow_other", "allow_root", "auto_unmount", "ro"})
_RIGHTS = frozenset({"suid", "dev"})
"""Options that mount.fuse3 adds unasked, so that only `imgfs mount` can mean them."""
_VIEWS: Mapping[str, Callable[[tuple[Platform, ...]], View]] = {
    "combined": CombinedView,
    "docker": DockerView,
    ROOTFS: CombinedView,
    LAYERS: CombinedView,
    ADDITIONAL_LAYERS: CombinedView,
}
_NAMES: Mapping[str, Names] = {"familiar": FAMILIAR, "safe": SAFE}


class _Options(msgspec.Struct, frozen=True):
    """The values of the `-o` options."""

    store: str | None = None
    platforms: tuple[str, ...] = ()
    layout: str = "combined"
    names: str = "familiar"
    limits: Limits = Limits()
    gc_interval: float | None = None
    import_expiry: float = 86400.0
    no_passthrough: bool = False
    nonempty: bool = False
    rights: tuple[str, ...] = ()
    fuse: tuple[str, ...] = ()


def _mount_options(parser: Parser) -> None:
    parser.flag("-f", "--foreground", help="Stay in the foreground and log to standard error.")
    parser.repeatable("--platform", metavar="PLATFORM", help="Show only this platform; repeatable.")
    parser.add_argument(
        "--layout",
        choices=tuple(_VIEWS),
        help="Blobs as they are stored (the default), or as docker save writes them; or instead of"
        " archives the merged root of each image, or what each of its layers holds, also in the"
        " form in which podman finds layers.",
    )
    parser.add_argument(
        "--names",
        choices=tuple(_NAMES),
        help="Names as docker prints them (the default), or without colons: app--1.",
    )
    parser.repeatable(
        "-o",
        metavar="OPTION,…",
        help="allow_other, gc_interval=1h, import_expiry=1d, layout=docker, max_archive_bytes=N, …",
    )
    cache_options(parser)
    parser.add_argument(
        "--gc-interval", metavar="TIME", help="Run a collection at this interval: 1h, 10m."
    )
    parser.flag(
        "--no-passthrough", help="Read all blobs through imgfs, without kernel passthrough."
    )
    parser.flag(
        "--nonempty", help="Mount over a directory that is not empty, and hide its content."
    )
    parser.add_argument("--source", help=SUPPRESS)


def _mount(args: Namespace) -> None:
    """Show the store's images as directories.

    Returns once the mount can be used.

    imgfs mount /mnt/images
    imgfs mount -f --platform linux/arm64 -o allow_other /mnt/images
    mount -t fuse.imgfs /var/lib/imgfs /mnt/images
    """
    options = _parse(word for words in args.o for word in words.split(","))
    given = None if args.source in ("", "none", "imgfs") else args.source
    store = with_cache(store_location(given or options.store or args.store), args)
    wanted = tuple(map(platforms.parse, (*args.platform, *options.platforms)))
    layout = args.layout or options.layout
    view = _VIEWS[layout](wanted)
    names = _NAMES[args.names or options.names]
    interval = options.gc_interval
    if args.gc_interval is not None and not (interval := parse_duration(args.gc_interval)):
        raise UsageError(f"--gc-interval {args.gc_interval}: expected a time like 1h, 10m or 90")
    mountpoint = Path(args.words[0]).absolute()
    _check_apart(store, mountpoint)
    raise_open_files()
    tune_memory()

    def serve(ready: Callable[[], None]) -> None:
        from imgfs.fuse.native.library import load

        native = load()
        from imgfs.fuse.mount import MountOptions, serve  # it imports pyfuse3

        serve(
            store,
            mountpoint,
            MountOptions(
                view,
                options.limits,
                interval,
                options.import_expiry,
                options.fuse if args.source else (*options.fuse, *options.rights),
                args.source or "imgfs",
                native,
                not (args.no_passthrough or options.no_passthrough),
                names,
                layout if layout in (ROOTFS, LAYERS, ADDITIONAL_LAYERS) else "",
            ),
            ready,
        )
        if is_ours(mountpoint) and is_stale(mountpoint):  # without mtab libfuse cannot unmount
            unmount(mountpoint, lazily=True)

    with _prepared(mountpoint) as on_mounted:
        if not (args.nonempty or options.nonempty):
            _check_empty(mountpoint)
        if args.foreground:
            in_foreground(serve, mountpoint, on_mounted)
        else:
            in_background(serve, mountpoint)
            on_mounted()


MOUNT = Command(_mount, _mount_options, words="MOUNTPOINT", least=1, most=1)


def _parse(words: Iterable[str]) -> _Options:
    options = _Options()
    for word in filter(None, words):
        name, _, value = word.partition("=")
        if name in Limits.__struct_fields__ and value.isascii() and value.isdecimal():
            options = replace(options, limits=options.limits.changed({name: value}))
        elif name == "gc_interval" and (seconds := parse_duration(value)):
            options = replace(options, gc_interval=seconds)
        elif name == "import_expiry" and (seconds := parse_duration(value)):
            options = replace(options, import_expiry=seconds)
        elif name == "platform" and value:
            options = replace(options, platforms=(*options.platforms, value))
        elif value in {"layout": _VIEWS, "names": _NAMES}.get(name, ()):
            options = replace(options, **{name: value})
        elif word in ("no_passthrough", "nonempty"):
            options = replace(options, **{word: True})
        elif name == "store" and value:
            options = replace(options, store=value)
        elif word in _RIGHTS:
            options = replace(options, rights=(*options.rights, word))
        elif word in _HANDED_ON:
            options = replace(options, fuse=(*options.fuse, word))
        elif word not in _IGNORED.split() and not name.startswith("x-"):
            raise UsageError(f"unknown mount option: {word}")
    return options


@contextmanager
def _prepared(mountpoint: Path) -> Iterator[Callable[[], None]]:
    """Prepare the directory to mount on, and provide a function to call once it is mounted.

    Unmount what a killed mount left there. Create the directory if it is missing; that function
    then reports it, and it is removed if the mount fails. Raise Failed if nothing can be mounted
    there.
    """
    followed(mountpoint)
    if is_stale(mountpoint):
        if not is_ours(mountpoint):
            raise Failed(
                f"{mountpoint}: is a dead mount of something else (fusermount3 -u ends it)"
            )
        unmount(mountpoint, lazily=True)
    elif not mountpoint.exists():
        _make(mountpoint)
        try:
            yield lambda: _report_created(mountpoint)
        except BaseException:
            with suppress(OSError):
                mountpoint.rmdir()
            raise
        return
    elif not mountpoint.is_dir():
        raise Failed(f"{mountpoint}: is not a directory to mount on")
    elif is_ours(mountpoint) and daemon(Path(os.path.realpath(mountpoint))) is not None:
        raise Failed(f"{mountpoint}: is an imgfs mount already (imgfs umount {mountpoint} ends it)")
    yield lambda: None


def _check_apart(store: str, mountpoint: Path) -> None:
    """Refuse to hide a local store, which the mount itself would then look for in the mount."""
    is_path = "://" not in store
    if is_path and Path(os.path.realpath(store)).is_relative_to(os.path.realpath(mountpoint)):
        raise Failed(
            f"{mountpoint}: has the store {store} in it, which could not be reached any more;"
            " mount on another directory"
        )


def _make(mountpoint: Path) -> None:
    if mountpoint.is_symlink():
        raise Failed(f"{mountpoint}: is a symlink to {os.readlink(mountpoint)}, which is missing")
    try:
        mountpoint.mkdir()
    except FileNotFoundError:
        raise Failed(
            f"{mountpoint}: there is no directory {mountpoint.parent} to make it in;"
            " make that first"
        ) from None


def _report_created(mountpoint: Path) -> None:
    print(f"imgfs: made the directory {printable(str(mountpoint))}", file=sys.stderr)


def _check_empty(mountpoint: Path) -> None:
    with os.scandir(mountpoint) as entries:
        entry = next(entries, None)
    if entry is not None:
        raise Failed(
            f"{mountpoint}: is not empty (it has {printable(entry.name, 60)!r});"
            " mount on an empty directory, or hide what it has with --nonempty"
        )

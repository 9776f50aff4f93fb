"""Paths in a merged root, as users give them.

Symlinks on the way are followed inside the root, where `..` stops. A symlink at the end is itself
what is found, unless a slash follows it. docker cp resolves paths in a container so.
"""

from collections.abc import Iterator, Sequence
from posixpath import dirname, join
from typing import Final

from engine.errors import InvalidInput, NotFound, printable
from engine.filetree.entry_tree import ROOT, EntryTree, LeftOut

_MAX_LINKS: Final = 255


def selection(tree: EntryTree, paths: Sequence[bytes]) -> Iterator[tuple[bytes, int]]:
    """Return an iterator of the entries at and below some paths, each once, in the tree's order.

    An entry has the path that it has in the root, whatever symlinks led to it. Raise NotFound for a
    path that does not exist, InvalidInput for one that leads through too many symlinks.
    """
    tops: list[tuple[bytes, int]] = []
    for path, node in sorted({resolved(tree, path) for path in paths}, key=_order):
        if not tops or not _is_below(path, tops[-1][0]):
            tops.append((path, node))
    return (entry for path, node in tops for entry in tree.walk(path, node))


def resolved(tree: EntryTree, path: bytes) -> tuple[bytes, int]:
    """Return what a path leads to: its path in the root, and the node; raise as `selection`."""
    here, missing = _followed(tree, path)
    if missing:
        raise _not_found(path)
    return b"/".join(name for name, _ in here), here[-1][1] if here else ROOT


def _followed(tree: EntryTree, path: bytes) -> tuple[list[tuple[bytes, int]], list[bytes]]:
    """Return the names and nodes that a path leads through, without those that it leaves again, and
    the names of the part that does not exist, the first one last. Raise InvalidInput.
    """
    here: list[tuple[bytes, int]] = []
    waiting = path.split(b"/")[::-1]
    links = 0
    while waiting:
        name = waiting[-1]
        node = here[-1][1] if here else ROOT
        if tree.attributes(node).kind != "dir":
            break
        if name in (b"", b"."):
            waiting.pop()
            continue
        if name == b"..":
            waiting.pop()
            del here[-1:]
            continue
        child = tree.lookup(node, name)
        if child is None:
            break
        waiting.pop()
        if not waiting or tree.attributes(child).kind != "symlink":
            here.append((name, child))
            continue
        links += 1
        if links > _MAX_LINKS:
            raise _too_many_links(path)
        target = tree.entry(child).link
        if target.startswith(b"/"):
            here.clear()
        waiting += target.split(b"/")[::-1]
    return here, waiting


def resolved_to_the_end(tree: EntryTree, path: bytes) -> tuple[bytes, int]:
    """Return what a path leads to, following a symlink at its end too; raise as `selection`."""
    for _ in range(_MAX_LINKS):
        found, node = resolved(tree, path)
        if tree.attributes(node).kind != "symlink":
            return found, node
        path = join(dirname(found), tree.entry(node).link)
    raise _too_many_links(path)


def left_out_below(tree: EntryTree, directory: bytes) -> tuple[LeftOut, ...]:
    """Return what a tree leaves out below a directory, and what may be below it: any part of a
    layer that is left out without its paths. Symlinks on the way to what is left out are followed.
    """
    return tuple(
        one
        for one in tree.left_out
        if not one.path or _is_below(_place_of(tree, one.path), directory)
    )


def _place_of(tree: EntryTree, path: bytes) -> bytes:
    """Return where an entry is or would be, by the path that its layer gives it."""
    try:
        here, missing = _followed(tree, path)
    except InvalidInput:
        return path
    names = [name for name, _ in here]
    for name in reversed(missing):
        if name == b"..":
            del names[-1:]
        elif name not in (b"", b"."):
            names.append(name)
    return b"/".join(names)


def _is_below(path: bytes, directory: bytes) -> bool:
    return not directory or path.startswith(directory + b"/")


def _order(found: tuple[bytes, int]) -> bytes:
    return found[0].replace(b"/", b"\0")


def _too_many_links(path: bytes) -> InvalidInput:
    shown = printable(_text(path))
    return InvalidInput(f"{shown}: leads through more than {_MAX_LINKS} symlinks")


def _not_found(path: bytes) -> NotFound:
    return NotFound("path", _text(path))


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")

"""Tables of layers for tests, and short forms of the trees that are made of them."""

from collections.abc import Iterable, Sequence

from engine.filetree.entry_tree import ROOT, EntryTree
from engine.filetree.tree_builder import TreeBuilder
from engine.layers.table import LayerTable
from engine.layers.table_builder import TableBuilder
from engine.limits import Limits
from tests.filetree.layers import Member, layer


def table_of(data: bytes) -> LayerTable:
    builder = TableBuilder(Limits())
    builder.feed(memoryview(data))
    return builder.result("none", ())


def built(*layers: Iterable[Member]) -> tuple[EntryTree, list[EntryTree]]:
    """Return the merged root of layers, and the changes of each."""
    builder = TreeBuilder()
    changes = []
    for members in layers:
        builder.apply(table_of(layer(*members)))
        changes.append(builder.changes())
    return builder.tree(), changes


def shown(tree: EntryTree) -> list[str]:
    """Return a line for each node: the path, and for all but directories "=LAYER.ENTRY"."""
    lines = []
    for path, node in tree.walk():
        kind, place = tree.attributes(node).kind, tree.place(node)
        text = path.decode("utf-8", "surrogateescape")
        if kind == "dir":
            text += "/!" if tree.is_opaque(node) else "/"
        elif place is None:
            text += "=whiteout"
        else:
            text += f"={place.layer}.{place.index}"
        lines.append(text)
    return lines


Stacked = dict[bytes, tuple[str, object]]


def stacked(layers: Sequence[EntryTree]) -> Stacked:
    """Return what overlayfs shows of layers, lowest first: kinds and places by path."""
    found: Stacked = {b"": _place(layers[-1], ROOT)} if layers else {}
    waiting = [(b"", [(tree, ROOT) for tree in reversed(layers)])]
    while waiting:
        path, below = waiting.pop()
        names: dict[bytes, list[tuple[EntryTree, int]]] = {}
        for tree, node in below:
            for child in tree.children(node):
                names.setdefault(tree.name(child), []).append((tree, child))
            if tree.is_opaque(node):
                break
        for name, nodes in names.items():
            tree, node = nodes[0]
            child_path = path + b"/" + name if path else name
            if tree.attributes(node).kind == "dir":
                found[child_path] = _place(tree, node)
                waiting.append((child_path, _directories(nodes)))
            elif tree.place(node) is not None:
                found[child_path] = _place(tree, node)
    return found


def placed(tree: EntryTree) -> Stacked:
    """Return kinds and places of a merged root by path."""
    return {path: _place(tree, node) for path, node in tree.walk()}


def _place(tree: EntryTree, node: int) -> tuple[str, object]:
    return tree.attributes(node).kind, tree.place(node)


def _directories(nodes: Sequence[tuple[EntryTree, int]]) -> list[tuple[EntryTree, int]]:
    """Return the directories that overlayfs merges: those above the first entry of another type."""
    merged = []
    for tree, node in nodes:
        if tree.attributes(node).kind != "dir":
            break
        merged.append((tree, node))
        if tree.is_opaque(node):
            break
    return merged

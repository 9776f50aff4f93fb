"""The tree that `tree_builder` changes, and how it becomes an `EntryTree`."""

from array import array
from collections import Counter, deque
from collections.abc import Sequence
from operator import itemgetter

from engine.filetree.entry_tree import WHITED_OUT, EntryTree, LeftOut
from engine.layers.table import LayerTable

Leaf = int | tuple[int, int]
"""The reference of the entry that a node is; of a hard link those of its name and its target."""
NO_LAYER = -1


class Directory:
    """A directory: the reference of its entry, and its children by name.

    `listed` is the last layer that has it or something below it, `opaque` the last one that hides
    all that lower layers have in it.
    """

    __slots__ = ("children", "entry", "listed", "opaque")

    def __init__(self, entry: int) -> None:
        self.entry = entry
        self.listed = NO_LAYER
        self.opaque = NO_LAYER
        self.children: dict[bytes, Directory | Leaf] = {}


def name_of(leaf: Leaf) -> int:
    """Return the reference of the entry that names a leaf."""
    return leaf if isinstance(leaf, int) else leaf[0]


def target_of(leaf: Leaf) -> int:
    """Return the reference of the entry whose content a leaf has."""
    return leaf if isinstance(leaf, int) else leaf[1]


def node_count(node: Directory | Leaf) -> int:
    """Return the number of nodes at and below a node."""
    count = 0
    waiting = [node]
    while waiting:
        found = waiting.pop()
        count += 1
        if isinstance(found, Directory):
            waiting.extend(found.children.values())
    return count


def frozen(
    root: Directory,
    tables: Sequence[LayerTable | None],
    left_out: tuple[LeftOut, ...],
    opaque_in: int = NO_LAYER,
) -> EntryTree:
    """Return the tree below `root`; its directories that are opaque in a layer are marked so."""
    named, shown, first = array("Q"), array("Q"), array("I")
    anonymous: dict[int, bytes] = {}
    opaque = set()
    linked = set()
    waiting: deque[tuple[bytes, Directory | Leaf]] = deque([(b"", root)])
    made = 1
    while waiting:
        name, node = waiting.popleft()
        number = len(named)
        first.append(made)
        if isinstance(node, Directory):
            reference = node.entry
            named.append(reference)
            shown.append(reference)
            if opaque_in != NO_LAYER and node.opaque == opaque_in:
                opaque.add(number)
            children = sorted(node.children.items(), key=itemgetter(0))
            waiting.extend(children)
            made += len(children)
        else:
            reference = name_of(node)
            named.append(reference)
            shown.append(target_of(node))
            if not isinstance(node, int):
                linked.add(node[1])
        if reference >= WHITED_OUT:
            anonymous[number] = name
    first.append(made)
    links = Counter(found for found in shown if found in linked) if linked else {}
    return EntryTree(
        tables, named, shown, first, anonymous, frozenset(opaque), dict(links), left_out
    )

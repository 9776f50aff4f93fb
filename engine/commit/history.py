"""The history of an image made to fit its layers, as BuildKit and moby do it."""

from collections.abc import Sequence

import msgspec

from engine.spec.oci import History

COMMENT = "buildkit.exporter.image.v0"
"""What BuildKit says of an entry that it made up."""
DESCRIPTION = "created by buildkit"


class LayerNote(msgspec.Struct, frozen=True):
    """What a ref tells of its layer; `created` is RFC 3339 text, "" for none.

    The defaults are BuildKit's, so that an image is the same bytes as one of BuildKit's.
    """

    description: str = DESCRIPTION
    created: str = ""
    comment: str = COMMENT
    author: str = ""


def normalized(history: Sequence[History], notes: Sequence[LayerNote]) -> tuple[History, ...]:
    """The history with one entry a layer, the empty ones aside; `notes` has one note a layer.

    Entries that are missing are made of the notes; of too many the last ones become empty. An
    entry without a time has its layer's, else that of the first new layer, else the last one's.
    """
    fitted = _fitted(history, notes)
    dated = _dated(fitted, notes)
    return _filled(dated)


def without_layers(history: Sequence[History], dropped: Sequence[int]) -> tuple[History, ...]:
    """The history after the layers of these numbers have gone: their entries become empty."""
    gone, layer = set(dropped), 0
    found = []
    for entry in history:
        if not entry.empty_layer:
            if layer in gone:
                entry = msgspec.structs.replace(entry, empty_layer=True)
            layer += 1
        found.append(entry)
    return tuple(found)


def _fitted(history: Sequence[History], notes: Sequence[LayerNote]) -> list[History]:
    found = []
    layers = 0
    for entry in history:
        if not entry.empty_layer and layers == len(notes):
            entry = msgspec.structs.replace(entry, empty_layer=True)
        layers += not entry.empty_layer
        found.append(entry)
    return found + [
        History(
            created=note.created,
            created_by=note.description,
            author=note.author,
            comment=note.comment,
        )
        for note in notes[layers:]
    ]


def _dated(history: Sequence[History], notes: Sequence[LayerNote]) -> list[History]:
    found = []
    layer = 0
    for entry in history:
        if not entry.empty_layer:
            if not entry.created:
                entry = msgspec.structs.replace(entry, created=notes[layer].created)
            layer += 1
        found.append(entry)
    return found


def _filled(history: Sequence[History]) -> tuple[History, ...]:
    created = ""
    lacking = False
    for entry in history:
        if entry.created:
            created = entry.created
            if lacking:
                break
        else:
            lacking = True
    lacking = False
    found = []
    for entry in history:
        if not entry.created:
            lacking = True
            entry = msgspec.structs.replace(entry, created=created)
        elif lacking:
            created = entry.created
        found.append(entry)
    return tuple(found)

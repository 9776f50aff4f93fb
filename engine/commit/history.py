"""The history of an image, adjusted to its layers as BuildKit and moby do."""

from collections.abc import Collection, Sequence

import msgspec

from engine.spec.oci import History

COMMENT = "buildkit.exporter.image.v0"
"""The comment of the entries that BuildKit creates."""
DESCRIPTION = "created by buildkit"


class LayerNote(msgspec.Struct, frozen=True):
    """The description of a layer for its history entry; `created` is RFC 3339 text, or "".

    The defaults are BuildKit's, so that images are identical to those of BuildKit.
    """

    description: str = DESCRIPTION
    created: str = ""
    comment: str = COMMENT
    author: str = ""


def normalized(history: Sequence[History], notes: Sequence[LayerNote]) -> tuple[History, ...]:
    """Return the history with one non-empty entry for each layer; `notes` has one note for each
    layer.

    Missing entries are created from the notes; surplus ones become empty layers, from the end. An
    entry without a time gets that of its layer, else of the first new layer, else of the last
    layer.
    """
    fitted = _fitted(history, notes)
    dated = _dated(fitted, notes)
    return _filled(dated)


def empty_entry(note: LayerNote) -> History:
    """Return the entry of a step that makes no layer."""
    return msgspec.structs.replace(_entry(note), empty_layer=True)


def without_layers(history: Sequence[History], dropped: Collection[int]) -> tuple[History, ...]:
    """Return the history without the layers of these numbers: their entries become empty layers."""
    layer = 0
    found = []
    for entry in history:
        if not entry.empty_layer:
            if layer in dropped:
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
    return found + [_entry(note) for note in notes[layers:]]


def _entry(note: LayerNote) -> History:
    return History(
        created=note.created,
        created_by=note.description,
        author=note.author,
        comment=note.comment,
    )


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

"""SOURCE_DATE_EPOCH: the limit of all times in an image except those of its base image."""

from collections.abc import Sequence

import msgspec

from engine.commit import config as configs
from engine.commit.config import InvalidConfig
from engine.commit.history import LayerNote
from engine.errors import InvalidDocument
from engine.filetree.tree import Tree
from engine.spec import go_json, rfc3339
from engine.spec.oci import History
from engine.units import NS_PER_SECOND


def clamp_history(
    history: Sequence[History], base: Sequence[History], epoch: int
) -> tuple[History, ...]:
    """Return the history with every time that is missing or later than `epoch` set to `epoch`.

    `epoch` is in seconds since 1970. The leading entries that the history shares with `base` are
    kept.
    """
    kept = shared(history, base)
    return (
        *history[:kept],
        *(
            msgspec.structs.replace(entry, created=clamp(entry.created, epoch))
            for entry in history[kept:]
        ),
    )


def shared(history: Sequence[History], base: Sequence[History]) -> int:
    """Return the number of leading entries that a history shares with that of its base image."""
    count = 0
    while count < min(len(history), len(base)) and history[count] == base[count]:
        count += 1
    return count


def clamp_note(note: LayerNote, epoch: int) -> LayerNote:
    """Return the note with its time, if it has one, clamped to `epoch`."""
    if not note.created:
        return note
    return msgspec.structs.replace(note, created=clamp(note.created, epoch))


def clamp_created(config: bytes, epoch: int) -> bytes:
    """Return the config with its `created`, if present, clamped to `epoch`; raise InvalidConfig."""
    members = configs.members(config)
    if "created" not in members:
        return config
    try:
        created = go_json.loads(bytes(members["created"]), "created") or rfc3339.ZERO
        rfc3339.normalize(created)
    except (InvalidDocument, TypeError, ValueError) as error:
        raise InvalidConfig(f"invalid creation time: {error}") from error
    if _is_after(created, epoch):
        members["created"] = msgspec.Raw(go_json.dumps(clamp(created, epoch)))
    return go_json.dumps(members)


def clamp_tree(tree: Tree, epoch: int) -> Tree:
    """Return the tree with the times of files clamped to `epoch`."""
    latest = epoch * NS_PER_SECOND
    return Tree(
        {
            path: entry
            if entry.mtime_ns <= latest
            else msgspec.structs.replace(entry, mtime_ns=latest)
            for path, entry in tree.items()
        }
    )


def clamp(time: str, epoch: int) -> str:
    """Return the earlier of a time and `epoch`; `epoch` if the time is ""."""
    return _text(epoch) if not time or _is_after(time, epoch) else time


def _is_after(time: str, epoch: int) -> bool:
    seconds = rfc3339.epoch_seconds(time)
    return seconds > epoch or (seconds == epoch and "." in rfc3339.normalize(time))


def _text(epoch: int) -> str:
    return rfc3339.text(epoch) or "1970-01-01T00:00:00Z"

"""SOURCE_DATE_EPOCH: no time in an image is later than it, but what comes from the base image."""

from collections.abc import Sequence

import msgspec

from engine.commit.config import InvalidConfig
from engine.filetree.tree import Tree
from engine.spec import go_json, rfc3339
from engine.spec.oci import History

_SECOND = 1_000_000_000


def clamp_history(
    history: Sequence[History], base: Sequence[History], epoch: int
) -> tuple[History, ...]:
    """The history with every time that is missing or later than `epoch` (seconds since 1970) set to
    it, from the first entry on that is not the base's.
    """
    shared = 0
    while shared < min(len(history), len(base)) and history[shared] == base[shared]:
        shared += 1
    return (
        *history[:shared],
        *(
            msgspec.structs.replace(entry, created=clamp(entry.created, epoch))
            for entry in history[shared:]
        ),
    )


def clamp_created(config: bytes, epoch: int) -> bytes:
    """The config with its `created`, if it has one, no later than `epoch`; InvalidConfig."""
    try:
        members = msgspec.json.decode(config, type=dict[str, msgspec.Raw])
        if "created" not in members:
            return config
        created = msgspec.json.decode(members["created"], type=str | None) or rfc3339.ZERO
        rfc3339.normalize(created)
    except (msgspec.DecodeError, ValueError) as error:
        raise InvalidConfig(f"invalid creation time: {error}") from error
    if _is_after(created, epoch):
        members["created"] = msgspec.Raw(go_json.dumps(clamp(created, epoch)))
    return go_json.dumps(members)


def clamp_tree(tree: Tree, epoch: int) -> Tree:
    """The tree with no file's time later than `epoch`."""
    latest = epoch * _SECOND
    return Tree(
        {
            path: entry
            if entry.mtime_ns <= latest
            else msgspec.structs.replace(entry, mtime_ns=latest)
            for path, entry in tree.items()
        }
    )


def clamp(time: str, epoch: int) -> str:
    """A time that is no later than `epoch`; `epoch` for none."""
    return _text(epoch) if not time or _is_after(time, epoch) else time


def _is_after(time: str, epoch: int) -> bool:
    seconds = rfc3339.epoch_seconds(time)
    return seconds > epoch or (seconds == epoch and "." in rfc3339.normalize(time))


def _text(epoch: int) -> str:
    return rfc3339.text(epoch) or "1970-01-01T00:00:00Z"

"""Advice: what a user can do about an error, where the error itself does not say it.

An error names an object, what was expected and what was found, but cannot know whether the object
came from a file that is being loaded or from the store.
"""

import os

from engine import errors

_DAMAGED = "the file is damaged: {again}, and if that fails too, get it anew from its source"
_FULL = "free space on the store's disk, for which imgfs gc may be enough, and copy it again"
_MAKE_ROOM = "free space on the store's disk, with imgfs rm and imgfs gc for example"
_AFTER_COPY: tuple[tuple[type[Exception], str], ...] = (
    (errors.ContentMismatch, _DAMAGED.format(again="copy it again")),
    (
        errors.LimitExceeded,
        "if you trust the file, set a higher limit with imgfs mount -o, and copy it again",
    ),
    (
        errors.InvalidInput,
        "copy it again if it was cut off; else save the image anew (docker save, podman save, …)",
    ),
    (errors.StoreDamaged, "let imgfs fsck --repair look at the store, and copy it again"),
)
_NO_CONTAINERS = "imgfs runs nothing: podman run --rootfs MOUNT/rootfs/NAME:O runs an image"
_INSTEAD = {
    "pull": "skopeo copy docker://NAME oci:MOUNT/import/NAME pulls into a mount",
    "push": "skopeo copy oci:MOUNT/NAME docker://NAME pushes from a mount",
    "build": "imgfs commit makes an image of a directory",
    "login": "imgfs uses what docker login or podman login has stored",
    **dict.fromkeys(("run", "create", "start", "stop", "exec", "ps"), _NO_CONTAINERS),
    **dict.fromkeys(("remove", "delete"), "imgfs rm removes images"),
}
"""Commands of docker and podman, and what users of imgfs do instead."""


def instead_of(command: str) -> str:
    """Return a clause for a command that other tools have and imgfs has not, or ""."""
    return f"; {_INSTEAD[command]}" if command in _INSTEAD else ""


def after_copy(error: Exception) -> str:
    """Return a sentence with what to do about a file in `import/` that was not loaded."""
    clause = _after_copy(error)
    return f"{clause[0].upper()}{clause[1:]}."


def _after_copy(error: Exception) -> str:
    if errors.is_of_space(error):
        return _FULL
    return next((text for kind, text in _AFTER_COPY if isinstance(error, kind)), "copy it again")


def after_load(error: Exception) -> str:
    """Return a clause with what to do about an archive that `imgfs load` refused, or ""."""
    if errors.is_of_space(error):
        return _MAKE_ROOM
    is_damaged = isinstance(error, errors.ContentMismatch)
    return _DAMAGED.format(again="load it again") if is_damaged else ""


def for_store(error: Exception) -> str:
    """Return a clause with what to do about an error of a command that reads the store, or "".

    The command may read files too: the archive of `save --append`.
    """
    is_damaged = isinstance(error, errors.ContentMismatch)
    return "imgfs fsck shows whether the store is damaged" if is_damaged else ""


def for_file(error: OSError) -> str:
    """Return a clause with what to do about a file that the system refuses, or ""."""
    of_store = os.path.basename(os.fsdecode(error.filename or "")) == "imgfs.db"
    return _MAKE_ROOM if of_store and errors.is_of_space(error) else ""

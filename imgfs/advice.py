"""Advice: what a user can do about an error, where the error itself does not say it.

An error names an object, what was expected and what was found, but cannot know whether the object
came from a file that is being loaded or from the store.
"""

from engine.errors import ContentMismatch


def for_archive(error: Exception, again: str) -> str:
    """Return a clause with what to do about an archive that was not loaded, "" if there is none.

    `again` is the clause for another attempt, such as "load it again".
    """
    if isinstance(error, ContentMismatch):
        return f"the file is damaged: {again}, and if that fails too, get it anew from its source"
    return ""


def for_store(error: Exception) -> str:
    """Return a clause with what to do about an error of a command that reads the store, or "".

    The command may read files too: the archive of `save --append`.
    """
    return (
        "imgfs fsck shows whether the store is damaged"
        if isinstance(error, ContentMismatch)
        else ""
    )

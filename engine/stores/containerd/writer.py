"""A writer of an ingest of containerd, straight into its file.

containerd has a directory for each ingest, with the bytes in `data` and the ingest's name, after a
number and the namespace, in `ref`. When an ingest is resumed, containerd hashes what is in the
file, and goes on from there; so it checks for itself what was written.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from engine.content.writer import Publish, Record
from engine.errors import EngineError
from engine.stores.containerd.api import Content
from engine.stores.containerd.owner import new_id
from engine.stores.descriptor_writer import DescriptorWriter


class ContainerdWriter(DescriptorWriter):
    """A `Writer` of an ingest of containerd, by the name `ingest`."""

    def __init__(
        self,
        content: Content,
        ingest: str,
        descriptor: int,
        record: Record,
        algorithm: str,
        publish: Publish,
    ) -> None:
        super().__init__(descriptor, record, algorithm, publish)
        self._content = content
        self.ingest = ingest

    def _discard(self) -> None:
        """Discard the ingest, unless it has become a blob; one that cannot be discarded expires."""
        if self._is_own:
            with suppress(EngineError):
                self._content.abort(self.ingest)


def begin_ingest(
    content: Content, root: Path, record: Record, algorithm: str, publish: Publish
) -> ContainerdWriter | None:
    """Begin an ingest below `root`, the directory of containerd's content; None if its file cannot
    be written.
    """
    ref = new_id()
    content.begin(ref)
    try:
        descriptor = _open(root / "ingest", ref)
        if descriptor is not None:
            return ContainerdWriter(content, ref, descriptor, record, algorithm, publish)
    except BaseException:
        content.abort(ref)
        raise
    content.abort(ref)
    return None


def _open(ingests: Path, ref: str) -> int | None:
    with suppress(OSError):
        for name in os.listdir(ingests):
            if _ref(ingests / name).endswith(f"/{ref}"):
                flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
                return os.open(ingests / name / "data", flags)
    return None


def _ref(ingest: Path) -> str:
    with suppress(OSError):  # another one may be ending
        return (ingest / "ref").read_text("utf-8", "replace")
    return ""

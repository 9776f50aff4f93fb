"""The contents below a target: read from its manifests once, and anew if its blobs come or go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock

import msgspec

from engine import graph
from engine.content.protocols import Info
from engine.errors import (
    ContentMismatch,
    InvalidInput,
    LimitExceeded,
    NotFound,
)
from engine.image import Summary
from engine.spec.descriptor import Descriptor
from engine.stores.containerd.mirror import Remembered


class _Known(msgspec.Struct, frozen=True):
    summary: Summary
    present: frozenset[str]
    """Those of its blobs that were there, missing ones included."""


class Summaries:
    """The summaries of targets. Safe from any thread."""

    def __init__(
        self,
        content: graph.Blobs,
        blobs: Remembered[Mapping[str, Info]],
        root: Callable[[str], Descriptor | None],
    ) -> None:
        """`root` returns the descriptor of a target that an image has."""
        self._content = content
        self._blobs = blobs
        self._root = root
        self._lock = Lock()
        self._known: dict[str, _Known] = {}

    def get(self, target: str) -> Summary:
        """Return what is below a target as it is now; raise NotFound if no image has it."""
        known = self._known.get(target)
        if known is not None and self._present(known.summary) == known.present:
            return known.summary
        root = self._root(target)
        if root is None:
            raise NotFound("image", target)
        summary = self._read(root)
        self.put(target, summary)
        return summary

    def put(self, target: str, summary: Summary) -> None:
        """Remember what is below a target."""
        blobs, missing = (tuple(sorted(each)) for each in (summary.blobs, summary.missing))
        summary = msgspec.structs.replace(summary, blobs=blobs, missing=missing)
        with self._lock:
            self._known[target] = _Known(summary, self._present(summary))

    def drop(self, target: str) -> None:
        """Forget a target."""
        with self._lock:
            self._known.pop(target, None)

    def _present(self, summary: Summary) -> frozenset[str]:
        blobs = self._blobs.get()
        return frozenset(
            digest
            for each in (summary.blobs, summary.missing)
            for digest in each
            if digest in blobs
        )

    def _read(self, root: Descriptor) -> Summary:
        """Read the manifests below a descriptor; one that cannot be read has nothing below it."""
        try:
            return graph.summarize(graph.graph(self._content, root))
        except (InvalidInput, ContentMismatch, LimitExceeded):
            return Summary(0, (), (), (root.digest,))

"""A writer of an ingest on disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from engine.content.writer import Publish, Record
from engine.stores.descriptor_writer import DescriptorWriter
from engine.stores.local import ingest_files

BLOB_MODE: Final = 0o444


class LocalWriter(DescriptorWriter):
    """A `Writer` that holds the ingest in `directory` by the lock of its data."""

    def __init__(
        self,
        directory: Path,
        descriptor: int,
        record: Record,
        algorithm: str,
        publish: Publish,
        unnamed: set[Path],
    ) -> None:
        """`unnamed` holds the directory of an ingest without a ref until the ingest has ended."""
        super().__init__(descriptor, record, algorithm, publish)
        self._directory = directory
        self._unnamed = unnamed

    def sync(self) -> None:
        """Make the bytes durable and the file read-only."""
        if not self.synced:
            os.fchmod(self._descriptor, BLOB_MODE)
        super().sync()

    def move(self, path: Path) -> None:
        """End the ingest by moving its synced data to `path`, replacing an existing file."""
        self.sync()
        ingest_files.move(self._directory, path)
        self._unnamed.discard(self._directory)
        self.close()

    def _discard(self) -> None:
        """Remove the ingest; leave files that cannot be removed to garbage collection.

        The child of a fork leaves the ingest to its parent.
        """
        if self._is_own:
            ingest_files.try_to_remove(self._directory)
            self._unnamed.discard(self._directory)

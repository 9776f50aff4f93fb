"""The blobs of a namespace: containerd's own files, and what it knows of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Final

from engine.content.protocols import Committed, Info, ReaderAt, Status
from engine.content.writer import Record, Writer
from engine.errors import AlreadyExists, NotFound, Unsupported
from engine.spec.digest import Digest, parse
from engine.stores.containerd.api import PIECE, Content
from engine.stores.containerd.mirror import Remembered
from engine.stores.containerd.owner import is_abandoned, new_id
from engine.stores.containerd.reader import RemoteReader
from engine.stores.containerd.references import renamed
from engine.stores.containerd.transactions import Transactions
from engine.stores.containerd.watch import Watch
from engine.stores.containerd.writer import ContainerdWriter, begin_ingest
from engine.stores.content import ContentStore
from engine.stores.local.files import LocalReader, make_directory
from engine.stores.local.ingests import Ingests
from engine.stores.protocols import LeaseManager

_IDLE: Final = 24 * 3600.0
"""Seconds after which an ingest is dropped that nobody has resumed."""
_FEW: Final = 8
"""Blobs that are asked for one by one, rather than all blobs of the namespace."""


class ContainerdContent(ContentStore):
    """The blobs of one namespace. Safe from any thread."""

    algorithms = frozenset({"sha256"})

    def __init__(
        self,
        location: str,
        content: Content,
        blobs: Remembered[Mapping[str, Info]],
        root: Path | None,
        directory: Path,
        leases: LeaseManager,
        watch: Watch,
        transactions: Transactions,
    ) -> None:
        """`root` is the directory of containerd's content, None if it is not known; `directory` is
        for what is written where that cannot be.
        """
        self._location = location
        self._content = content
        self._blobs = blobs
        self._root = root
        self._leases = leases
        self._watch = watch
        self._transactions = transactions
        make_directory(directory / "ingest")
        self._ingests = Ingests(directory / "ingest", time.time, self.publish)

    def close(self) -> None:
        """Remove the unnamed ingests of this process that have not ended."""
        self._ingests.close()

    def drop_abandoned(self) -> None:
        """Discard what processes of ours were writing when they were killed."""
        for ref in filter(is_abandoned, self._content.ingests()):
            self._content.abort(ref)
        for entry in self._ingests.abandoned(_IDLE):
            self._ingests.remove(entry.name)

    def _transaction(self) -> AbstractContextManager[object]:
        return self._transactions.begin()

    def open(self, digest: str) -> ReaderAt:
        info = self.info(digest)
        if self._root is not None:
            path = self._root / "blobs" / info.digest.algorithm / info.digest.encoded
            with suppress(OSError):
                reader = LocalReader(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW))
                if reader.size == info.size:
                    return reader
                reader.close()
        return RemoteReader(self._content, info, self._leases)

    def info(self, digest: str) -> Info:
        name = parse(digest)
        known = self._blobs.known()
        if known is None:
            return self._content.info(name)
        if name not in known:
            raise NotFound("blob", digest)
        return known[name]

    def sizes(self, digests: Iterable[str]) -> Mapping[str, int]:
        wanted = tuple(digests)
        if self._blobs.known() is None and len(wanted) <= _FEW:
            return super().sizes(wanted)
        known = self._blobs.get()
        return {digest: known[digest].size for digest in wanted if digest in known}

    def walk(self, wanted: Callable[[Info], bool] | None = None) -> Iterator[Info]:
        infos = [info for _, info in sorted(self._blobs.get().items())]
        return filter(wanted, infos) if wanted else iter(infos)

    # Writing

    def writer(
        self, ref: str, size: int = 0, expected: str | None = None, algorithm: str = "sha256"
    ) -> Writer:
        digest = parse(expected) if expected else None
        return self._ingests.hold(ref, size, digest, algorithm)

    def unnamed_writer(
        self, size: int = 0, expected: str | None = None, algorithm: str = "sha256"
    ) -> Writer:
        digest = parse(expected) if expected else None
        root = self._root
        if root and not 0 < size <= PIECE and (not root.exists() or os.access(root, os.W_OK)):
            record = Record("a new blob", size, digest, time.time())
            begun = begin_ingest(self._content, root, record, algorithm, self.publish)
            if begun is not None:
                return begun
        return self._ingests.hold_unnamed(size, digest, algorithm)

    def statuses(self) -> list[Status]:
        return self._ingests.statuses()

    def abort(self, ref: str) -> None:
        self._ingests.abort(ref)

    def prepare(self, writers: Iterable[Writer]) -> None:
        own = list(writers)
        super().prepare(own)
        for writer in own:
            if (digest := writer.digest()).algorithm not in self.algorithms:
                raise Unsupported(self._location, f"containerd keeps no blob as {digest}")
            if isinstance(writer, ContainerdWriter):  # containerd would, with all changes waiting
                writer.sync()

    def _take(self, writers: Sequence[tuple[Writer, Mapping[str, str]]]) -> list[Committed]:
        lease = self._transactions.lease() if writers else ""
        try:
            return [self._commit(writer, labels, lease) for writer, labels in writers]
        finally:
            self._watch.changed()

    def _commit(self, writer: Writer, labels: Mapping[str, str], lease: str) -> Committed:
        digest, now = writer.digest(), time.time()
        given = renamed(labels, lambda: writer.pread(writer.offset, 0))
        given = {key: value for key, value in given.items() if value}
        while True:
            try:
                self._send(writer, digest, given, lease)
                info = Info(digest, writer.offset, now, now, given)
                with suppress(NotFound):  # somebody has deleted it since
                    info = self._content.info(digest)
                return Committed(info, added=True)
            except AlreadyExists:
                with suppress(NotFound):
                    found = self._content.info(digest)
                    info = self._content.label(digest, given) if given else found
                    return Committed(info, added=False)

    def _send(self, writer: Writer, digest: Digest, labels: Mapping[str, str], lease: str) -> None:
        """Turn an ingest into a blob; raise AlreadyExists."""
        if isinstance(writer, ContainerdWriter):
            self._content.commit(writer.ingest, digest, labels, (), writer.offset, lease)
            writer.close()  # there is no ingest any more
        else:
            self._content.commit(new_id(), digest, labels, _pieces(writer), 0, lease)

    def update(self, digest: str, labels: Mapping[str, str]) -> Info:
        name = parse(digest)
        try:
            return self._content.label(name, labels) if labels else self._content.info(name)
        finally:
            self._watch.changed()

    def delete(self, digest: str) -> None:
        try:
            self._content.delete(parse(digest))
        finally:
            self._watch.changed()


def _pieces(writer: Writer) -> Iterator[bytes]:
    for offset in range(0, writer.offset, PIECE):
        yield writer.pread(PIECE, offset)

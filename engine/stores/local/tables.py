"""The tables of layers and roots on disk, as files that a crash leaves whole or not there.

STORE/layers/<algorithm>/<hex>   the table of the layer, or of the root of the manifest, with that
                                 digest

A table is written to a file in STORE/ingest, fsynced and renamed. A file that is left there is
collected as the remains of an ingest; one that is collected too early is a table that is made again
when it is needed. The directory is made with the first table, since older stores have none.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from engine.errors import InvalidDigest
from engine.spec.digest import ALGORITHMS, Digest, parse
from engine.stores.local.files import sync_directory
from engine.threads import run_all


class StoredTable(msgspec.Struct, frozen=True):
    """A file below `layers/`; `digest` is that of the blob, None if the file is called like none.

    `size` is in bytes.
    """

    path: Path
    digest: Digest | None
    size: int


class LocalTables:
    """The `TableStore` below `root`."""

    def __init__(self, root: Path) -> None:
        self._directory = root / "layers"
        self._ingests = root / "ingest"

    def get(self, digest: str) -> bytes | None:
        with suppress(FileNotFoundError):
            return self._path(digest).read_bytes()
        return None

    def put(self, digest: str, data: bytes) -> None:
        path = self._path(digest)
        changed = [path.parent]
        for directory in (self._directory, path.parent):
            with suppress(FileExistsError):
                directory.mkdir(mode=0o700)
                changed.append(directory.parent)
        new = self._ingests / os.urandom(16).hex()
        try:
            with new.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            new.rename(path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        run_all(sync_directory, changed)

    def delete(self, digest: str) -> None:
        self._path(digest).unlink(missing_ok=True)

    def files(self) -> Iterator[StoredTable]:
        """Yield all files, sorted by path."""
        for path in sorted(self._directory.glob("*/*")):
            with suppress(FileNotFoundError):
                yield StoredTable(path, _digest(path), path.lstat().st_size)

    def _path(self, digest: str) -> Path:
        name = parse(digest)
        return Path(f"{self._directory}/{name.algorithm}/{name.encoded}")


def _digest(path: Path) -> Digest | None:
    with suppress(InvalidDigest):
        return parse(f"{path.parent.name}:{path.name}") if path.parent.name in ALGORITHMS else None
    return None

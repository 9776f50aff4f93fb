"""The image store as rows of the database: names, and what is recorded below each target.

`ImageStore` decides what a change does; this module stores it, and answers from indexes what is
asked often. A change waits, after its transaction, until no kernel answers with the old names.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from engine.errors import InvalidDocument, NotFound
from engine.image import Image, ManifestSummary, Summary, Target, TreeEntry, decode
from engine.spec.descriptor import Descriptor
from engine.stores.images import ImageStore
from engine.stores.local.connection import damaged
from engine.stores.local.database import Database
from engine.stores.local.events import LocalEvents
from engine.stores.local.name_lock import LocalNameLock

_COLUMNS = "name, target, labels, created_at, updated_at"
_TYPES = (str, str, str, float, float)
_TARGET = (str, int, int)
_MANIFEST = (str, str, str, int)
_ENTRY = "path, name, target, revision, created"


class LocalImages(ImageStore):
    """The images of one store."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        super().__init__(LocalEvents(database), clock)
        self._database = database
        self._read = database.read
        self._lock = LocalNameLock(database.path.parent)

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        with self._database.transaction() as connection:
            self._database.after_transaction(self._lock.wait)
            yield connection

    def put(self, image: Image) -> Image:
        with self._transaction():
            self._database.check_room()
            return super().put(image)

    # Names

    def find(self, name: str) -> Image | None:
        rows = self._read(f"SELECT {_COLUMNS} FROM images WHERE name = ?", (name,))
        return next(iter(self._images(rows)), None)

    def all(self, repository: str = "") -> list[Image]:
        where = ""
        spans: tuple[str, ...] = ()
        if repository:
            where = "WHERE (name > ? AND name < ?) OR (name > ? AND name < ?)"
            spans = (*_span(f"{repository}:"), *_span(f"{repository}@"))
        rows = self._read(f"SELECT {_COLUMNS} FROM images {where} ORDER BY name", spans)
        return self._images(rows)

    def names_of(self, target: str) -> list[Image]:
        query = f"SELECT {_COLUMNS} FROM images WHERE digest = ? ORDER BY name"
        return self._images(self._read(query, (target,)))

    def is_named(self, target: str) -> bool:
        return bool(self._read("SELECT 1 FROM images WHERE digest = ? LIMIT 1", (target,)))

    def artifacts(self) -> list[Image]:
        query = (
            f"SELECT {_COLUMNS} FROM images WHERE digest IN"
            " (SELECT target FROM manifests WHERE config = '') ORDER BY name"
        )
        return self._images(self._read(query))

    def count(self) -> int:
        return int(self._read("SELECT count(*) FROM images")[0][0])

    def _ids(self, start: str) -> set[tuple[str, str]]:
        rows = self._read(
            "SELECT target, config FROM manifests WHERE config >= ? AND config < ?"
            " AND EXISTS (SELECT 1 FROM images WHERE images.digest = manifests.target)"
            " UNION SELECT digest, digest FROM images WHERE digest >= ? AND digest < ?",
            (start, f"{start}g") * 2,
        )
        return set(rows)

    def _write(self, image: Image) -> None:
        known = self.target(image.target.digest)
        with self._transaction() as connection:
            registry, slash, _ = image.name.partition("/")
            if slash and ":" in registry:  # an image called like a registry makes way for it
                connection.execute("UPDATE images SET path = name WHERE path = ?", (registry,))
            connection.execute(
                f"INSERT INTO images ({_COLUMNS}, path, digest, revision, created)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET path = excluded.path, target = excluded.target,"
                " labels = excluded.labels, created_at = excluded.created_at,"
                " updated_at = excluded.updated_at, digest = excluded.digest,"
                " revision = excluded.revision, created = excluded.created",
                (
                    image.name,
                    _encode(image.target),
                    _encode(dict(image.labels)),
                    image.created_at,
                    image.updated_at,
                    self._path(image.name),
                    image.target.digest,
                    known.revision,
                    known.created,
                ),
            )

    def rewrite(self, image: Image) -> None:
        """Write the row of an image whose target is recorded, whatever the row was before."""
        self._write(image)

    def _erase(self, name: str) -> None:
        with self._transaction() as connection:
            connection.execute("DELETE FROM images WHERE name = ?", (name,))

    def _images(self, rows: Sequence[tuple[Any, ...]]) -> list[Image]:
        """Return rows as values; raise StoreDamaged."""
        try:
            return [_image(row) for row in rows]
        except (TypeError, InvalidDocument) as error:
            raise damaged(self._database.path, f"the row of an image ({error})") from error

    # Images as a tree of directories

    def places(self, prefix: str = "") -> Iterator[TreeEntry]:
        where, span = ("WHERE path >= ? AND path < ?", _span(prefix)) if prefix else ("", ())
        for row in self._read(f"SELECT {_ENTRY} FROM images {where} ORDER BY path", span):
            yield TreeEntry(*row)

    def place_at(self, path: str) -> TreeEntry | None:
        rows = self._read(f"SELECT {_ENTRY} FROM images WHERE path = ?", (path,))
        return TreeEntry(*rows[0]) if rows else None

    def has_paths(self, prefix: str) -> bool:
        query = "SELECT 1 FROM images WHERE path >= ? AND path < ? LIMIT 1"
        return bool(self._read(query, _span(prefix)))

    def newest(self, prefix: str) -> int:
        query = "SELECT max(created) FROM images WHERE path >= ? AND path < ?"
        return int(self._read(query, _span(prefix))[0][0] or 0)

    # Targets

    def record(self, target: str, summary: Summary) -> None:
        with self._transaction() as connection:
            self._erase_record(target)
            connection.execute(
                "INSERT INTO targets VALUES (?, ?, ?)", (target, summary.revision, summary.created)
            )
            connection.executemany(
                "INSERT INTO members VALUES (?, ?)", ((target, blob) for blob in summary.blobs)
            )
            connection.executemany(
                "INSERT INTO manifests VALUES (?, ?, ?, ?, ?, ?)",
                (
                    (target, i, m.digest, m.config, m.platform, m.size)
                    for i, m in enumerate(summary.manifests)
                ),
            )
            connection.executemany(
                "INSERT INTO missing VALUES (?, ?)", ((blob, target) for blob in summary.missing)
            )

    def _erase_record(self, target: str) -> None:
        with self._transaction() as connection:
            connection.execute("DELETE FROM targets WHERE digest = ?", (target,))
            for table in ("members", "manifests", "missing"):
                connection.execute(f"DELETE FROM {table} WHERE target = ?", (target,))

    def target(self, digest: str) -> Target:
        rows = self._read(
            "SELECT digest, revision, created FROM targets WHERE digest = ?", (digest,)
        )
        if not rows:
            raise NotFound("image", digest)
        if tuple(map(type, rows[0])) != _TARGET:
            raise damaged(self._database.path, f"the record of image {digest}")
        return Target(*rows[0])

    def summary(self, target: str) -> Summary:
        created, manifests = self.target(target).created, self.manifests(target)
        return Summary(
            created, self._digests("members", target), manifests, self._digests("missing", target)
        )

    def _digests(self, table: str, target: str) -> tuple[str, ...]:
        query = f"SELECT digest FROM {table} WHERE target = ? ORDER BY digest"
        return tuple(digest for (digest,) in self._read(query, (target,)))

    def manifests(self, target: str) -> tuple[ManifestSummary, ...]:
        rows = self._read(
            "SELECT digest, config, platform, size FROM manifests"
            " WHERE target = ? ORDER BY position",
            (target,),
        )
        for row in rows:
            if tuple(map(type, row)) != _MANIFEST:
                raise damaged(self._database.path, f"the record of image {target}")
        return tuple(ManifestSummary(*row) for row in rows)

    def lacking(self, blobs: Iterable[str]) -> list[Descriptor]:
        query = "SELECT DISTINCT target FROM missing WHERE digest = ?"
        targets = {target for blob in blobs for (target,) in self._read(query, (blob,))}
        return [named[0].target for t in sorted(targets) if (named := self.names_of(t))]

    def links(self, blobs: Iterable[str]) -> dict[str, int]:
        query = "SELECT count FROM links WHERE digest = ?"
        return {blob: sum(n for (n,) in self._read(query, (blob,))) for blob in blobs}


def _span(prefix: str) -> tuple[str, str]:
    return prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1)


def _image(row: tuple[Any, ...]) -> Image:
    if tuple(map(type, row)) != _TYPES:
        raise TypeError(f"{row[0]!r}: a value is of another type")
    name, target, labels, created_at, updated_at = row
    descriptor = decode(target, Descriptor, name)
    return Image(name, descriptor, decode(labels, dict[str, str], name), created_at, updated_at)


def _encode(value: object) -> str:
    from engine.spec import go_json  # deferred, since readers do not need it

    return go_json.dumps(value).decode()

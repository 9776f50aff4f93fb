"""The image store: names and their descriptors, as rows of the database.

A name is a full reference ("docker.io/library/alpine:3"), or the digest of the target for an image
without a name. The content below a target (its blobs, image manifests and time) is recorded once
for each target as a `Summary`, so that listing, finding by ID and counting links read no blob.
Every method may be called from any thread, and is one transaction or part of the caller's.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from engine.errors import AlreadyExists, Ambiguous, NotFound
from engine.image import (
    Image,
    ManifestSummary,
    Summary,
    Target,
    TreeEntry,
    _decode,
    check_name,
    path_of,
)
from engine.spec.descriptor import Descriptor
from engine.stores.local.database import Database
from engine.stores.local.events import LocalEvents
from engine.stores.local.name_lock import NameLock

_COLUMNS = "name, path, target, labels, created_at, updated_at"


class LocalImages:
    """The images of one store."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self._events = LocalEvents(database)
        self._lock = NameLock(database.path.parent)

    def create(self, image: Image) -> Image:
        """Add an image whose target is recorded; raise AlreadyExists if the name is taken."""
        with self._changing() as connection:
            if self.find(image.name) is not None:
                raise AlreadyExists("image", image.name)
            now = self._clock()
            stored = Image(image.name, image.target, image.labels, now, now)
            self._insert(stored)
            self._drop_untagged(connection, stored)
            self._tell("tag", stored)
        return stored

    def update(self, image: Image) -> Image:
        """Set the target of a name; the old target stays, untagged if that was its last name."""
        with self._changing() as connection:
            old = self.get(image.name)
            stored = Image(image.name, image.target, image.labels, old.created_at, self._clock())
            self._insert(stored)
            if old.target.digest != stored.target.digest:
                self._keep_untagged(old)
                self._tell("tag", stored)
            self._drop_untagged(connection, stored)
        return stored

    def put(self, image: Image) -> Image:
        """Create the image, or update it if the name is taken."""
        with self._changing():
            exists = self.find(image.name) is not None
            return self.update(image) if exists else self.create(image)

    def delete(self, name: str) -> Image:
        """Remove a name, and with the last name of a target its records; raise NotFound."""
        with self._changing() as connection:
            image = self.get(name)
            connection.execute("DELETE FROM images WHERE name = ?", (name,))
            self._forget_target(connection, image.target.digest)
            self._tell("untag", image)
            if not self.is_named(image.target.digest):
                self._events.add("delete", image.target.digest)
        return image

    def untag(self, name: str) -> Image:
        """Remove a name; the image stays, untagged if that was its last name. Raise NotFound."""
        with self._changing() as connection:
            image = self.get(name)
            connection.execute("DELETE FROM images WHERE name = ?", (name,))
            if not image.is_untagged:
                self._keep_untagged(image)
            self._forget_target(connection, image.target.digest)
            self._tell("untag", image)
        return image

    def _tell(self, action: str, image: Image) -> None:
        if not image.is_untagged:
            self._events.add(action, image.target.digest, image.name)

    def get(self, name: str) -> Image:
        """Return the image with that full name; raise NotFound."""
        image = self.find(name)
        if image is None:
            raise NotFound("image", name)
        return image

    def find(self, name: str) -> Image | None:
        """Return the image with that full name, or None."""
        rows = self._read(f"SELECT {_COLUMNS} FROM images WHERE name = ?", (name,))
        return _image(rows[0]) if rows else None

    def all(self, repository: str = "") -> list[Image]:
        """Return all images, or those of one repository (a full name without a tag), sorted by
        name.
        """
        if not repository:
            rows = self._read(f"SELECT {_COLUMNS} FROM images ORDER BY name")
        else:
            rows = self._read(
                f"SELECT {_COLUMNS} FROM images"
                " WHERE (name > ? AND name < ?) OR (name > ? AND name < ?) ORDER BY name",
                (f"{repository}:", f"{repository};", f"{repository}@", f"{repository}A"),
            )
        return [_image(row) for row in rows]

    def names_of(self, target: str) -> list[Image]:
        """Return the images with a target, sorted by name."""
        rows = self._read(
            f"SELECT {_COLUMNS} FROM images WHERE digest = ? ORDER BY name", (target,)
        )
        return [_image(row) for row in rows]

    def by_id(self, prefix: str) -> list[Image]:
        """Return the images whose ID (the digest of a config or of the target) begins with
        `prefix`.

        `prefix` is "sha256:<hex…>" or at least one hex digit. The result holds all names of one
        image, sorted. Raise NotFound if there is none, Ambiguous if several targets match that are
        not one image.
        """
        algorithm, _, encoded = prefix.rpartition(":")
        if not encoded or not set(encoded) <= set("0123456789abcdef"):
            raise NotFound("image", prefix)
        low = f"{algorithm or 'sha256'}:{encoded}"
        span = (low, f"{low}g")
        rows = self._read(
            "SELECT target, config FROM manifests WHERE config >= ? AND config < ?"
            " UNION SELECT digest, digest FROM images WHERE digest >= ? AND digest < ? ORDER BY 1",
            span + span,
        )
        if not rows:
            raise NotFound("image", prefix)
        ids = {config for _, config in rows}
        targets = sorted({target for target, _ in rows})
        if len(ids) > 1 and len(targets) > 1:
            raise Ambiguous(prefix, tuple(sorted(ids)))
        return [image for target in targets for image in self.names_of(target)]

    def is_named(self, target: str) -> bool:
        """Return whether any name has a target."""
        return bool(self._read("SELECT 1 FROM images WHERE digest = ? LIMIT 1", (target,)))

    # -- as a directory tree --------------------------------------------------------------------

    def at(self, path: str) -> Image | None:
        """Return the image at a path of the tree, or None."""
        rows = self._read(f"SELECT {_COLUMNS} FROM images WHERE path = ?", (path,))
        return _image(rows[0]) if rows else None

    def has_paths(self, prefix: str) -> bool:
        """Return whether any path begins with `prefix` (which ends in "/" or ":")."""
        return bool(
            self._read("SELECT 1 FROM images WHERE path >= ? AND path < ? LIMIT 1", _span(prefix))
        )

    def newest(self, prefix: str) -> int:
        """Return the creation time of the newest image whose path begins with `prefix`.

        It is in seconds since the epoch; 0 if there is no such image.
        """
        query = "SELECT max(created) FROM images WHERE path >= ? AND path < ?"
        return int(self._read(query, _span(prefix))[0][0] or 0)

    def places(self, prefix: str = "") -> Iterator[TreeEntry]:
        """Yield the images whose paths begin with `prefix`, sorted by path."""
        where, arguments = ("WHERE path >= ? AND path < ?", _span(prefix)) if prefix else ("", ())
        for row in self._read(
            f"SELECT path, name, target, revision, created FROM images {where} ORDER BY path",
            arguments,
        ):
            yield TreeEntry(*row)

    def place_at(self, path: str) -> TreeEntry | None:
        """Return the image at a path, as `places` yields it, or None."""
        rows = self._read(
            "SELECT path, name, target, revision, created FROM images WHERE path = ?", (path,)
        )
        return TreeEntry(*rows[0]) if rows else None

    def place(self, image: Image, path: str) -> TreeEntry:
        """Return an image at a path other than its own, for example its digest; raise NotFound."""
        known = self.target(image.target.digest)
        target = _encode(image.target)
        return TreeEntry(path, image.name, target, known.revision, known.created)

    # -- targets --------------------------------------------------------------------------------

    def record(self, target: str, summary: Summary) -> None:
        """Record the content below a target, replacing earlier records."""
        with self._changing() as connection:
            self._clear(connection, target)
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

    def forget(self, target: str) -> None:
        """Delete the records of a target that no image has; do nothing if an image has it."""
        with self._changing() as connection:
            self._forget_target(connection, target)

    def lacking(self, blobs: Iterable[str]) -> list[Descriptor]:
        """Return the targets that were recorded with one of these blobs missing."""
        query = "SELECT DISTINCT target FROM missing WHERE digest = ?"
        targets = {target for blob in blobs for (target,) in self._read(query, (blob,))}
        return [self.names_of(target)[0].target for target in sorted(targets)]

    def target(self, digest: str) -> Target:
        """Return the record of a target; raise NotFound."""
        rows = self._read(
            "SELECT digest, revision, created FROM targets WHERE digest = ?", (digest,)
        )
        if not rows:
            raise NotFound("image", digest)
        return Target(*rows[0])

    def summary(self, target: str) -> Summary:
        """Return the summary of a target, its blobs sorted; raise NotFound."""
        return Summary(
            self.target(target).created,
            tuple(
                d
                for (d,) in self._read(
                    "SELECT digest FROM members WHERE target = ? ORDER BY digest", (target,)
                )
            ),
            self.manifests(target),
            tuple(
                d
                for (d,) in self._read(
                    "SELECT digest FROM missing WHERE target = ? ORDER BY digest", (target,)
                )
            ),
        )

    def manifests(self, target: str) -> tuple[ManifestSummary, ...]:
        """Return the complete image manifests below a target, in their order."""
        rows = self._read(
            "SELECT digest, config, platform, size FROM manifests"
            " WHERE target = ? ORDER BY position",
            (target,),
        )
        return tuple(ManifestSummary(*row) for row in rows)

    def links(self, blobs: Iterable[str]) -> dict[str, int]:
        """Return the number of images (each name counts) that have each of these blobs."""
        query = "SELECT count FROM links WHERE digest = ?"
        return {blob: sum(n for (n,) in self._read(query, (blob,))) for blob in blobs}

    def count(self) -> int:
        """Return the number of images."""
        return int(self._read("SELECT count(*) FROM images")[0][0])

    # -- helpers --------------------------------------------------------------------------------

    @contextmanager
    def _changing(self) -> Iterator[Any]:
        """Enter a transaction; after it, wait until no kernel answers with the old names."""
        with self._database.transaction() as connection:
            self._database.after_transaction(self._lock.wait)
            yield connection

    def _read(self, query: str, arguments: tuple[Any, ...] = ()) -> list[Any]:
        return self._database.read(query, arguments)

    def _insert(self, image: Image) -> None:
        known = self.target(image.target.digest)
        check_name(image.name, image.target.digest)
        with self._changing() as connection:
            path = self._settle(connection, image.name)
            connection.execute(
                f"INSERT INTO images ({_COLUMNS}, digest, revision, created)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET path = excluded.path, target = excluded.target,"
                " labels = excluded.labels, created_at = excluded.created_at,"
                " updated_at = excluded.updated_at, digest = excluded.digest,"
                " revision = excluded.revision, created = excluded.created",
                (
                    image.name,
                    path,
                    _encode(image.target),
                    _encode(dict(image.labels)),
                    image.created_at,
                    image.updated_at,
                    image.target.digest,
                    known.revision,
                    known.created,
                ),
            )

    def _settle(self, connection: Any, name: str) -> str:
        """Return the path for an image.

        If an image has the path of a registry with a port, such as reg:5000, it is moved to give
        way to the images of that registry.
        """
        path = path_of(name)
        registry, slash, _ = name.partition("/")
        if slash and ":" in registry:
            connection.execute("UPDATE images SET path = name WHERE path = ?", (registry,))
        return name if "/" not in path and self.has_paths(f"{path}/") else path

    def _keep_untagged(self, old: Image) -> None:
        if not self.is_named(old.target.digest):
            self._insert(
                Image(old.target.digest, old.target, old.labels, old.created_at, self._clock())
            )

    def _drop_untagged(self, connection: Any, named: Image) -> None:
        if not named.is_untagged:
            connection.execute("DELETE FROM images WHERE name = ?", (named.target.digest,))

    def _forget_target(self, connection: Any, target: str) -> None:
        if not self.is_named(target):
            self._clear(connection, target)

    def _clear(self, connection: Any, target: str) -> None:
        connection.execute("DELETE FROM targets WHERE digest = ?", (target,))
        connection.execute("DELETE FROM members WHERE target = ?", (target,))
        connection.execute("DELETE FROM manifests WHERE target = ?", (target,))
        connection.execute("DELETE FROM missing WHERE target = ?", (target,))


def _span(prefix: str) -> tuple[str, str]:
    return prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1)


def _image(row: tuple[Any, ...]) -> Image:
    name, _, target, labels, created_at, updated_at = row
    return Image(
        name,
        _decode(target, Descriptor, name),
        _decode(labels, dict[str, str], name),
        created_at,
        updated_at,
    )


def _encode(value: object) -> str:
    from engine.spec import go_json  # deferred, since readers do not need it

    return go_json.dumps(value).decode()

"""The tables of the store's database, as the migrations that create them.

Times are seconds since the epoch, sizes are bytes, labels and descriptors are JSON. The modules
that own the tables:

    blobs                       content.py      a row makes a blob visible
    refs                        gc.py           references in labels of blobs; kept by triggers
    leases, lease_resources     leases.py
    images                      images.py       a row makes an image visible
    targets, members, manifests images.py       the stored content below an image's target
    missing                     images.py       the absent content below it
    links                       images.py       the number of images of a blob; kept by triggers
    events                      events.py       the events

The row of an image repeats the revision and the time of its target, so that listing reads one
table.
"""

from __future__ import annotations

from typing import Final

TABLES: Final = (
    *("blobs", "refs", "leases", "lease_resources", "images"),
    *("targets", "members", "manifests", "missing", "links", "events"),
)
REFS: Final = """
    SELECT label.value AS child, blob.digest AS parent
    FROM {blobs} AS blob, json_each(blob.labels) AS label
    WHERE label.key = 'containerd.io/gc.ref.content'
       OR label.key GLOB 'containerd.io/gc.ref.content[./]*'"""
"""The query for the references in the labels of `blobs`, as rows of `refs`."""
_NEW: Final = "(SELECT NEW.digest AS digest, NEW.labels AS labels)"
_INSERT_REFS: Final = f"INSERT OR IGNORE INTO refs {REFS}"

_CHANGES_KEPT: Final = 10_000
LINKS: Final = """
    SELECT members.digest AS digest, count(*) AS count
    FROM members JOIN images ON images.digest = members.target GROUP BY members.digest"""
"""The query for `links`, computed from `members` and `images`."""


def _added(row: str) -> str:
    """Return the statement that adds one link to the blobs of an image."""
    return f"""
        INSERT INTO links SELECT digest, 1 FROM members WHERE target = {row}.digest
            ON CONFLICT (digest) DO UPDATE SET count = count + 1"""


def _taken(row: str) -> str:
    members = f"digest IN (SELECT digest FROM members WHERE target = {row}.digest)"
    return f"""
        UPDATE links SET count = count - 1 WHERE {members};
        DELETE FROM links WHERE count <= 0 AND {members}"""


MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """CREATE TABLE blobs (
            digest TEXT PRIMARY KEY,
            size INTEGER NOT NULL,
            created_at REAL NOT NULL,
            updated_at REAL NOT NULL,
            labels TEXT NOT NULL DEFAULT '{}'
        ) WITHOUT ROWID""",
        """CREATE TABLE leases (
            id TEXT PRIMARY KEY NOT NULL,
            created_at REAL NOT NULL,
            expires_at REAL,
            labels TEXT NOT NULL DEFAULT '{}'
        )""",
        """CREATE TABLE lease_resources (
            lease TEXT NOT NULL REFERENCES leases (id) ON DELETE CASCADE,
            digest TEXT NOT NULL,
            PRIMARY KEY (lease, digest)
        ) WITHOUT ROWID""",
        "CREATE INDEX lease_resources_digest ON lease_resources (digest)",
        """CREATE TABLE images (
            name TEXT PRIMARY KEY NOT NULL,
            path TEXT NOT NULL,
            target TEXT NOT NULL,
            digest TEXT NOT NULL,
            labels TEXT NOT NULL DEFAULT '{}',
            created_at REAL NOT NULL,
            updated_at REAL NOT NULL
        )""",
        "CREATE INDEX images_path ON images (path)",
        "CREATE INDEX images_digest ON images (digest)",
        """CREATE TABLE targets (
            digest TEXT PRIMARY KEY,
            revision INTEGER NOT NULL,
            created INTEGER NOT NULL
        ) WITHOUT ROWID""",
        """CREATE TABLE members (
            target TEXT NOT NULL,
            digest TEXT NOT NULL,
            PRIMARY KEY (target, digest)
        ) WITHOUT ROWID""",
        "CREATE INDEX members_digest ON members (digest, target)",
        """CREATE TABLE manifests (
            target TEXT NOT NULL,
            position INTEGER NOT NULL,
            digest TEXT NOT NULL,
            config TEXT,
            platform TEXT,
            size INTEGER,
            PRIMARY KEY (target, position)
        ) WITHOUT ROWID""",
        "CREATE INDEX manifests_config ON manifests (config)",
        """CREATE TABLE missing (
            digest TEXT NOT NULL,
            target TEXT NOT NULL,
            PRIMARY KEY (digest, target)
        ) WITHOUT ROWID""",
        "CREATE INDEX missing_target ON missing (target)",
    ),
    (
        """CREATE TABLE events (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            time_ns INTEGER NOT NULL,
            action TEXT NOT NULL,
            target TEXT NOT NULL,
            name TEXT NOT NULL
        )""",
    ),
    (
        """CREATE TABLE refs (
            child TEXT NOT NULL,
            parent TEXT NOT NULL,
            PRIMARY KEY (child, parent)
        ) WITHOUT ROWID""",
        "CREATE INDEX refs_parent ON refs (parent, child)",
        _INSERT_REFS.format(blobs="blobs"),
        f"""CREATE TRIGGER blobs_insert AFTER INSERT ON blobs BEGIN
            {_INSERT_REFS.format(blobs=_NEW)};
        END""",
        f"""CREATE TRIGGER blobs_update AFTER UPDATE OF labels ON blobs BEGIN
            DELETE FROM refs WHERE parent = NEW.digest;
            {_INSERT_REFS.format(blobs=_NEW)};
        END""",
        """CREATE TRIGGER blobs_delete AFTER DELETE ON blobs BEGIN
            DELETE FROM refs WHERE parent = OLD.digest;
        END""",
        "ALTER TABLE leases ADD COLUMN held INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE events ADD COLUMN reclaimed INTEGER",
    ),
    (
        "ALTER TABLE images ADD COLUMN revision INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE images ADD COLUMN created INTEGER NOT NULL DEFAULT 0",
        """UPDATE images SET revision = targets.revision, created = targets.created
            FROM targets WHERE targets.digest = images.digest""",
        """CREATE TRIGGER targets_insert AFTER INSERT ON targets BEGIN
            UPDATE images SET revision = NEW.revision, created = NEW.created
            WHERE digest = NEW.digest AND (revision, created) != (NEW.revision, NEW.created);
        END""",
        """CREATE TABLE links (
            digest TEXT PRIMARY KEY,
            count INTEGER NOT NULL
        ) WITHOUT ROWID""",
        f"INSERT INTO links {LINKS}",
        """CREATE TABLE changes (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            path TEXT NOT NULL
        )""",
        f"""CREATE TRIGGER images_insert AFTER INSERT ON images BEGIN
            {_added("NEW")};
            INSERT INTO changes (path) VALUES (NEW.path);
        END""",
        f"""CREATE TRIGGER images_delete AFTER DELETE ON images BEGIN
            {_taken("OLD")};
            INSERT INTO changes (path) VALUES (OLD.path);
        END""",
        f"""CREATE TRIGGER images_target AFTER UPDATE OF digest ON images
        WHEN OLD.digest != NEW.digest BEGIN
            {_taken("OLD")};
            {_added("NEW")};
        END""",
        """CREATE TRIGGER images_shown AFTER UPDATE OF path, target, revision, created ON images
        BEGIN
            INSERT INTO changes (path) SELECT OLD.path UNION SELECT NEW.path;
        END""",
        """CREATE TRIGGER members_insert AFTER INSERT ON members BEGIN
            INSERT INTO links
                SELECT NEW.digest, count(*) FROM images WHERE digest = NEW.target HAVING count(*)
                ON CONFLICT (digest) DO UPDATE SET count = count + excluded.count;
        END""",
        """CREATE TRIGGER members_delete AFTER DELETE ON members BEGIN
            UPDATE links
                SET count = count - (SELECT count(*) FROM images WHERE digest = OLD.target)
                WHERE digest = OLD.digest;
            DELETE FROM links WHERE digest = OLD.digest AND count <= 0;
        END""",
        f"""CREATE TRIGGER changes_insert AFTER INSERT ON changes BEGIN
            DELETE FROM changes WHERE number <= NEW.number - {_CHANGES_KEPT};
        END""",
    ),
    (
        "DROP TRIGGER images_shown",
        "DROP TRIGGER images_insert",
        f"CREATE TRIGGER images_insert AFTER INSERT ON images BEGIN {_added('NEW')}; END",
        "DROP TRIGGER images_delete",
        f"CREATE TRIGGER images_delete AFTER DELETE ON images BEGIN {_taken('OLD')}; END",
        "DROP TABLE changes",
    ),
    ("ALTER TABLE events ADD COLUMN error TEXT",),
    (
        """UPDATE images SET path = name WHERE path LIKE 'layers:%' OR path LIKE 'layers/%'
            OR path LIKE 'rootfs:%' OR path LIKE 'rootfs/%'""",
    ),
    (
        """UPDATE images SET path = name
            WHERE path LIKE 'additional-layers:%' OR path LIKE 'additional-layers/%'""",
    ),
)
"""The statements at index N migrate schema N to N + 1. Released statements never change."""

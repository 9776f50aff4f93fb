"""The tables of the store's database, as the migrations that make them.

Times are seconds since the epoch, sizes are bytes, labels and descriptors are JSON. Which module
owns what:

    blobs                       content/local.py    a row makes a blob visible
    refs                        gc.py               which blob's labels hold which; kept by triggers
    leases, lease_resources     leases.py
    images                      images.py           a row makes an image visible
    targets, members, manifests images.py           what the store holds below an image's target
    missing                     images.py           what it lacks there
    events                      events.py           what happened
"""

from __future__ import annotations

from typing import Final

REFS: Final = """
    SELECT label.value AS child, blob.digest AS parent
    FROM {blobs} AS blob, json_each(blob.labels) AS label
    WHERE label.key = 'containerd.io/gc.ref.content'
       OR label.key GLOB 'containerd.io/gc.ref.content[./]*'"""
"""What the labels of `blobs` hold, as the rows of `refs`."""
_NEW: Final = "(SELECT NEW.digest AS digest, NEW.labels AS labels)"
_INSERT_REFS: Final = f"INSERT OR IGNORE INTO refs {REFS}"

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
)
"""At index N the statements that lead from schema N to N + 1. What is released never changes."""

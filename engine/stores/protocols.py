"""A store as everything above it sees it: content, images, leases, events, and a transaction.

The names are containerd's (`core/content`, `core/images`, `core/leases`, `core/events`). Loading,
committing, saving and the mounted tree know these protocols and no kind of store. The suites of
`engine.testing` prove that a store keeps what they promise; `engine.stores.open` makes a store from
a path.

Every method may be called from any thread. A change is one transaction, or a part of the caller's
`Store.transaction()`: all of it is done, or nothing.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, Self

from engine.content.protocols import (
    NO_LABELS,
    Committed,
    Info,
    Ingester,
    IngestManager,
    Manager,
    Provider,
    Writer,
)
from engine.content.tables import TableStore
from engine.image import Image, ManifestSummary, Summary, Target, TreeEntry
from engine.spec.descriptor import Descriptor
from engine.stores.records import Event, Garbage, Lease


class ContentStore(Provider, Ingester, Manager, IngestManager, Protocol):
    """All of a content store: blobs by their digests."""

    def exists(self, digest: str) -> bool:
        """Return whether the blob can be opened now."""

    def sizes(self, digests: Iterable[str]) -> Mapping[str, int]:
        """Return the sizes in bytes of those blobs that are stored."""

    def labelled(self, key: str, value: str) -> list[Info]:
        """Return the blobs that have a label of that value, in order of their digests."""

    def unnamed_writer(
        self, size: int = 0, expected: str | None = None, algorithm: str = "sha256"
    ) -> Writer:
        """Start an ingest without a ref: it ends with its writer, and nobody resumes it."""

    def prepare(self, writers: Iterable[Writer]) -> None:
        """Verify ingests and make them durable: the slow part of `publish`, which needs no lock.

        Call it before a transaction in which `publish` is called. Raise SizeMismatch or
        DigestMismatch.
        """

    def publish(self, writers: Sequence[tuple[Writer, Mapping[str, str]]]) -> list[Committed]:
        """Commit several ingests, each with its labels; return what became of each.

        New blobs go again if the transaction is rolled back. The ingests are used up in any case.
        Raise SizeMismatch or DigestMismatch.
        """


class ImageStore(Protocol):
    """Names and the descriptors that they point at, with what is known to be below each target.

    A name is a full reference with a tag or digest, or the target's own digest for an image that
    has no name. What is below a target is recorded once, as a `Summary`, so that listing reads no
    blob. The methods that take or return paths show the same images as a tree of directories.
    """

    def create(self, image: Image) -> Image:
        """Add an image whose target is recorded; raise AlreadyExists if the name is taken."""

    def update(self, image: Image) -> Image:
        """Point a name at another target; the old one stays, untagged if that was its last name."""

    def put(self, image: Image) -> Image:
        """Create the image, or update it where the name is taken."""

    def delete(self, name: str) -> Image:
        """Remove a name, and with the last name of a target the target; raise NotFound."""

    def untag(self, name: str) -> Image:
        """Remove a name; the image stays, untagged if that was its last. Raise NotFound."""

    def get(self, name: str) -> Image:
        """Return the image of that full name; raise NotFound."""

    def find(self, name: str) -> Image | None:
        """Return the image of that full name, if there is one."""

    def all(self, repository: str = "") -> list[Image]:
        """Return every image, or those of one repository (a full name), sorted by name."""

    def names_of(self, target: str) -> list[Image]:
        """Return the images that point at a target, sorted by name."""

    def by_id(self, prefix: str) -> list[Image]:
        """Return the images whose ID, a digest of a config or of a target, begins with `prefix`.

        `prefix` is "sha256:<hex…>" or at least one hex digit. Raise NotFound if there is none, and
        Ambiguous if it fits several targets that are not one image.
        """

    def is_named(self, target: str) -> bool:
        """Return whether any name points at a target."""

    def count(self) -> int:
        """Return how many images there are."""

    def at(self, path: str) -> Image | None:
        """Return the image at a path of the tree of directories."""

    def has_paths(self, prefix: str) -> bool:
        """Return whether any path begins with `prefix`, which ends in "/" or ":"."""

    def places(self, prefix: str = "") -> Iterator[TreeEntry]:
        """Yield every image whose path begins with `prefix`, sorted by path."""

    def place_at(self, path: str) -> TreeEntry | None:
        """Return the image at a path as `places` yields it."""

    def place(self, image: Image, path: str) -> TreeEntry:
        """Return an image at a path that is not its own; raise NotFound."""

    def newest(self, prefix: str) -> int:
        """Return when the newest image whose path begins with `prefix` was created, in seconds
        since the epoch; 0 if there is none.
        """

    def record(self, target: str, summary: Summary) -> None:
        """Keep what is below a target, in the place of what was kept before."""

    def forget(self, target: str) -> None:
        """Drop what is recorded of a target, unless an image points at it."""

    def lacking(self, blobs: Iterable[str]) -> list[Descriptor]:
        """Return the targets below which one of these blobs was missing when it was recorded."""

    def target(self, digest: str) -> Target:
        """Return what is known of a target; raise NotFound."""

    def summary(self, target: str) -> Summary:
        """Return what is below a target; raise NotFound."""

    def manifests(self, target: str) -> tuple[ManifestSummary, ...]:
        """Return the complete manifests below a target, in their order."""

    def links(self, blobs: Iterable[str]) -> dict[str, int]:
        """Return in how many images (names count) each of these blobs is."""


class LeaseManager(Protocol):
    """Leases: what must not be collected although no image refers to it."""

    def hold(self, labels: Mapping[str, str] = NO_LABELS) -> AbstractContextManager[Lease]:
        """Return a lease for as long as the block runs and this process lives."""

    def add(self, lease_id: str, digest: str) -> None:
        """Protect a digest, stored or not, by a lease. Raise NotFound if the lease is gone."""


class EventLog(Protocol):
    """The events of images, in the order of the changes."""

    def add(self, action: str, target: str, name: str = "", reclaimed: int | None = None) -> None:
        """Record a change, as a part of its transaction."""

    def add_failure(self, name: str, error: str) -> None:
        """Record that a file could not be loaded, and why."""

    def after(self, number: int = 0) -> list[Event]:
        """Return the events behind the one of that number."""

    def last(self) -> int:
        """Return the number of the last event, 0 if there was none."""


class NameLock(Protocol):
    """The lock that a change of names waits for while a kernel may keep the old ones."""

    def hold(self) -> bool:
        """Take the lock, shared with other holders; return False if names may not be kept."""

    def release(self) -> None:
        """Release the lock, if it is held."""


class Store(Protocol):
    """One store, open."""

    @property
    def location(self) -> str:
        """The path or URL that the store was opened by."""

    @property
    def directory(self) -> Path:
        """A directory on the disk that blobs take space on, for temporary files and `statfs`."""

    @property
    def supports_collection(self) -> bool:
        """Whether `garbage` and `collect` can be called."""

    @property
    def content(self) -> ContentStore: ...

    @property
    def tables(self) -> TableStore:
        """The tables of the layers in `content`, which are removed with them."""

    @property
    def images(self) -> ImageStore: ...

    @property
    def leases(self) -> LeaseManager: ...

    @property
    def events(self) -> EventLog: ...

    @property
    def name_lock(self) -> NameLock: ...

    def transaction(self) -> AbstractContextManager[object]:
        """Return a block whose changes happen together when it ends, or not at all if it raises."""

    def version(self) -> int:
        """Return a number that is another one once anything in the store has changed."""

    def garbage(self) -> Iterator[Garbage]:
        """Yield what `collect` would remove."""

    def collect(self) -> Iterator[Garbage]:
        """Remove what nothing needs, and yield it as it goes."""

    def close(self) -> None:
        """Release what the store holds open."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

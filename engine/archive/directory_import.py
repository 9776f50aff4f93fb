"""Loading of a directory whose files are written in any order, by any number of writers.

A file is written through a `FileWriter` and handed over with `put` when its writer has closed it. A
blob, that is a file named `blobs/ALGORITHM/HEX`, is verified there and becomes a blob of the store
at once, under a lease; other files wait in memory or in an ingest. A directory with an OCI layout,
an unpacked docker archive or the files of skopeo's `dir:` is a *layout*; there may be several, at
any depth. Its images are published as soon as everything that one of them needs is there, in one
transaction, by the call that brings the last piece; that call raises what is wrong with them.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from threading import RLock

from engine.archive.content_pool import ContentPool, blob_path
from engine.archive.file_writer import FileWriter
from engine.archive.growing_layout import GrowingLayout
from engine.archive.growing_layouts import GrowingLayouts, is_hidden
from engine.archive.held_blobs import HeldBlobs
from engine.archive.import_options import ImportOptions
from engine.archive.loaded import Loaded
from engine.archive.member_content import Buffered, Content, ContentReader, Ingested, Stored
from engine.archive.members import Link, MemberNames, Members, blob_at
from engine.closing import Closing
from engine.content.protocols import ReaderAt
from engine.errors import (
    DigestMismatch,
    EngineError,
    LimitExceeded,
    NotFound,
    StoreError,
)
from engine.layers.diff_ids import may_be_layer
from engine.limits import BUFFER_SIZE
from engine.spec import digest as digests
from engine.spec.digest import Digest
from engine.stores.new_tables import new_tables
from engine.stores.protocols import Store


class DirectoryImport(Closing):
    """The load of one directory. Safe from any thread; a `FileWriter` is for one at a time.

    Paths are relative to the directory, clean and without a slash at either end.
    """

    def __init__(self, store: Store, options: ImportOptions, name: str) -> None:
        """`name` is the directory's name, from which images without a name get theirs. It may be
        set; a directory whose name begins with a dot is hidden, and has no images.
        """
        self.name = name
        self._store = store
        self._options = options
        self._held = HeldBlobs(store)
        self._pool = ContentPool(store.content, self._held.hold, options.limits)
        self._names = MemberNames()
        self._layouts = GrowingLayouts(self._new_layout)
        self._lock = RLock()
        self._new_blobs = self._new_bytes = 0

    # -- files -------------------------------------------------------------------------------------

    def new_file(self, path: str) -> FileWriter:
        """Return a writer of a new file that will have this path; raise LimitExceeded."""
        self._weigh()
        limits = self._options.limits
        most = limits.max_archive_bytes or limits.max_expanded_bytes
        expected = blob_at(path)
        algorithm = expected.algorithm if expected else "sha256"
        return FileWriter(self._store.content, self._pool.expansion, most, algorithm)

    def held(self, digest: Digest) -> int | None:
        """Return the size in bytes of a stored blob, which is held from now on; None if the store
        lacks it.
        """
        content = self._store.content
        if not content.sizes([digest]):
            return None
        self._held.hold(digest)
        size = content.sizes([digest]).get(digest)
        if size is not None and self._layouts.waits_for(digest):
            with suppress(EngineError, OSError):  # `error` keeps it
                self.arrived(blob_path(digest), digest)
        return size

    def put(self, path: str, file: FileWriter) -> Digest:
        """Take a file whose writer has closed it, in the place of any at this path; return its
        digest. Call `arrived` then.

        Raise DigestMismatch for a blob that does not match its name; its bytes are left to `file`.
        """
        content = self._verified(path, file.content(path))
        with self._lock:
            self._replace(path, content)
        return content.digest

    def take_back(self, path: str, file: FileWriter) -> FileWriter:
        """Return a writer that continues a file, which `file` has written and `put` has taken.

        The file is not there until it is put again.
        """
        with self._lock:
            raw = self._names.pop(path)
            assert isinstance(raw, bytes)
            content = self._pool.with_raw(raw)
            is_own = isinstance(content, Ingested) and content.writer is file.ingest
            if file.ingest is None or (is_own and self._pool.withdraw(raw)):
                self._pool.remove(raw)
                return file
            copy = self.new_file(path)
            if content is not None:
                self._copy(content.digest, copy)
            self._pool.remove(raw)
            return copy

    def reopen(self, path: str, digest: Digest) -> FileWriter:
        """Return a writer that begins with the bytes of a file, which stays until it is put again.

        Raise NotFound if the bytes are gone.
        """
        writer = self.new_file(path)
        self._copy(digest, writer)
        return writer

    def open(self, digest: Digest) -> ReaderAt:
        """Open a file that has been put, by its digest; raise NotFound."""
        with self._lock:
            return self._pool.open(digest)

    def is_stored_blob(self, path: str, digest: Digest) -> bool:
        """Return whether the file at a path is a blob of the store, which cannot change."""
        content = self._pool.get(digest)
        return blob_at(path) == digest and (content is None or isinstance(content, Stored))

    def link(self, path: str, target: str) -> None:
        """Add a symlink to another path of this directory; raise LimitExceeded."""
        with self._lock:
            self._weigh()
            self._names.put(path, Link("symlink", target))

    def copy_name(self, path: str, new: str) -> None:
        """Give a file a second path, as link(2) does; raise LimitExceeded, and as `put` does.

        Call `arrived` then.
        """
        with self._lock:
            self._weigh()
            content = self._at(path)
            if content is None:
                raise NotFound("file", path)
            self._names.put(new, self._pool.add(self._verified(new, content)))

    def rename(self, old: str, new: str) -> list[tuple[str, Digest]]:
        """Move a file, or all files below a directory, to a path that is free or that of a file.

        Return the new paths of files and their digests, for `arrived`. Raise DigestMismatch, before
        anything is moved, if a file would get the name of another blob.
        """
        with self._lock:
            names = [old, *self._names.below(f"{old}/")]
            moved = [(name, new + name[len(old) :]) for name in names if self._names.get(name)]
            contents = [(name, to, self._verified_move(name, to)) for name, to in moved]
            for name, to, content in contents:
                named = self._names.pop(name)
                assert named is not None
                self._remove(to)
                if isinstance(named, bytes) and content and _replaces(content, named):
                    self._pool.remove(named)
                    named = self._pool.add(content)
                self._names.put(to, named)
            self._layouts.end_below(old)
        return [(to, content.digest) for _, to, content in contents if content]

    def arrived(self, path: str, digest: Digest | None) -> None:
        """Publish the images that a file, or a link (which has no digest), completes.

        Raise what is wrong with them, as `Import.finish` does; they are read again when the next
        file of them arrives. Do nothing while the directory is hidden.
        """
        if is_hidden(self.name):
            return
        failure: Exception | None = None
        with self._lock:
            for each in self._layouts.arrived(path, digest):
                try:
                    self._publish(each)
                except Exception as error:  # the others are published too
                    failure = failure or error
        if failure is not None:
            raise failure

    def files(self) -> list[tuple[str, Digest | None]]:
        """Return the paths of all files and links, and the digests of files, for `arrived`, after a
        hidden directory was renamed.
        """
        with self._lock:
            contents = [(path, self._at(path)) for path in self._names.all()]
        return [(path, content.digest if content else None) for path, content in contents]

    def remove(self, path: str) -> None:
        """Remove a file or link. Images that have been published stay."""
        with self._lock:
            self._remove(path)

    # -- results -----------------------------------------------------------------------------------
    # They do not wait for a change that waits for the disk.

    @property
    def loaded(self) -> Loaded:
        """The images that have been published so far."""
        images, left_out = self._layouts.images, self._layouts.left_out
        return Loaded(images, self._new_blobs, self._new_bytes, left_out)

    @property
    def missing(self) -> tuple[str, ...]:
        """The paths of files that images wait for."""
        return self._layouts.missing

    def is_current(self) -> bool:
        """Return whether the store still has every image that was published, by its name."""
        names = self._store.images
        for image in self.loaded.images:
            for name in image.names or (image.target,):
                found = names.find(name)
                is_same = found is not None and found.target.digest == image.target
                if not is_same and (image.names or not names.is_named(image.target)):
                    return False
        return True

    @property
    def error(self) -> Exception | None:
        """The error of the images of a layout, None if there is none."""
        return self._layouts.error

    def sizes(self, digests: Iterable[str]) -> Mapping[str, int]:
        """Return the sizes in bytes of those blobs that the store holds."""
        return self._store.content.sizes(digests)

    def blobs(self, root: str) -> frozenset[str]:
        """Return the digests that the images of the layout at a path refer to, where `root` is ""
        or ends in a slash.
        """
        return self._layouts.blobs(root)

    def close(self) -> None:
        """Drop what is not published, and release the blobs that are held."""
        with self._lock:
            self._layouts.clear()
            self._names.clear()
            self._pool.discard()
            self._held.close()

    # -- contents ----------------------------------------------------------------------------------

    def _weigh(self) -> None:
        """Raise LimitExceeded if the tables of names and contents have outgrown their limit."""
        limit = self._options.limits.max_table_bytes
        used = self._names.table_bytes + self._pool.table_bytes
        if used > limit:
            raise LimitExceeded("directory", "bytes of a table", limit, used)

    def _verified(self, path: str, content: Content) -> Content:
        """Return a content for a path. That of a blob has its digest, and is stored if it is large.

        Raise DigestMismatch.
        """
        expected = blob_at(path)
        if expected is None or content.digest == expected:
            found = content.digest
        else:
            found = self._digest(content, expected.algorithm)
            if found != expected:
                raise DigestMismatch(path, expected, found)
        if expected is None or isinstance(content, Stored):
            return content
        if isinstance(content, Ingested):
            self._held.hold(expected)
            known = content.uncompressed
            with new_tables(self._store, _tables(expected, content)):
                content.settle()
                labels = known.labels if known else {}
                committed = content.writer.commit(content.size, expected, labels)
            self._new_blobs += committed.added
            self._new_bytes += committed.info.size if committed.added else 0
            return Stored(path, expected, content.size, known.diff_id if known else None)
        return Buffered(path, expected.raw, content.pread(content.size, 0))

    def _verified_move(self, old: str, new: str) -> Content | None:
        content = self._at(old)
        try:
            return content and self._verified(new, content)
        except (OSError, StoreError):  # the ingest has been used up
            self._remove(old)
            raise

    def _digest(self, content: Content, algorithm: str) -> Digest:
        if content.digest.algorithm == algorithm:
            return content.digest
        hasher = digests.hasher(algorithm)
        with self._pool.open(content.digest) as reader:
            for offset in range(0, reader.size, BUFFER_SIZE):
                hasher.update(reader.pread(BUFFER_SIZE, offset))
        return digests.from_hash(algorithm, hasher)

    def _copy(self, digest: Digest, writer: FileWriter) -> None:
        with self.open(digest) as reader:
            for offset in range(0, reader.size, BUFFER_SIZE):
                writer.write(reader.pread(BUFFER_SIZE, offset), offset)

    def _at(self, path: str) -> Content | None:
        named = self._names.get(path)
        return self._pool.with_raw(named) if isinstance(named, bytes) else None

    def _replace(self, path: str, content: Content) -> None:
        raw = self._pool.add(content)
        self._remove(path)
        self._names.put(path, raw)

    def _remove(self, path: str) -> None:
        named = self._names.pop(path)
        if isinstance(named, bytes):
            self._pool.remove(named)
        if named is not None:
            self._layouts.forget(path)

    # -- layouts -----------------------------------------------------------------------------------

    def _new_layout(self, root: str) -> GrowingLayout:
        members = Members(self._names, self._pool, root)
        place = f"{self.name}/{root}".rstrip("/")
        return GrowingLayout(self._store, members, self._options, place)

    def _publish(self, root: str) -> None:
        loaded = self._layouts.publish(root)
        self._new_blobs += loaded.new_blobs
        self._new_bytes += loaded.new_bytes
        if loaded.images:  # they protect their blobs
            self._held.release({Digest(digest) for digest in self._layouts.blobs(root)})


def _replaces(content: Content, named: bytes) -> bool:
    """Return whether a verified content takes the place of the one with a raw digest."""
    return isinstance(content, Stored) or content.digest.raw != named


def _tables(digest: Digest, content: Ingested) -> Iterator[tuple[str, bytes]]:
    """Yield the digest and the table of a content that looks like a layer, if it came in order."""
    table = content.outcome().table
    if table is not None and may_be_layer(ContentReader(content)):
        yield digest, table

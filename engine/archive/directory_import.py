"""Loading of a directory whose files are written in any order, by any number of writers.

A file is written through a `FileWriter` and handed over with `put` when its writer has closed it. A
blob, that is a file named `blobs/ALGORITHM/HEX`, is verified there and becomes a blob of the store
at once, under a lease; other files wait in memory or in an ingest. A directory with an OCI layout,
an unpacked docker archive or the files of skopeo's `dir:` is a *layout*; there may be several, at
any depth. Its images are published as soon as everything that one of them needs is there, in one
transaction, by the call that brings the last piece; that call raises what is wrong with them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from threading import RLock
from types import TracebackType
from typing import Self

import msgspec

from engine.archive import docker_archive
from engine.archive.archive_graphs import ArchiveGraphs
from engine.archive.archive_image import ArchiveImage, Inventory, LeftOut
from engine.archive.content_pool import ContentPool, blob_path
from engine.archive.directory_formats import DOCUMENTS, read_growing
from engine.archive.file_writer import FileWriter
from engine.archive.held_blobs import HeldBlobs
from engine.archive.import_options import ImportOptions
from engine.archive.loaded import Loaded, LoadedImage
from engine.archive.member_content import Buffered, Content, Ingested, Stored
from engine.archive.members import Link, MemberNames, Members, blob_at
from engine.archive.publisher import Publisher
from engine.compression.options import Compression
from engine.content.protocols import ReaderAt
from engine.errors import (
    DigestMismatch,
    EngineError,
    LimitExceeded,
    MissingMember,
    NotFound,
    StoreError,
)
from engine.limits import BUFFER_SIZE, Expansion
from engine.spec import digest as digests
from engine.spec import platforms
from engine.spec.digest import Digest
from engine.stores.protocols import Store

Read = Callable[[Members, int, ArchiveGraphs, Compression | None], Inventory]


class _Layout:
    """A directory with images: what has been published of it, and what it waits for."""

    def __init__(self, members: Members, matcher: platforms.Matcher) -> None:
        self.members = members
        self.graphs = ArchiveGraphs(members, matcher)
        self.published: dict[str, LoadedImage] = {}
        """The images that have been published, by name and target."""
        self.blobs: set[str] = set()
        """The digests of the blobs of its images."""
        self.missing: tuple[str, ...] = ()
        """Paths of files that it waits for, relative to it."""
        self.left_out: tuple[LeftOut, ...] = ()
        self.error: Exception | None = None


class DirectoryImport:
    """The load of one directory. Safe from any thread; a `FileWriter` is for one at a time.

    Paths are relative to the directory, clean and without a slash at either end.
    """

    def __init__(
        self, store: Store, options: ImportOptions, name: str, read: Read = read_growing
    ) -> None:
        """`name` is the directory's name, from which images without a name get theirs; `read` finds
        the images in a layout.
        """
        self.name = name
        self._store = store
        self._options = options
        self._read = read
        self._matcher = platforms.only(*options.platforms) if options.platforms else platforms.ALL
        self._held = HeldBlobs(store)
        self._expansion = Expansion(options.limits.max_expanded_bytes)
        self._pool = ContentPool(store.content, self._held.hold, self._expansion)
        self._names = MemberNames()
        self._layouts: dict[str, _Layout] = {}
        self._waiting: dict[str, set[str]] = {}
        """The layouts that wait for a blob or another file, by its digest or path."""
        self._lock = RLock()
        self._new_blobs = self._new_bytes = 0

    # -- files -------------------------------------------------------------------------------------

    def new_file(self, path: str) -> FileWriter:
        """Return a writer of a new file that will have this path; raise LimitExceeded."""
        limits = self._options.limits
        used = self._names.table_bytes + self._pool.table_bytes
        if used > limits.max_table_bytes:
            raise LimitExceeded("directory", "bytes of a table", limits.max_table_bytes, used)
        most = limits.max_archive_bytes or limits.max_expanded_bytes
        expected = blob_at(path)
        algorithm = expected.algorithm if expected else "sha256"
        return FileWriter(self._store.content, self._expansion, most, algorithm)

    def held(self, digest: Digest) -> int | None:
        """Return the size in bytes of a stored blob, which is held from now on; None if the store
        lacks it.
        """
        content = self._store.content
        if not content.sizes([digest]):
            return None
        self._held.hold(digest)
        size = content.sizes([digest]).get(digest)
        if size is not None and digest in self._waiting:
            with suppress(EngineError, OSError):  # `error` keeps it
                self._arrived(blob_path(digest), digest)
        return size

    def put(self, path: str, file: FileWriter) -> Digest:
        """Take a file whose writer has closed it, in the place of any at this path; return its
        digest.

        Raise DigestMismatch for a blob that does not match its name, which is not taken. Raise what
        is wrong with the images that this file completes, as `Import.finish` does.
        """
        content = self._verified(path, file.content(path))
        with self._lock:
            self._replace(path, content)
        self._arrived(path, content.digest)
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

    def is_stored(self, digest: Digest) -> bool:
        """Return whether a file that has been put is a blob of the store, which cannot change."""
        return isinstance(self._pool.get(digest), Stored)

    def link(self, path: str, target: str) -> None:
        """Add a symlink to another path of this directory."""
        with self._lock:
            self._names.put(path, Link("symlink", target))

    def copy_name(self, path: str, new: str) -> None:
        """Give a file a second path, as link(2) does; raise as `put` does."""
        with self._lock:
            raw = self._names.get(path)
            content = self._pool.with_raw(raw) if isinstance(raw, bytes) else None
            if content is None:
                raise NotFound("file", path)
            self._names.put(new, self._pool.add(self._verified(new, content)))
        self._arrived(new, content.digest)

    def rename(self, old: str, new: str) -> None:
        """Move a file, or all files below a directory, to a path that is free or that of a file.

        Raise DigestMismatch, before anything is moved, if a file would get the name of another
        blob, and what is wrong with the images that are completed.
        """
        with self._lock:
            names = [old, *self._names.below(f"{old}/")]
            moved = [(name, new + name[len(old) :]) for name in names if self._names.get(name)]
            contents = [(name, self._at(name), to) for name, to in moved]
            verified = []
            for name, content, to in contents:
                try:
                    verified.append((name, content and self._verified(to, content), to))
                except (OSError, StoreError):  # the ingest has been used up
                    self._remove(name)
                    raise
            for name, content, to in verified:
                named = self._names.pop(name)
                assert named is not None
                self._remove(to)
                if isinstance(named, bytes) and isinstance(content, Stored):
                    self._pool.remove(named)
                    named = self._pool.add(content)
                self._names.put(to, named)
            self._move_layouts(old, new)
        for _, content, to in verified:
            self._arrived(to, content.digest if content else None)

    def remove(self, path: str) -> None:
        """Remove a file or link. Images that have been published stay."""
        with self._lock:
            self._remove(path)

    # -- results -----------------------------------------------------------------------------------

    @property
    def loaded(self) -> Loaded:
        """The images that have been published so far."""
        with self._lock:
            layouts = list(self._layouts.values())
            images = (image for layout in layouts for image in layout.published.values())
            left_out = (one for layout in layouts for one in layout.left_out)
            return Loaded(tuple(images), self._new_blobs, self._new_bytes, tuple(left_out))

    @property
    def missing(self) -> tuple[str, ...]:
        """The paths of files that images wait for."""
        with self._lock:
            items = list(self._layouts.items())
            return tuple(root + path for root, layout in items for path in layout.missing)

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
        """What is wrong with the images of a layout, None if nothing is."""
        with self._lock:
            errors = (layout.error for layout in self._layouts.values())
            return next(filter(None, errors), None)

    def blobs(self, root: str) -> frozenset[str]:
        """Return the digests that the images of the layout at a path refer to, where `root` is ""
        or ends in a slash.
        """
        layout = self._layouts.get(root)
        return frozenset(layout.blobs) if layout else frozenset()

    def close(self) -> None:
        """Drop what is not published, and release the blobs that are held."""
        with self._lock:
            self._layouts.clear()
            self._waiting.clear()
            self._names.clear()
            self._pool.discard()
            self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- contents ----------------------------------------------------------------------------------

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
            labels = content.uncompressed.labels if content.uncompressed else {}
            committed = content.writer.commit(content.size, expected, labels)
            self._new_blobs += committed.added
            self._new_bytes += committed.info.size if committed.added else 0
            diff_id = content.uncompressed.diff_id if content.uncompressed else None
            return Stored(path, expected, content.size, diff_id)
        return Buffered(path, expected.raw, content.pread(content.size, 0))

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
            for root in _roots(path):
                if layout := self._layouts.get(root):
                    layout.graphs.forget()

    # -- layouts -----------------------------------------------------------------------------------

    def _arrived(self, path: str, digest: Digest | None) -> None:
        """Read the layouts again that have waited for a file; raise the first error."""
        root, _, name = path.rpartition("/")
        root = f"{root}/" if root else ""
        failure: Exception | None = None
        with self._lock:
            rereads = set(self._waiting.get(path, ()))
            if name in DOCUMENTS:
                self._layouts.setdefault(root, self._new_layout(root))
                rereads.add(root)
            for each in self._waiting.get(digest or "", set()) - rereads:
                graphs = self._layouts[each].graphs
                if digest and graphs.arrived(digest):
                    rereads.add(each)
                else:
                    self._wait(each, self._lacking(self._layouts[each]))
            for each in sorted(rereads):
                try:
                    self._read_layout(each, self._layouts[each])
                except Exception as error:  # the others are read too
                    failure = failure or error
        if failure is not None:
            raise failure

    def _new_layout(self, root: str) -> _Layout:
        return _Layout(Members(self._names, self._pool, root), self._matcher)

    def _read_layout(self, root: str, layout: _Layout) -> None:
        """Publish the images of a layout that are new, or that lack less than before."""
        layout.error, layout.left_out = None, ()
        limits = self._options.limits
        place = f"{self.name}/{root}".rstrip("/")
        naming = msgspec.structs.replace(self._options.naming, directory=place)
        publisher = Publisher(self._store, layout.members, self._options.platforms)
        try:
            inventory = self._read(
                layout.members, limits.max_images, layout.graphs, self._options.compression
            )
            found = naming.applied(inventory.found)
            publisher.check_platforms(found)
            new = [one for one in found if _lacks_less(layout.published, one)]
            if new:
                self._publish(layout, publisher, new)
        except MissingMember as error:
            self._wait(root, (error.member, *error.others, *self._lacking(layout)))
        except Exception as error:
            layout.error = error
            raise
        else:
            layout.left_out = inventory.left_out
            self._wait(root, self._lacking(layout))

    def _publish(self, layout: _Layout, publisher: Publisher, images: list[ArchiveImage]) -> None:
        loaded = publisher.publish(images, docker_archive.parents(layout.members))
        blobs = {blob.digest for image in images for blob in image.graph.blobs}
        names = {name for image in images for name in image.names}
        kept = {k: i for k, i in layout.published.items() if names.isdisjoint(i.names)}
        layout.published = kept | {_key(i.names, i.target): i for i in loaded.images}
        layout.blobs |= blobs
        self._new_blobs += loaded.new_blobs
        self._new_bytes += loaded.new_bytes
        self._held.release({Digest(digest) for digest in blobs})  # the images protect them

    def _lacking(self, layout: _Layout) -> tuple[str, ...]:
        """Return the paths of the files that a layout's images lack, as far as they are known."""
        named = (path for one in layout.left_out for path in one.missing if not blob_at(path))
        paths = (path for path in named if not layout.members.has(path))
        return (*paths, *map(blob_path, layout.graphs.missing))

    def _wait(self, root: str, missing: tuple[str, ...]) -> None:
        """Note the files that a layout waits for."""
        layout = self._layouts[root]
        for key in _keys(root, layout.missing):
            self._waiting.get(key, set()).discard(root)
            if not self._waiting.get(key):
                self._waiting.pop(key, None)
        layout.missing = tuple(dict.fromkeys(filter(None, missing)))
        for key in _keys(root, layout.missing):
            self._waiting.setdefault(key, set()).add(root)

    def _move_layouts(self, old: str, new: str) -> None:
        for root in [root for root in self._layouts if root.startswith(f"{old}/")]:
            missing = self._layouts[root].missing
            self._wait(root, ())
            layout = self._layouts.pop(root)
            to = new + root[len(old) :]
            moved = self._layouts[to] = self._new_layout(to)
            moved.published, moved.blobs = layout.published, layout.blobs
            moved.error, moved.left_out = layout.error, layout.left_out
            self._wait(to, missing)


def _key(names: tuple[str, ...], target: str) -> str:
    return "\n".join((*names, target))


def _lacks_less(published: Mapping[str, LoadedImage], image: ArchiveImage) -> bool:
    before = published.get(_key(image.names, image.graph.root.digest))
    return before is None or set(before.missing) > {m.digest for m in image.graph.missing}


def _keys(root: str, paths: Iterable[str]) -> Iterator[str]:
    """Yield what layouts wait for: blobs by their digests, since any directory may bring them."""
    for path in paths:
        yield blob_at(path) or root + path


def _roots(path: str) -> Iterator[str]:
    """Yield the directories above a path, each "" or with a slash at the end."""
    yield ""
    parts = path.split("/")[:-1]
    for count in range(1, len(parts) + 1):
        yield "/".join(parts[:count]) + "/"

"""Loading of a directory on disk: an OCI layout, an unpacked docker archive, or what skopeo's
`dir:` transport wrote.

Only files that an image needs and that the store lacks are read.
"""

import errno
import os
import stat
from collections.abc import Iterable
from contextlib import closing
from functools import partial
from pathlib import Path

import msgspec

from engine.archive import docker_archive
from engine.archive.archive_graphs import ArchiveGraphs
from engine.archive.archive_image import Inventory
from engine.archive.content_pool import ContentPool, blob_path
from engine.archive.directory_formats import DOCUMENTS, needed_files, read_whole
from engine.archive.file_writer import FileWriter
from engine.archive.held_blobs import HeldBlobs
from engine.archive.import_options import ImportOptions
from engine.archive.loaded import Loaded
from engine.archive.members import MemberNames, Members, blob_at
from engine.archive.publisher import Publisher
from engine.closing import Closing
from engine.errors import BrokenArchive, DigestMismatch, MissingMember
from engine.limits import BUFFER_SIZE
from engine.progress import Done, Progress, ignore
from engine.spec import docker, platforms
from engine.spec.digest import Digest
from engine.stores.protocols import Store
from engine.tar.member import clean_name
from engine.threads import Ahead


def load_directory(
    store: Store, path: Path, options: ImportOptions, on_progress: Progress = ignore
) -> Loaded:
    """Publish the images of a directory in one transaction; return them.

    An image without a name gets that of the directory. Raise what `Import.finish` raises for an
    archive, and OSError for files that cannot be read; nothing is loaded then.
    """
    held = HeldBlobs(store)
    pool = ContentPool(store.content, held.hold, options.limits)
    with closing(held), _Directory(path, pool, options, on_progress) as directory:
        inventory = directory.inventory()
        naming = msgspec.structs.replace(options.naming, directory=path.resolve().name)
        found = naming.applied(inventory.found)
        publisher = Publisher(store, directory.members, options.platforms)
        publisher.check_platforms(found)
        loaded = publisher.publish(found, docker_archive.parents(directory.members))
        return loaded.followed_by(Loaded((), left_out=inventory.left_out))


class _Directory(Closing):
    """The files of a directory, of which those that are asked for are received."""

    def __init__(
        self, path: Path, pool: ContentPool, options: ImportOptions, on_progress: Progress
    ) -> None:
        self._root = path.resolve()
        self._names = MemberNames()
        self._pool = pool
        self._options = options
        self._on_progress = on_progress
        self._tried: set[str] = set()
        self._done = 0
        self.members = Members(self._names, pool)

    def inventory(self) -> Inventory:
        """Return the images, after receiving all files that they need."""
        wanted = self._options.platforms
        matcher = platforms.only(*wanted) if wanted else platforms.ALL
        most, compression = self._options.limits.max_images, self._options.compression
        self._receive([*DOCUMENTS, docker.REPOSITORIES_FILE])
        for paths in needed_files(self.members):
            self._receive(paths)
        while True:
            graphs = ArchiveGraphs(self.members, matcher)
            try:
                inventory = read_whole(self.members, most, graphs, compression)
            except MissingMember as error:
                if not self._receive((error.member, *error.others, *_paths(graphs))):
                    raise
                continue
            missing = (path for one in inventory.left_out for path in one.missing)
            if not self._receive((*missing, *_paths(graphs))):
                return inventory

    def close(self) -> None:
        """Discard what is not published."""
        self._pool.discard()

    def _receive(self, paths: Iterable[str]) -> bool:
        """Receive those files that the directory has and that are new; return whether there are
        any.
        """
        is_new = False
        for path in dict.fromkeys(map(_clean, paths)):
            if path not in self._tried:
                self._tried.add(path)
                is_new |= self._receive_file(path)
        return is_new

    def _receive_file(self, path: str) -> bool:
        expected = blob_at(path)
        if expected is not None and self._is_stored(expected):
            return False
        descriptor = self._open(path)
        if descriptor is None and expected is not None:  # as skopeo's dir: names it
            descriptor = self._open(expected.encoded)
        if descriptor is None:
            return False
        limits = self._options.limits
        most = limits.max_archive_bytes or limits.max_expanded_bytes
        algorithm = expected.algorithm if expected else "sha256"
        file = FileWriter(self._pool.store, self._pool.expansion, most, algorithm)
        try:
            with (
                open(descriptor, "rb", buffering=0) as source,
                closing(Ahead(iter(partial(source.read, BUFFER_SIZE), b""), 1)) as chunks,
            ):
                for chunk in chunks:
                    file.write(chunk, file.size)
                    self._done += len(chunk)
                    self._on_progress(Done(self._done, None, self._pool.layers))
            content = file.content(path)
            if expected is not None and content.digest != expected:
                raise DigestMismatch(path, expected, content.digest)
        except BaseException:
            file.abort()
            raise
        self._names.put(path, self._pool.add(content))
        return True

    def _is_stored(self, digest: Digest) -> bool:
        """Return whether the store has a blob, which is held from now on."""
        if not self._pool.store.exists(digest):
            return False
        self._pool.hold(digest)
        return self._pool.store.exists(digest)

    def _open(self, path: str) -> int | None:
        """Open a regular file of the directory, or return None if there is none.

        Raise BrokenArchive for a path that leads out of the directory, or to anything else.
        """
        if "\0" in path:  # no file has such a name
            return None
        try:
            place = Path(os.path.realpath(self._root / path, strict=True))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return None
            if error.errno == errno.ELOOP:
                raise BrokenArchive(path, "is a symlink that leads to itself") from error
            raise
        if not place.is_relative_to(self._root):
            raise BrokenArchive(path, "is a link that leaves the directory")
        descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise BrokenArchive(path, "expected a file, found something else")
        return descriptor


def _clean(path: str) -> str:
    """Return a path as the names of members are; raise BrokenArchive if it leads out of the
    directory.
    """
    clean = clean_name(path)
    if clean is None:
        raise BrokenArchive(path, "leaves the directory")
    return clean


def _paths(graphs: ArchiveGraphs) -> list[str]:
    return [blob_path(digest) for digest in graphs.missing]

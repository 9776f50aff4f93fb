"""Loading: an `Import` takes the bytes of an archive and publishes its images.

Bytes are fed as they arrive and are read once. A lease keeps the stored blobs that the archive
relies on. `finish` resolves the images received so far and publishes them in one transaction: the
images and their blobs become visible together or not at all. After a failure, `abort` or the end of
the `with` block leaves the store as it was. An `Import` is for one thread at a time.
"""

import errno
from contextlib import suppress
from types import TracebackType
from typing import Self

from engine.archive import (
    docker_archive,
    file_types,
    legacy_archive,
    lookalikes,
    oci_archive,
)
from engine.archive.archive_graphs import ArchiveGraphs
from engine.archive.archive_image import Inventory, LeftOut
from engine.archive.content_pool import ContentPool
from engine.archive.held_blobs import HeldBlobs
from engine.archive.import_options import ImportOptions
from engine.archive.loaded import Loaded
from engine.archive.member_content import Content
from engine.archive.member_index import MemberIndex
from engine.archive.publisher import Publisher
from engine.archive.tars import NextArchive, Tars
from engine.compression.decompress import ArchiveDecompressor
from engine.errors import (
    BrokenArchive,
    ContentMismatch,
    LimitExceeded,
    MissingMember,
    counted,
)
from engine.spec import docker, platforms
from engine.stores.protocols import Store
from engine.tar.member import Member, clean_name
from engine.tar.reader import MemberData, MemberEnd, MemberHole, MemberStart
from engine.tar.sparse import zeros

_DOCUMENTS = (
    oci_archive.LAYOUT,
    oci_archive.INDEX,
    docker.MANIFEST_FILE,
    docker.REPOSITORIES_FILE,
)
_EMPTY = "is not an image archive: it is empty; see whether what should have written it has failed"


class Import:
    """The load of one stream, which may hold several archives in succession; for one thread at a
    time.
    """

    def __init__(self, store: Store, options: ImportOptions) -> None:
        """Raise StoreReadOnly if the store cannot be changed."""
        store.check_changes()
        self._store = store
        self._options = options
        self._limits = options.limits
        self._held = HeldBlobs(store)
        self._members = MemberIndex(ContentPool(store.content, self._held.hold, self._limits))
        self._outer = ArchiveDecompressor()
        self._tar = Tars(self._limits)
        self._before = Inventory(())
        """The images of the preceding archives in the same stream that are not yet published."""
        self._published = Loaded(())
        """The result of the preceding archives that an earlier call of `finish` published."""
        self._parents: dict[str, str] = {}
        self._replaced: dict[str, Content] = {}
        """Documents of this archive that came again, as they were at first."""
        self._failure: Exception | None = None
        self._loaded: Loaded | None = None
        self.received = 0

    @property
    def failed(self) -> bool:
        """Whether the load has failed, so that `feed` and `finish` raise the error again."""
        return self._failure is not None

    @property
    def ended(self) -> bool:
        """Whether the end of an archive has been read, followed by nothing but zeros."""
        return self._tar.ended

    @property
    def layers(self) -> int:
        """The number of layers received so far, recognised by their first bytes."""
        return self._members.pool.layers

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next bytes of the archive.

        Raise an error as soon as it is detected, and raise it again at every later call.
        """
        if self._failure is not None:
            raise self._failure
        self.received += len(data)
        try:
            limit = self._limits.max_archive_bytes
            if limit is not None and self.received > limit:
                raise LimitExceeded("archive", "bytes", limit, self.received)
            for plain in self._outer.feed(data):
                if self._outer.name != "none":
                    self._members.pool.expansion.add(len(plain))
                self._take(plain)
        except Exception as error:
            self._failure = self._explained(error)
            raise self._failure from error

    def finish(self) -> Loaded:
        """Publish the images received so far and return the result.

        Raise an error if the bytes so far are no complete archive. More bytes may be fed afterwards
        and `finish` called again, which then covers all bytes received.
        """
        if self._failure is not None:
            raise self._failure
        if self._loaded is None:
            if (kind := file_types.identify(self._outer.undecided)) is not None:
                raise BrokenArchive("", f"is not a tar archive but {kind}")
            self._outer.finish()
            self._tar.finish()
            self._members.documents.begin()
            inventory = self._found()
            found = self._options.naming.applied(inventory.found)
            publisher = Publisher(self._store, self._members, self._options.platforms)
            publisher.check_platforms(found)
            parents = self._parents | docker_archive.parents(self._members)
            try:
                loaded = publisher.publish(found, parents)
            except Exception as error:  # publication has used up the ingests
                self._failure = error
                raise
            left_out = Loaded((), left_out=inventory.left_out)
            self._loaded = self._published.followed_by(loaded).followed_by(left_out)
        return self._loaded

    def abort(self) -> None:
        """Discard all that is not published and release the lease; further calls do nothing."""
        self._members.discard()
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.abort()

    def _take(self, plain: bytes | memoryview) -> None:
        for event in self._tar.feed(memoryview(plain)):
            match event:
                case MemberData(data):
                    self._members.write(data)
                case MemberHole(size):
                    for piece in zeros(size):
                        self._members.write(piece)
                case MemberStart(member):
                    self._loaded = None
                    self._notice_again(member)
                    self._members.start(member)
                    self._weigh()
                case MemberEnd():
                    self._members.end()
                    self._weigh()
                case NextArchive():
                    self._close_archive()

    def _notice_again(self, member: Member) -> None:
        """Remember what a document was that comes a second time, as `tar -A` and `tar -r` do it."""
        name = clean_name(member.name) or ""
        if name in _DOCUMENTS and name not in self._replaced and self._members.has(name):
            with suppress(BrokenArchive, ContentMismatch):
                self._replaced[name] = self._members.find(name)

    def _close_archive(self) -> None:
        """Resolve the images of the archive that has ended.

        An archive without any document of an image archive is read together with the next one, as
        with `tar -i`.
        """
        if self._loaded is not None:
            self._published, self._loaded = self._loaded, None
            self._before = Inventory(())
        elif any(self._members.has(name) for name in _DOCUMENTS):
            self._before = self._before.followed_by(self._inventory())
        else:
            return
        self._parents |= docker_archive.parents(self._members)
        self._members.forget_names()
        self._replaced.clear()

    def _found(self) -> Inventory:
        """Return the inventory of all archives that are not published yet."""
        try:
            inventory = self._inventory()
        except MissingMember as error:
            if self._tar.ended or not self._tar.members:
                raise
            raise error.by_truncation from error
        if not self._tar.ended:
            inventory.check_end()
        return self._before.followed_by(inventory)

    def _weigh(self) -> None:
        size, limit = self._members.table_bytes, self._limits.max_table_bytes
        if size > limit:
            raise LimitExceeded("archive", "bytes of a table of members", limit, size)

    def _inventory(self) -> Inventory:
        """Return what this archive holds, and which of its documents it has in another form too."""
        found = self._resolve()
        again = tuple(
            LeftOut(name, "is in the archive twice, and the last one counts: use a file for each")
            for name, first in self._replaced.items()
            if self._members.has(name) and self._members.find(name).digest != first.digest
        )
        return Inventory(found.found, found.left_out + again)

    def _resolve(self) -> Inventory:
        members, most = self._members, self._limits.max_images - len(self._before.found)
        compression = self._options.compression
        if oci_archive.is_oci(members):
            graphs = ArchiveGraphs(members, self._matcher)
            return oci_archive.read(members, most, graphs, compression)
        no_layout = MissingMember(
            oci_archive.LAYOUT, f"is missing from the archive, {oci_archive.INDEX} needs it"
        )
        has_index = members.has(oci_archive.INDEX)
        if has_index and not self._tar.ended and not members.has(oci_archive.LAYOUT):
            raise no_layout
        if lookalikes.is_dir_transport(members.names):
            raise BrokenArchive("", f"is not an image archive but {lookalikes.DIR_TRANSPORT}")
        if members.has(docker.MANIFEST_FILE):
            return docker_archive.read(members, most, compression)
        if members.has(docker.REPOSITORIES_FILE):
            return legacy_archive.read(members, most, compression)
        if has_index:
            raise no_layout
        raise self._no_image()

    def _explained(self, error: Exception) -> Exception:
        """Return the error to raise in place of `error`.

        An archive that exceeds the limit of members or of open files and is no image archive is
        reported as such.
        """
        is_too_many = isinstance(error, LimitExceeded) and "members" in error.what
        if is_too_many or (isinstance(error, OSError) and error.errno == errno.EMFILE):
            found = lookalikes.identify(self._members.names)
            if found is not None and not any(self._members.has(name) for name in _DOCUMENTS):
                return BrokenArchive("", f"is not an image archive but {found}")
        return error

    def _no_image(self) -> BrokenArchive:
        if self._before.found or self._published.images:
            found = lookalikes.identify(self._members.names)
            what = found.noun if found else "a tar archive that is no image archive"
            return BrokenArchive("", f"has {what} behind its end: take it out of the file")
        if not self._tar.members:
            return MissingMember("", _EMPTY)
        found = lookalikes.identify(self._members.names)
        if found is not None and self._tar.ended:
            return BrokenArchive("", f"is not an image archive but {found}")
        wanted = f"{oci_archive.LAYOUT}, {docker.MANIFEST_FILE} or {docker.REPOSITORIES_FILE}"
        return MissingMember(
            "",
            f"is not an image archive: expected {wanted}, found"
            f" {counted(self._tar.members, 'member')}: load what docker save or skopeo copy wrote",
        )

    @property
    def _matcher(self) -> platforms.Matcher:
        wanted = self._options.platforms
        if not wanted:
            return platforms.ALL
        return platforms.only(*wanted)

"""Loading: an `Import` takes the bytes of an archive and publishes its images.

Bytes are fed as they arrive and are read once. A lease keeps the stored blobs that the archive
relies on. `finish` resolves the images received so far and publishes them in one transaction: the
images and their blobs become visible together or not at all. After a failure, `abort` or the end of
the `with` block leaves the store as it was. An `Import` is for one thread at a time.
"""

import errno
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Self

import msgspec

from engine import graph as walk
from engine.archive import (
    docker_archive,
    file_types,
    legacy_archive,
    lookalikes,
    oci_archive,
)
from engine.archive.archive_image import ArchiveImage, Inventory, LeftOut
from engine.archive.import_options import ImportOptions
from engine.archive.member_content import Content
from engine.archive.member_index import MemberIndex
from engine.archive.tars import NextArchive, Tars
from engine.compression.decompress import ArchiveDecompressor
from engine.errors import (
    BrokenArchive,
    ContentMismatch,
    LimitExceeded,
    MissingMember,
    NotAnImage,
    NotFound,
    counted,
)
from engine.image import PARENT_LABEL, Image
from engine.limits import Expansion
from engine.spec import docker, oci, platforms
from engine.spec import media_types as layer_types
from engine.spec.digest import Digest
from engine.stores.new_tables import new_tables
from engine.stores.protocols import Store
from engine.stores.records import Lease
from engine.tar.member import Member, clean_name
from engine.tar.reader import MemberData, MemberEnd, MemberStart

_DOCUMENTS = (
    oci_archive.LAYOUT,
    oci_archive.INDEX,
    docker.MANIFEST_FILE,
    docker.REPOSITORIES_FILE,
)
_EMPTY = "is not an image archive: it is empty; see whether what should have written it has failed"


class LoadedImage(msgspec.Struct, frozen=True):
    """An image that was loaded.

    `id` is the digest of its config, as in docker, or "" if it has none. `missing` are the digests
    that its index names and that neither the archive nor the store holds; `missing_platforms` are
    the platforms that are incomplete for this reason.
    """

    names: tuple[str, ...]
    target: str
    id: str
    platforms: tuple[str, ...]
    missing: tuple[str, ...] = ()
    missing_platforms: tuple[str, ...] = ()


class Loaded(msgspec.Struct, frozen=True):
    """The result of a load.

    `images` are in the order of the archive. `new_blobs` and `new_bytes` count the blobs that were
    new to the store. `left_out` are the images that the archive names but that could not be loaded.
    """

    images: tuple[LoadedImage, ...]
    new_blobs: int = 0
    new_bytes: int = 0
    left_out: tuple[LeftOut, ...] = ()


class Import:
    """The load of one stream, which may hold several archives in succession; for one thread at a
    time.
    """

    def __init__(self, store: Store, options: ImportOptions) -> None:
        self._store = store
        self._options = options
        self._limits = options.limits
        self._leases = ExitStack()
        self._lease: Lease | None = None
        self._expansion = Expansion(options.limits.max_expanded_bytes)
        self._members = MemberIndex(store.content, self._hold, self._expansion)
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
        return self._members.layers

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
                    self._expansion.add(len(plain))
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
            inventory = self._found()
            found = self._options.naming.applied(inventory.found)
            self._check_platforms(found)
            try:
                self._loaded = self._publish(found, inventory.left_out)
            except Exception as error:  # publication has consumed the ingests
                self._failure = error
                raise
        return self._loaded

    def abort(self) -> None:
        """Discard all that is not published and release the lease; further calls do nothing."""
        self._members.discard()
        self._lease = None
        self._leases.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.abort()

    def _hold(self, digest: Digest) -> None:
        """Lease a stored blob that this archive relies on."""
        if self._lease is None:
            self._lease = self._leases.enter_context(self._store.leases.hold())
        self._store.leases.add(self._lease.id, digest)

    def _take(self, plain: bytes | memoryview) -> None:
        for event in self._tar.feed(memoryview(plain)):
            match event:
                case MemberData(data):
                    self._members.write(data)
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
            return oci_archive.read(members, most, self._matcher, compression)
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

    def _check_platforms(self, found: Sequence[ArchiveImage]) -> None:
        """Raise NotFound for an image that has none of the wanted platforms.

        Raise NotAnImage if the archive holds artifacts only. An artifact has no platform, and is
        loaded along with the images that have a wanted one.
        """
        wanted = self._options.platforms
        others = [one for one in found if wanted and one.graph.best(self._matcher) is None]
        images = [one for one in others if walk.graph(self._members, one.graph.root).images]
        for one in images or (others if len(others) == len(found) else ()):
            subject = one.names[0] if one.names else one.graph.root.digest
            if not images and one.graph.artifacts:
                raise NotAnImage(subject, one.graph.artifact_type)
            text = " or ".join(platforms.format_all(platform) for platform in wanted)
            raise NotFound("platform", f"{text} of {subject}")

    def _publish(self, found: list[ArchiveImage], left_out: tuple[LeftOut, ...]) -> Loaded:
        store = self._store
        graphs = {image.graph.root.digest: image.graph for image in found}
        wholes: dict[str, walk.Graph] = {}
        blobs: dict[str, dict[str, str]] = {}
        for graph in graphs.values():
            blobs.update(self._labels(graph))
        parents = self._parents | docker_archive.parents(self._members)
        self._members.prepare(blobs)
        tables = self._members.tables(_layers(graphs.values()))
        with new_tables(store, tables), store.transaction():
            added = self._members.publish(blobs)
            for digest, graph in graphs.items():
                is_partial = bool(self._options.platforms or graph.missing)
                whole = walk.graph(store.content, graph.root) if is_partial else graph
                wholes[digest] = whole
                store.images.record(digest, walk.summarize(whole))
            for image in found:
                self._create(image, parents)
            for target in store.images.lacking(info.digest for info in added):
                store.images.record(
                    target.digest, walk.summarize(walk.graph(store.content, target))
                )
        loaded = tuple(_loaded_image(f, wholes[f.graph.root.digest]) for f in found)
        before = self._published
        return Loaded(
            before.images + loaded,
            before.new_blobs + len(added),
            before.new_bytes + sum(info.size for info in added),
            before.left_out + left_out,
        )

    def _create(self, found: ArchiveImage, parents: Mapping[str, str]) -> None:
        images, target = self._store.images, found.graph.root
        configs = [image.manifest.config.digest for image in found.graph.images]
        known = [parents[config] for config in configs if config in parents]
        labels = {PARENT_LABEL: known[0]} if known else {}
        for name in found.names or ("",):
            self._store.events.add("load", target.digest, name)
        for name in found.names:
            images.put(Image(name, target, labels))
        if not images.is_named(target.digest):
            images.put(Image(target.digest, target, labels))

    def _labels(self, graph: walk.Graph) -> dict[str, dict[str, str]]:
        labels: dict[str, dict[str, str]] = {}
        for blob in graph.blobs:
            labels[blob.digest] = {}
            if oci.is_manifest_type(blob.media_type) or oci.is_index_type(blob.media_type):
                with self._members.open(Digest(blob.digest)) as reader:
                    data = reader.pread(blob.size, 0)
                labels[blob.digest] = walk.gc_labels(walk.children(data, blob))
        for image in graph.complete_images:
            for layer in image.manifest.layers:
                if layer_types.unreadable(layer.media_type):
                    continue
                if oci.layer_compression(layer.media_type) and layer.digest in labels:
                    uncompressed = self._members.uncompressed(Digest(layer.digest))
                    if uncompressed:
                        labels[layer.digest] = uncompressed.labels
        return labels


def _layers(graphs: Iterable[walk.Graph]) -> Iterator[str]:
    """Yield the digests of the layers that hold files."""
    for graph in graphs:
        for image in graph.complete_images:
            for layer in image.manifest.layers:
                if not layer_types.unreadable(layer.media_type):
                    yield layer.digest


def _loaded_image(found: ArchiveImage, whole: walk.Graph) -> LoadedImage:
    summary = walk.summarize(whole)
    manifests = summary.manifests
    return LoadedImage(
        found.names,
        found.graph.root.digest,
        manifests[0].config if manifests else "",
        tuple(dict.fromkeys(manifest.platform for manifest in manifests if manifest.config)),
        summary.missing,
        whole.missing_platforms,
    )


__all__ = ["Import", "Loaded", "LoadedImage"]

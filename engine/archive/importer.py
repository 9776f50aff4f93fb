"""Loading: the bytes of an archive in, images out, under a lease that holds what the archive relies
on.

An `Import` is fed as bytes arrive and never looks back. `finish` says what is known so far and
publishes it in one transaction: images and blobs appear together or not at all. A failure leaves
the store as it was once `abort` has been called, or the `with` block has ended.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import msgspec

from engine import docker, layer_types, oci, platforms, walk
from engine.archive import docker_archive, legacy_archive, oci_archive
from engine.archive.found import Found, Inventory, LeftOut
from engine.archive.intake import Intake
from engine.archive.limits import Expansion
from engine.archive.members import Member
from engine.archive.options import ImportOptions
from engine.archive.reader import MemberData, MemberEnd, MemberStart, TarReader
from engine.content.local import LocalStore
from engine.database import Database
from engine.decompress import Outer
from engine.digest import Digest
from engine.errors import LimitExceeded, MissingMember, NotAnImage, NotFound
from engine.events import EventLog
from engine.images import PARENT_LABEL, Image, ImageStore
from engine.leases import Lease, Leases

_MEMBER_BYTES = 600


class LoadedImage(msgspec.Struct, frozen=True):
    """An image that was loaded; `id` is the digest of its config, as docker counts ("" if there is
    none). `missing` are the digests of what its index names and nobody has, and
    `missing_platforms` the platforms that are therefore not complete.
    """

    names: tuple[str, ...]
    target: str
    id: str
    platforms: tuple[str, ...]
    missing: tuple[str, ...] = ()
    missing_platforms: tuple[str, ...] = ()


class Loaded(msgspec.Struct, frozen=True):
    """What a load brought: its images in the archive's order, how many blobs (of how many bytes)
    were new, and what the archive names and could not give.
    """

    images: tuple[LoadedImage, ...]
    new_blobs: int = 0
    new_bytes: int = 0
    left_out: tuple[LeftOut, ...] = ()


class Parts(msgspec.Struct, frozen=True):
    """What an import needs of an engine."""

    database: Database
    content: LocalStore
    images: ImageStore
    leases: Leases
    events: EventLog


class Import:
    """One archive on its way in; for one thread at a time."""

    def __init__(self, parts: Parts, options: ImportOptions) -> None:
        self._parts = parts
        self._options = options
        self._limits = options.limits
        self._leases = ExitStack()
        self._lease: Lease | None = None
        self._expansion = Expansion(options.limits.max_expanded_bytes)
        self._intake = Intake(parts.content, self._hold, self._expansion)
        self._table_bytes = 0
        self._outer = Outer()
        self._tar = TarReader(self._limits)
        self._failure: Exception | None = None
        self._loaded: Loaded | None = None
        self.received = 0

    @property
    def failed(self) -> bool:
        """Whether no further byte can make it right."""
        return self._failure is not None

    @property
    def ended(self) -> bool:
        """Whether the archive's end has been read, so that what follows is ignored."""
        return self._tar.ended

    @property
    def layers(self) -> int:
        """How many layers have come so far, as far as their first bytes tell it."""
        return self._intake.layers

    def feed(self, data: bytes | memoryview) -> None:
        """The next bytes of the archive; raises what is wrong as soon as it is known, and again
        ever after.
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
            self._failure = error
            raise

    def finish(self) -> Loaded:
        """Publish the images of what has come so far; the error if that is no complete archive.

        More bytes may follow and `finish` be called again, with all that has come by then.
        """
        if self._failure is not None:
            raise self._failure
        if self._loaded is None:
            self._outer.finish()
            self._tar.finish()
            inventory = self._found()
            found = self._options.naming.applied(inventory.found)
            self._check_platforms(found)
            try:
                loaded = self._publish(found)
                self._loaded = msgspec.structs.replace(loaded, left_out=inventory.left_out)
            except Exception as error:  # the ingests are used up
                self._failure = error
                raise
        return self._loaded

    def abort(self) -> None:
        """Drop what is not published, and the lease; may be called again."""
        self._intake.discard()
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
        """Lease a blob of the store that this archive relies on."""
        if self._lease is None:
            self._lease = self._leases.enter_context(self._parts.leases.hold())
        self._parts.leases.add(self._lease.id, digest)

    def _take(self, plain: bytes | memoryview) -> None:
        for event in self._tar.feed(memoryview(plain)):
            match event:
                case MemberData(data):
                    self._intake.write(data)
                case MemberStart(member):
                    self._loaded = None
                    self._weigh(member)
                    self._intake.start(member)
                case MemberEnd():
                    self._intake.end()

    def _found(self) -> Inventory:
        try:
            inventory = self._resolve()
        except MissingMember as error:
            if self._tar.ended or not self._tar.members:
                raise
            raise error.by_truncation from error
        if not self._tar.ended:
            inventory.check_end()
        return inventory

    def _weigh(self, member: Member) -> None:
        self._table_bytes += _MEMBER_BYTES + len(member.name) + len(member.linkname)
        limit = self._limits.max_table_bytes
        if self._table_bytes > limit:
            raise LimitExceeded("archive", "bytes of a table of members", limit, self._table_bytes)

    def _resolve(self) -> Inventory:
        intake, most = self._intake, self._limits.max_images
        compression = self._options.compression
        if oci_archive.is_oci(intake):
            return oci_archive.read(intake, most, self._matcher, compression)
        no_layout = MissingMember(
            oci_archive.LAYOUT, f"is missing from the archive, {oci_archive.INDEX} needs it"
        )
        has_index = intake.has(oci_archive.INDEX)
        if has_index and not self._tar.ended and not intake.has(oci_archive.LAYOUT):
            raise no_layout
        if intake.has(docker.MANIFEST_FILE):
            return docker_archive.read(intake, most, compression)
        if intake.has(docker.REPOSITORIES_FILE):
            return legacy_archive.read(intake, most, compression)
        if has_index:
            raise no_layout
        wanted = f"{oci_archive.LAYOUT}, {docker.MANIFEST_FILE} or {docker.REPOSITORIES_FILE}"
        found = "an empty archive" if not self._tar.members else f"{self._tar.members} members"
        raise MissingMember("", f"is not an image archive: expected {wanted}, found {found}")

    @property
    def _matcher(self) -> platforms.Matcher:
        wanted = self._options.platforms
        if not wanted:
            return platforms.ALL
        return platforms.any_of(*(q for p in wanted for q in platforms.preferences(p)))

    def _check_platforms(self, found: Sequence[Found]) -> None:
        """Raise NotFound for an image without a wanted platform, NotAnImage where there is none.

        What is no image has no platform, and comes with those that have one.
        """
        wanted = self._options.platforms
        others = [one for one in found if wanted and one.graph.best(self._matcher) is None]
        images = [one for one in others if walk.graph(self._intake, one.graph.root).images]
        for one in images or (others if len(others) == len(found) else ()):
            subject = one.names[0] if one.names else one.graph.root.digest
            if not images and one.graph.artifacts:
                raise NotAnImage(subject, one.graph.artifact_type)
            text = " or ".join(platforms.format_all(platform) for platform in wanted)
            raise NotFound("platform", f"{text} of {subject}")

    def _publish(self, found: list[Found]) -> Loaded:
        parts = self._parts
        graphs = {image.graph.root.digest: image.graph for image in found}
        wholes: dict[str, walk.Graph] = {}
        blobs: dict[str, dict[str, str]] = {}
        for graph in graphs.values():
            blobs.update(self._labels(graph))
        parents = docker_archive.parents(self._intake)
        self._intake.prepare(blobs)
        with parts.database.transaction():
            added = self._intake.publish(blobs)
            for digest, graph in graphs.items():
                whole = walk.graph(parts.content, graph.root) if self._options.platforms else graph
                wholes[digest] = whole
                parts.images.record(digest, walk.summarize(whole))
            for image in found:
                self._create(image, parents)
            for target in parts.images.lacking(info.digest for info in added):
                parts.images.record(
                    target.digest, walk.summarize(walk.graph(parts.content, target))
                )
        loaded = tuple(_loaded_image(f, wholes[f.graph.root.digest]) for f in found)
        return Loaded(loaded, len(added), sum(info.size for info in added))

    def _create(self, found: Found, parents: Mapping[str, str]) -> None:
        images, target = self._parts.images, found.graph.root
        configs = [image.manifest.config.digest for image in found.graph.images]
        known = [parents[config] for config in configs if config in parents]
        labels = {PARENT_LABEL: known[0]} if known else {}
        for name in found.names or ("",):
            self._parts.events.add("load", target.digest, name)
        for name in found.names:
            images.put(Image(name, target, labels))
        if not images.is_named(target.digest):
            images.put(Image(target.digest, target, labels))

    def _labels(self, graph: walk.Graph) -> dict[str, dict[str, str]]:
        labels: dict[str, dict[str, str]] = {}
        for blob in graph.blobs:
            labels[blob.digest] = {}
            if oci.is_manifest_type(blob.media_type) or oci.is_index_type(blob.media_type):
                with self._intake.open(Digest(blob.digest)) as reader:
                    data = reader.pread(blob.size, 0)
                labels[blob.digest] = walk.gc_labels(walk.children(data, blob))
        for image in graph.complete_images:
            for layer in image.manifest.layers:
                if layer_types.unreadable(layer.media_type):
                    continue
                if oci.layer_compression(layer.media_type) and layer.digest in labels:
                    uncompressed = self._intake.uncompressed(Digest(layer.digest))
                    if uncompressed:
                        labels[layer.digest] = uncompressed.labels
        return labels


def _loaded_image(found: Found, whole: walk.Graph) -> LoadedImage:
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


__all__ = ["Import", "Loaded", "LoadedImage", "Parts"]

"""Publication: the images of an archive and their blobs become visible in one transaction."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from engine import graph
from engine.archive import pooled_layers
from engine.archive.archive_image import ArchiveImage
from engine.archive.loaded import Loaded, LoadedImage
from engine.archive.members import Members
from engine.errors import ContentMismatch, InvalidInput, LimitExceeded, NotAnImage, NotFound
from engine.graph import Graph
from engine.image import PARENT_LABEL, Image
from engine.spec import media_types as layer_types
from engine.spec import oci, platforms
from engine.spec.digest import Digest
from engine.spec.oci import Descriptor, Platform
from engine.stores.new_tables import new_tables
from engine.stores.protocols import Store


class Publisher(msgspec.Struct, frozen=True):
    """Publishes images out of `members`; `platforms` are the wanted ones, all if it is empty."""

    store: Store
    members: Members
    platforms: tuple[Platform, ...] = ()

    def check_platforms(self, found: Sequence[ArchiveImage]) -> None:
        """Raise NotFound for an image that has none of the wanted platforms.

        Raise NotAnImage if the archive holds artifacts only. An artifact has no platform, and is
        loaded along with the images that have a wanted one.
        """
        wanted = self.platforms
        matcher = platforms.only(*wanted) if wanted else platforms.ALL
        others = [one for one in found if wanted and one.graph.best(matcher) is None]
        images = [one for one in others if graph.graph(self.members, one.graph.root).images]
        for one in images or (others if len(others) == len(found) else ()):
            subject = one.names[0] if one.names else one.graph.root.digest
            if not images and one.graph.artifacts:
                raise NotAnImage(subject, one.graph.artifact_type)
            text = " or ".join(platforms.format_all(platform) for platform in wanted)
            raise NotFound("platform", f"{text} of {subject}")

    def publish(self, found: Sequence[ArchiveImage], parents: Mapping[str, str]) -> Loaded:
        """Publish images with their names; `parents` holds the parent's ID by image ID.

        Raise MissingMember if a blob that only the store held has been collected in the meantime,
        and the errors of the store. Nothing is visible then.
        """
        tables = pooled_layers.tables(self.members.pool, _layers(image.graph for image in found))
        with new_tables(self.store, tables):
            return self._publish(found, parents)

    def _publish(self, found: Sequence[ArchiveImage], parents: Mapping[str, str]) -> Loaded:
        store, pool = self.store, self.members.pool
        graphs = {image.graph.root.digest: image.graph for image in found}
        wholes: dict[str, Graph] = {}
        blobs: dict[str, dict[str, str]] = {}
        for one in graphs.values():
            blobs.update(self._labels(one))
        prepared = pool.prepare(blobs)
        try:
            with store.transaction():
                added = pool.publish(blobs, prepared)
                for digest, one in graphs.items():
                    is_partial = bool(self.platforms or one.missing)
                    whole = graph.graph(store.content, one.root) if is_partial else one
                    wholes[digest] = whole
                    store.images.record(digest, graph.summarize(whole))
                for image in sorted(found, key=_is_unnamed):  # a referrer follows its subject
                    self._create(image, parents)
                for target in store.images.lacking(info.digest for info in added):
                    self._record_again(target)
        except BaseException:
            pool.give_up(prepared)
            raise
        pool.published(blobs)
        return Loaded(
            tuple(LoadedImage.of(image, wholes[image.graph.root.digest]) for image in found),
            len(added),
            sum(info.size for info in added),
        )

    def _create(self, found: ArchiveImage, parents: Mapping[str, str]) -> None:
        images, target = self.store.images, found.graph.root
        configs = [image.manifest.config.digest for image in found.graph.images]
        known = [parents[config] for config in configs if config in parents]
        labels = {PARENT_LABEL: known[0]} if known else {}
        for name in found.names or ("",):
            self.store.events.add("load", target.digest, name)
        for name in found.names:
            images.put(Image(name, target, labels))
        if not (found.names or images.is_named(target.digest)):
            images.put(Image(target.digest, target, labels))

    def _record_again(self, target: Descriptor) -> None:
        """Record what another image has now; the record of one whose own content is wrong stays
        as it is, since the load is not to blame for it.
        """
        try:
            found = graph.graph(self.store.content, target)
        except (ContentMismatch, InvalidInput, LimitExceeded, NotFound):
            return
        self.store.images.record(target.digest, graph.summarize(found))

    def _labels(self, found: Graph) -> dict[str, dict[str, str]]:
        labels: dict[str, dict[str, str]] = {}
        for blob in found.blobs:
            labels[blob.digest] = {}
            if oci.is_document_type(blob.media_type):
                with self.members.open(Digest(blob.digest)) as reader:
                    data = reader.pread(blob.size, 0)
                labels[blob.digest] = graph.gc_labels(graph.children(data, blob))
        for image in found.complete_images:
            for layer in image.manifest.layers:
                if layer_types.unreadable(layer.media_type):
                    continue
                if oci.layer_compression(layer.media_type) and layer.digest in labels:
                    uncompressed = self.members.pool.uncompressed(Digest(layer.digest))
                    if uncompressed:
                        labels[layer.digest] = uncompressed.labels
        return labels


def _is_unnamed(image: ArchiveImage) -> bool:
    return not image.names


def _layers(graphs: Iterable[Graph]) -> Iterator[str]:
    """Yield the digests of the layers that hold files."""
    for found in graphs:
        for image in found.complete_images:
            for layer in image.manifest.layers:
                if not layer_types.unreadable(layer.media_type):
                    yield layer.digest

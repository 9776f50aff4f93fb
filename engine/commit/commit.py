"""The commit of directories as an image in the store.

The order is that of BuildKit's exporter to an image store: the layers of all platforms are created
concurrently, then the configs and manifests; the image and all its names become visible in one
transaction. After a failure the store is as it was.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

import msgspec

from engine.commit import image_writer
from engine.commit.document import Document
from engine.commit.image_writer import InvalidSource, PlatformImage, WriterOptions, Written
from engine.commit.layer_maker import LayerMaker
from engine.commit.layer_progress import LayerProgress
from engine.commit.platform_images import Base, PlatformImages, base_of
from engine.commit.source import CommitOptions, PlatformSource, Progress, Source
from engine.content.writer import Writer
from engine.details import details
from engine.errors import NotFound
from engine.graph import graph, summarize
from engine.image import Image
from engine.layers.layer import Layers
from engine.progress import Done, ignore
from engine.spec import go_json, oci, platforms
from engine.spec.digest import Digest
from engine.spec.oci import Descriptor
from engine.stores.new_tables import new_tables
from engine.stores.protocols import ContentStore, Store


class Committed(msgspec.Struct, frozen=True):
    """The result of a commit; `config` is the digest of its config, "" if it has several."""

    target: Descriptor
    config: str
    names: tuple[str, ...]

    @property
    def image_id(self) -> str:
        """The image ID in docker: the digest of the config if there is exactly one, else of the
        target.
        """
        return self.config or self.target.digest

    def metadata(self) -> dict[str, object]:
        """Return the metadata that build tools expect.

        `containerimage.digest` is the digest of the target, as in docker with the containerd image
        store.
        """
        fields = {
            "containerimage.config.digest": self.config,
            "containerimage.descriptor": json.loads(go_json.dumps(self.target)),
            "containerimage.digest": self.target.digest,
            "image.name": ",".join(self.names),
        }
        return {key: value for key, value in fields.items() if value}


def commit(
    store: Store,
    source: Source,
    names: Sequence[str],
    options: CommitOptions,
    progress: Progress,
    on_bytes: Callable[[Done], object] = ignore,
) -> Committed:
    """Create an image from directories, with these full names. `on_bytes` hears of the bytes of new
    layers before their compression, and of their total as far as it is known.

    Raise InvalidSource, InvalidConfig, InvalidInstruction, InvalidStatement, ChangedFile, OSError,
    StoreReadOnly, or NotFound if the base image lacks one of the wanted platforms.
    """
    store.check_changes()
    bases = [_base(store, source.base, part.platform) for part in source.platforms]
    _check(source)
    with ExitStack() as stack:
        lease = stack.enter_context(store.leases.hold())
        hold = partial(store.leases.add, lease.id)
        maker = LayerMaker(store.content, hold)
        stack.callback(maker.discard)
        for base in filter(None, bases):
            _hold_base(store.content, base, hold)
        layers = Layers(store.content, store.tables, store.directory)
        stack.callback(layers.close)
        made = LayerProgress(progress, on_bytes)
        work = PlatformImages(store.content, layers, maker, options, made)
        images = _images(work, source.platforms, bases, made)
        made.end()
        written = image_writer.write(images, _writer_options(options, names))
        documents = []
        for document in written.documents:
            progress(f"exporting {document.noun} {document.descriptor.digest}", 0)
            writer = _store(store.content, document)
            stack.callback(writer.abort)
            documents.append((writer, dict(document.labels)))
        progress(f"writing image {written.target.digest}", 0)
        _publish(store, maker, written, documents, names)
        for name in names:
            progress(f"naming to {name}", 0)
    return Committed(written.target, written.config, tuple(names))


def _images(
    work: PlatformImages,
    parts: Sequence[PlatformSource],
    bases: Sequence[Base | None],
    made: LayerProgress,
) -> list[PlatformImage]:
    """Return the images of the platforms, created concurrently if there are several.

    If one fails, or a signal interrupts this thread, `made` stops the others.
    """
    if len(parts) == 1:
        return [*map(work.image, parts, bases)]
    from concurrent import futures  # slow to import

    with futures.ThreadPoolExecutor(len(parts)) as pool:
        try:
            begun = [pool.submit(work.image, *each) for each in zip(parts, bases, strict=True)]
            ended = futures.wait(begun, return_when=futures.FIRST_EXCEPTION).done
            return [image.result() for image in begun if image in ended]
        except BaseException:
            made.stop()
            raise


def _base(store: Store, name: str, platform: oci.Platform | None) -> Base | None:
    if not name:
        return None
    matcher = platforms.only(platform) if platform else None
    return base_of(store.content, name, details(store, name, matcher).manifest)


def _check(source: Source) -> None:
    if not source.platforms:
        raise InvalidSource("an image needs at least one platform")
    chosen = [part.platform for part in source.platforms]
    if len(chosen) > 1 and None in chosen:
        raise InvalidSource("unable to export multiple refs, missing platforms mapping")
    known = [platforms.format_all(platform) for platform in chosen if platform]
    if len(set(known)) < len(known):
        raise InvalidSource(f"a platform is given twice: {', '.join(known)}")


def _writer_options(options: CommitOptions, names: Sequence[str]) -> WriterOptions:
    return WriterOptions(
        options.is_oci, options.keep_empty_layers, options.epoch, options.annotations, tuple(names)
    )


def _hold_base(content: ContentStore, base: Base, hold: Callable[[Digest], None]) -> None:
    """Lease the blobs of the base image; raise NotFound if one has been collected."""
    wanted = (base.manifest.config, *base.manifest.layers)
    for descriptor in wanted:
        hold(Digest(descriptor.digest))
    held = content.sizes(descriptor.digest for descriptor in wanted)
    for descriptor in wanted:
        if descriptor.digest not in held and not oci.is_nondistributable(descriptor.media_type):
            raise NotFound("blob of the base image", descriptor.digest)


def _store(content: ContentStore, document: Document) -> Writer:
    writer = content.unnamed_writer(document.descriptor.size, document.descriptor.digest)
    try:
        writer.write(document.data)
    except BaseException:
        writer.abort()
        raise
    return writer


def _publish(
    store: Store,
    maker: LayerMaker,
    written: Written,
    documents: Sequence[tuple[Writer, dict[str, str]]],
    names: Sequence[str],
) -> None:
    target = written.target
    with new_tables(store, maker.tables()):
        writers = [*maker.writers(), *documents]
        store.content.prepare(writer for writer, _ in writers)
        with store.transaction():
            store.content.publish(writers)
            store.images.record(target.digest, summarize(graph(store.content, target)))
            for name in names or ("",):
                store.events.add("commit", target.digest, name)
            for name in names:
                store.images.put(Image(name, target))
            if not store.images.is_named(target.digest):
                store.images.put(Image(target.digest, target))

"""The config, manifests and index of a new image, as BuildKit's image writer creates them.

All functions are pure: from layers and configs to documents. Manifests and indexes are indented by
two spaces, configs are compact. Layers may have media types of OCI or Docker, and are converted to
those of the image.
"""

from collections.abc import Sequence

import msgspec

from engine.commit import annotations, attestations
from engine.commit import config as configs
from engine.commit import epoch as epochs
from engine.commit import history as histories
from engine.commit.annotations import Annotation
from engine.commit.document import Document
from engine.commit.history import LayerNote
from engine.errors import InvalidInput
from engine.graph import gc_labels
from engine.spec import media_types as layer_types
from engine.spec import oci
from engine.spec.digest import of_bytes
from engine.spec.oci import Descriptor, History, Index, Manifest, Platform

EMPTY_DIFF_ID = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
"""The diff ID of an empty tar: two blocks of zeros."""
_INTERNAL = ("containerd.io/uncompressed", "buildkit/createdat")
_SOURCES = "containerd.io/distribution.source."


class InvalidSource(InvalidInput):
    """Input from which no image can be created; its text is the message."""


class WrittenLayer(msgspec.Struct, frozen=True):
    """A layer: the descriptor of its blob, its diff ID, and its note for the history."""

    descriptor: Descriptor
    diff_id: str
    note: LayerNote


class PlatformImage(msgspec.Struct, frozen=True):
    """The image for one platform: the layers, lowest first, and the config before it is completed.

    `base_history` is the part of the history that an epoch leaves unchanged; `steps` follow the
    history of the config and the layers. `statements` are in-toto statements.
    """

    platform: Platform
    layers: tuple[WrittenLayer, ...]
    config: bytes = b""
    base_history: tuple[History, ...] = ()
    inline_cache: bytes | None = None
    statements: tuple[bytes, ...] = ()
    steps: tuple[History, ...] = ()


class WriterOptions(msgspec.Struct, frozen=True):
    """`epoch` is SOURCE_DATE_EPOCH in seconds since 1970; `names` are the full names of the image,
    which are also the subjects of attestations.
    """

    is_oci: bool = True
    keep_empty_layers: bool = False
    epoch: int | None = None
    annotations: tuple[Annotation, ...] = ()
    names: tuple[str, ...] = ()


class Written(msgspec.Struct, frozen=True):
    """The documents of an image.

    `target` is the descriptor that its names refer to; `config` is the digest of its config, "" if
    it has several.
    """

    target: Descriptor
    config: str
    documents: tuple[Document, ...]


def write(images: Sequence[PlatformImage], options: WriterOptions) -> Written:
    """Return the documents of an image.

    The target is an index for several platforms or with attestations, else a manifest. Raise
    InvalidSource, InvalidConfig or InvalidStatement.
    """
    if not images:
        raise InvalidSource("an image needs at least one platform")
    _check(images, options)
    written = [_manifest(image, options) for image in images]
    documents = tuple(document for parts in written for document in parts)
    manifests = [parts[-1].descriptor for parts in written]
    config = written[0][0].descriptor.digest if len(images) == 1 else ""
    attested = [
        attestations.manifest(
            manifest, attestations.about(image.statements, manifest, image.platform, options.names)
        )
        for manifest, image in zip(manifests, images, strict=True)
        if image.statements
    ]
    if len(images) == 1 and not attested:
        return Written(manifests[0], config, documents)
    documents += tuple(document for parts in attested for document in parts)
    entries = (
        *(
            msgspec.structs.replace(manifest, platform=image.platform)
            for manifest, image in zip(manifests, images, strict=True)
        ),
        *(parts[-1].descriptor for parts in attested),
    )
    index = Index(
        schema_version=2,
        media_type=oci.INDEX if options.is_oci else oci.DOCKER_MANIFEST_LIST,
        manifests=entries,
        annotations=annotations.chosen(options.annotations, annotations.INDEX),
    )
    noted = annotations.chosen(options.annotations, annotations.INDEX_DESCRIPTOR)
    document = Document.of(index, gc_labels(entries)).described(noted)
    return Written(document.descriptor, config, (*documents, document))


def _manifest(image: PlatformImage, options: WriterOptions) -> tuple[Document, Document]:
    """Return the config and the manifest for one platform."""
    config = image.config or configs.default_config(image.platform)
    configs.check(config)
    given = configs.history_of(config)
    history = histories.normalized(given, _notes(image, options))
    layers = image.layers
    if not options.keep_empty_layers:
        empty = {n for n, layer in enumerate(layers) if layer.diff_id == EMPTY_DIFF_ID}
        history = histories.without_layers(history, empty)
        layers = tuple(layer for n, layer in enumerate(layers) if n not in empty)
    history = (*history, *image.steps)
    if options.epoch is not None:
        of_base = history[: epochs.shared(given, image.base_history)]
        history = epochs.clamp_history(history, of_base, options.epoch)
        config = epochs.clamp_created(config, options.epoch)
    data = configs.patched(config, [layer.diff_id for layer in layers], history, image.inline_cache)
    config_type = oci.CONFIG if options.is_oci else oci.DOCKER_CONFIG
    described = Descriptor(config_type, of_bytes(data), len(data))
    manifest = Manifest(
        schema_version=2,
        media_type=oci.MANIFEST if options.is_oci else oci.DOCKER_MANIFEST,
        config=described,
        layers=tuple(_converted(layer.descriptor, options.is_oci) for layer in layers),
        annotations=annotations.chosen(options.annotations, annotations.MANIFEST, image.platform),
    )
    document = Document.of(manifest, gc_labels((described, *manifest.layers)))
    noted = annotations.chosen(options.annotations, annotations.MANIFEST_DESCRIPTOR, image.platform)
    return Document(described, data), document.described(noted)


def _notes(image: PlatformImage, options: WriterOptions) -> list[LayerNote]:
    notes = [layer.note for layer in image.layers]
    if options.epoch is None:
        return notes
    return [epochs.clamp_note(note, options.epoch) for note in notes]


def _converted(layer: Descriptor, is_oci: bool) -> Descriptor:
    """Return a layer with a media type of the image's kind, as BuildKit does.

    The annotations internal to its store are removed, and with Docker's media types all
    annotations.
    """
    if not is_oci:
        media_type = layer_types.as_docker(layer.media_type)
        return msgspec.structs.replace(layer, media_type=media_type, annotations={})
    kept = {
        key: value
        for key, value in layer.annotations.items()
        if key not in _INTERNAL and not key.startswith(_SOURCES)
    }
    media_type = layer_types.as_oci(layer.media_type)
    return msgspec.structs.replace(layer, media_type=media_type, annotations=kept)


def _check(images: Sequence[PlatformImage], options: WriterOptions) -> None:
    """Raise InvalidSource for options that BuildKit refuses."""
    attested = any(image.statements for image in images)
    if attested and not options.is_oci:
        raise InvalidSource("attestations need OCI's media types")
    for noted in options.annotations:
        if not options.is_oci and noted.level != annotations.MANIFEST:
            raise InvalidSource(f"{noted.level} annotations need OCI's media types")
        if noted.level in annotations.OF_INDEX and len(images) == 1 and not attested:
            raise InvalidSource(f"{noted.level} annotations need an image of several platforms")
        if not any(noted.is_for(image.platform) for image in images):
            raise InvalidSource(f"the image has not the platform of annotation {noted.key}")

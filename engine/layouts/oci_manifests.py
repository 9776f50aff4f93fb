"""A layout in which Docker manifests (schema 2) and manifest lists are replaced by OCI ones.

Tools that read an OCI layout by path (umoci, buildah, older skopeo) reject Docker's media types.
The replacements refer to the same config and layers: the image ID is the same, the digests of
manifests and indexes differ. They are reproducible, since they depend only on the manifests and on
which of the manifests of an index are stored. OCI manifests are unchanged.
"""

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from engine.content.blobs import read_blob
from engine.errors import InvalidDocument, LimitExceeded
from engine.graph import MAX_DEPTH, Blobs
from engine.layers.diff_ids import compression_of
from engine.layouts.entry import Entry
from engine.spec import digest, oci
from engine.spec import media_types as layer_types
from engine.spec.digest import Digest
from engine.spec.oci import Descriptor

_INDEX = oci.INDEX_FILE
_SUFFIXES = {"gzip": "+gzip", "zstd": "+zstd"}


def with_oci_manifests(entries: Sequence[Entry], blobs: Blobs) -> tuple[Entry, ...]:
    """Return the entries of an OCI layout, sorted by path, with OCI manifests in place of Docker's.

    Only manifests and indexes are read, and the first bytes of layers whose media type does not
    declare their compression. Raise InvalidDocument, LimitExceeded, SizeMismatch or DigestMismatch
    if one of them does not match its descriptor.
    """
    by_path = {entry.path: entry for entry in entries}
    data = by_path[_INDEX].content
    assert isinstance(data, bytes)
    index = oci.parse_index(data, _INDEX)
    conversion = _Conversion(blobs)
    manifests = conversion.descriptors(index.manifests, 0)
    if manifests == index.manifests:
        return tuple(entries)
    made = [document.entry for path, document in conversion.made.items() if path in by_path]
    for path in conversion.made.keys() - conversion.kept:
        by_path.pop(path, None)
    for entry in made:
        by_path.setdefault(entry.path, entry)
    parent = by_path["blobs"]
    by_path.setdefault("blobs/sha256", replace(parent, path="blobs/sha256"))
    rendered = oci.render(replace(index, manifests=manifests))
    by_path[_INDEX] = replace(by_path[_INDEX], content=rendered, size=len(rendered))
    return tuple(by_path[path] for path in sorted(by_path))


class _Document(msgspec.Struct, frozen=True):
    """A manifest or index that replaces another."""

    media_type: str
    data: bytes

    @property
    def digest(self) -> Digest:
        return digest.of_bytes(self.data)

    @property
    def entry(self) -> Entry:
        path = Entry.blob_path(self.digest)
        return replace(Entry.file(path, 0o444, 0, self.data), media_type=self.media_type)


class _Conversion:
    """The replacements of the manifests and indexes of one layout, each created once."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._known: dict[tuple[str, str], _Document | None] = {}

    @property
    def made(self) -> dict[str, _Document]:
        """The replacements, by the paths of the documents that they replace."""
        return {_path(key): made for key, made in self._known.items() if made is not None}

    @property
    def kept(self) -> set[str]:
        """The paths of manifests and indexes that are unchanged."""
        return {_path(key) for key, made in self._known.items() if made is None}

    def descriptors(self, refs: Sequence[Descriptor], depth: int) -> tuple[Descriptor, ...]:
        """Return the converted descriptors of an index; raise LimitExceeded if it is nested too
        deeply.

        An attestation refers to the replacement of its manifest.
        """
        if refs and depth > MAX_DEPTH:
            raise LimitExceeded(refs[0].digest, "nested indexes", MAX_DEPTH, depth)
        found = ((ref.digest, self._document(ref, depth)) for ref in refs)
        made = {digest: document for digest, document in found if document is not None}
        if not made:
            return tuple(refs)
        return tuple(_shown(ref, made) for ref in refs)

    def _document(self, ref: Descriptor, depth: int) -> _Document | None:
        key = ref.digest, ref.media_type
        if key not in self._known:
            may_change = ref.media_type == oci.DOCKER_MANIFEST or oci.is_index_type(ref.media_type)
            self._known[key] = self._make(ref, depth) if may_change and self._holds(ref) else None
        return self._known[key]

    def _make(self, ref: Descriptor, depth: int) -> _Document | None:
        subject = f"manifest {ref.digest}"
        if oci.is_index_type(ref.media_type):
            return self._index(ref, oci.parse_index(self._read(ref, subject), subject), depth)
        return self._manifest(oci.parse_manifest(self._read(ref, subject), subject))

    def _index(self, ref: Descriptor, index: oci.Index, depth: int) -> _Document | None:
        manifests = self.descriptors(index.manifests, depth + 1)
        if ref.media_type == oci.INDEX and manifests == index.manifests:
            return None
        shown = replace(index, schema_version=2, media_type=oci.INDEX, manifests=manifests)
        return _Document(oci.INDEX, oci.render(shown))

    def _manifest(self, manifest: oci.Manifest) -> _Document:
        is_image = self._is_image(manifest)
        config_type = oci.CONFIG if is_image else manifest.config.media_type
        shown = replace(
            manifest,
            schema_version=2,
            media_type=oci.MANIFEST,
            config=replace(manifest.config, media_type=config_type),
            layers=tuple(self._layer(layer) for layer in manifest.layers),
        )
        return _Document(oci.MANIFEST, oci.render(shown))

    def _is_image(self, manifest: oci.Manifest) -> bool:
        """Return whether the config is an image's, by its content if its media type is unknown."""
        ref = manifest.config
        if oci.is_config_type(ref.media_type):
            return True
        if not self._holds(ref):
            return False
        subject = f"config {ref.digest}"
        try:
            config = oci.parse_config(self._read(ref, subject), subject)
        except (InvalidDocument, LimitExceeded):
            return False
        return 0 < len(config.rootfs.diff_ids) == len(manifest.layers)

    def _layer(self, layer: Descriptor) -> Descriptor:
        media_type = layer_types.as_oci(layer.media_type)
        if oci.layer_compression(layer.media_type) == "unknown" and self._holds(layer):
            with self._blobs.open(layer.digest) as reader:
                found = compression_of(reader)
            media_type += _SUFFIXES.get(found, "")
        return replace(layer, media_type=media_type)

    def _holds(self, ref: Descriptor) -> bool:
        return bool(self._blobs.sizes([ref.digest]))

    def _read(self, ref: Descriptor, subject: str) -> bytes:
        return read_blob(self._blobs, Digest(ref.digest), ref.size, subject=subject)


def _path(key: tuple[str, str]) -> str:
    return Entry.blob_path(Digest(key[0]))


def _shown(ref: Descriptor, made: dict[str, _Document]) -> Descriptor:
    attested = made.get(ref.annotations.get(oci.REFERENCE_DIGEST, ""))
    if attested is not None:
        ref = replace(ref, annotations=ref.annotations | {oci.REFERENCE_DIGEST: attested.digest})
    document = made.get(ref.digest)
    if document is None:
        return ref
    return replace(
        ref,
        media_type=document.media_type,
        digest=document.digest,
        size=len(document.data),
        data="",
    )

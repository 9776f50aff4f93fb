"""The parts of manifests, indexes and configs that a load keeps, within limits."""

import sys
from collections.abc import Callable

from engine.errors import LimitExceeded
from engine.graph import Documents
from engine.limits import DOCUMENT_BYTES
from engine.spec import oci
from engine.spec.oci import Descriptor, ImageConfig, Manifest, Platform, RootFS

# The approximate memory in bytes of what is kept.
_STRUCT = 300
"""A value that is kept of a document."""
_BLOB = 450
"""A blob that is named; it may be missing."""
_CHILD = 260
"""A reference to a blob, and the label that is made of it."""
_DIFF_ID = 16
"""A reference to a diff ID."""
_REFERENCE = 8


class ArchiveDocuments(Documents):
    """The documents of an archive, reduced to the parts that a publication needs; equal parts are
    kept once.
    """

    def __init__(self, most: int) -> None:
        """`most` is the largest amount of memory that is kept, in bytes."""
        super().__init__()
        self._most = most
        self._read = 0
        self._kept = 0
        self._descriptors: dict[tuple[str, str, int], Descriptor] = {}
        self._diff_ids: dict[str, str] = {}
        self._checked: set[str] = set()

    def begin(self) -> None:
        """Begin another load of the same archive, which may read as much again."""
        self._read = 0

    def note(self, size: int) -> None:
        """Note that a document of so many bytes is parsed or made; raise LimitExceeded."""
        self._read += size
        if self._read > DOCUMENT_BYTES:
            raise LimitExceeded("archive", "bytes of documents", DOCUMENT_BYTES, self._read)

    def check_once(self, digest: str, check: Callable[[], object]) -> None:
        """Call `check` for a document that has not passed it yet."""
        if digest not in self._checked:
            check()
            self._checked.add(digest)

    def kept_entries(self, found: tuple[Descriptor, ...]) -> tuple[Descriptor, ...]:
        return tuple(map(self._entry, found))

    def kept_manifest(self, found: Manifest) -> Manifest:
        self._keep(_STRUCT + _size_of(found.media_type, found.artifact_type))
        return Manifest(
            schema_version=found.schema_version,
            media_type=found.media_type,
            artifact_type=found.artifact_type,
            config=self._shared(found.config),
            layers=tuple(map(self._shared, found.layers)),
            subject=found.subject and self._shared(found.subject),
        )

    def kept_config(self, found: ImageConfig) -> ImageConfig:
        last = found.history[-1].created if found.history else ""
        kept = ImageConfig(
            created=found.created or last,
            architecture=found.architecture,
            os=found.os,
            os_version=found.os_version,
            os_features=found.os_features,
            variant=found.variant,
            rootfs=RootFS(found.rootfs.type, tuple(map(self._diff_id, found.rootfs.diff_ids))),
        )
        self._keep(_STRUCT + _size_of(kept.created, kept.rootfs.type, *_texts(kept.platform)))
        return kept

    def _entry(self, found: Descriptor) -> Descriptor:
        """Return an entry of an index without what only its readers need."""
        names = (oci.REFERENCE_TYPE, oci.REFERENCE_DIGEST)
        annotations = {name: found.annotations[name] for name in names if name in found.annotations}
        platform = _texts(found.platform) if found.platform else ()
        self._keep(_STRUCT + _size_of(found.media_type, *annotations.values(), *platform))
        return Descriptor(
            found.media_type,
            found.digest,
            found.size,
            annotations=annotations,
            platform=found.platform,
        )

    def _shared(self, found: Descriptor) -> Descriptor:
        """Return the descriptor of a config or layer, the same one for equal blobs."""
        key = sys.intern(found.media_type), found.digest, found.size
        if key not in self._descriptors:
            self._keep(_BLOB + sys.getsizeof(found.media_type) + len(found.digest))
            self._descriptors[key] = Descriptor(*key)
        self._keep(_CHILD)
        return self._descriptors[key]

    def _diff_id(self, text: str) -> str:
        if text not in self._diff_ids:
            self._keep(_STRUCT + sys.getsizeof(text))
            self._diff_ids[text] = text
        self._keep(_DIFF_ID)
        return self._diff_ids[text]

    def _keep(self, size: int) -> None:
        self._kept += size
        if self._kept > self._most:
            what = "bytes of what its manifests and configs name"
            raise LimitExceeded("archive", what, self._most, self._kept)


def _texts(platform: Platform) -> tuple[str, ...]:
    """Return the texts that a platform consists of."""
    texts = (*platform.os_features, platform.architecture, platform.os)
    return (*texts, platform.os_version, platform.variant)


def _size_of(*texts: str) -> int:
    """Return the memory in bytes of texts and of the references to them."""
    return _REFERENCE * len(texts) + sum(map(sys.getsizeof, filter(None, texts)))

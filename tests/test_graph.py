"""The graph below a descriptor."""

from collections.abc import Iterable, Mapping

import pytest

from engine.content.blobs import DOCUMENT_LIMIT
from engine.content.protocols import ReaderAt
from engine.errors import InvalidDocument, LimitExceeded, NotFound, SizeMismatch
from engine.graph import MAX_DEPTH, Documents, children, gc_labels, graph, summarize
from engine.spec import platforms
from engine.spec.oci import Descriptor, ImageConfig, Platform
from tests import archives
from tests.archives import OCI_INDEX, OCI_MANIFEST, ImageParts, descriptor, to_json

APP = ImageParts(layers=[archives.layer("a"), archives.layer("b")])
ARM = ImageParts(layers=[archives.layer("a"), archives.layer("arm")], architecture="arm64")


class Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def pread(self, length: int, offset: int) -> bytes:
        return self._data[offset : offset + length]

    def fileno(self) -> None:
        """Return None: it is in memory."""

    def close(self) -> None:
        """Nothing to close."""

    def __enter__(self) -> "Reader":  # noqa: PYI034 (a fake)
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""


class Memory:
    """Blobs in memory."""

    def __init__(self, *blobs: bytes) -> None:
        self._blobs = {archives.digest(blob): blob for blob in blobs}

    def open(self, digest: str) -> ReaderAt:
        if digest not in self._blobs:
            raise NotFound("blob", digest)
        return Reader(self._blobs[digest])

    def sizes(self, digests: Iterable[str]) -> Mapping[str, int]:
        return {d: len(self._blobs[d]) for d in digests if d in self._blobs}


def target(data: bytes, media_type: str) -> Descriptor:
    return Descriptor(media_type, archives.digest(data), len(data))


def index(*parts: ImageParts) -> bytes:
    manifests = [
        descriptor(
            p.manifest(), OCI_MANIFEST, platform={"architecture": p.architecture, "os": p.os}
        )
        for p in parts
    ]
    return to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests})


def digests(found: Iterable[Descriptor]) -> list[str]:
    return [blob.digest for blob in found]


def test_a_manifest_then_config_then_layers() -> None:
    found = graph(Memory(*APP.blobs()), target(APP.manifest(), OCI_MANIFEST))
    assert digests(found.blobs) == [archives.digest(blob) for blob in APP.blobs()]
    assert found.missing == ()
    (image,) = found.images
    assert image.platform == Platform("amd64", "linux")


def test_an_index_in_order_and_each_blob_once() -> None:
    document = index(APP, ARM)
    found = graph(Memory(document, *APP.blobs(), *ARM.blobs()), target(document, OCI_INDEX))
    wanted = [document, *APP.blobs(), *ARM.blobs()]
    assert digests(found.blobs) == list(dict.fromkeys(archives.digest(blob) for blob in wanted))
    assert [str(i.platform and i.platform.architecture) for i in found.images] == ["amd64", "arm64"]


def test_a_platform_narrows_an_index() -> None:
    document = index(APP, ARM)
    blobs = Memory(document, *APP.blobs(), *ARM.blobs())
    matcher = platforms.any_of(Platform("arm64", "linux"))
    found = graph(blobs, target(document, OCI_INDEX), matcher)
    assert digests(found.blobs) == [archives.digest(b) for b in (document, *ARM.blobs())]


def test_an_incomplete_manifest_keeps_itself_and_drops_its_children() -> None:
    document = index(APP, ARM)
    found = graph(
        Memory(document, *APP.blobs(), ARM.manifest(), ARM.config), target(document, OCI_INDEX)
    )
    assert digests(found.blobs) == [
        archives.digest(b) for b in (document, *APP.blobs(), ARM.manifest())
    ]
    assert digests(found.missing) == [archives.digest(ARM.layers[1])]
    assert [image.missing == () for image in found.images] == [True, False]


def test_an_absent_root() -> None:
    root = target(APP.manifest(), OCI_MANIFEST)
    found = graph(Memory(), root)
    assert (found.blobs, found.missing) == ((), (root,))


def test_a_layer_that_may_not_be_distributed_is_not_missing() -> None:
    foreign = descriptor(
        b"elsewhere", "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    )
    manifest = to_json(
        {
            "schemaVersion": 2,
            "config": descriptor(APP.config, archives.OCI_CONFIG),
            "layers": [foreign],
        }
    )
    found = graph(Memory(manifest, APP.config), target(manifest, OCI_MANIFEST))
    assert found.missing == ()
    assert len(found.complete_images) == 1


def test_an_attestation_is_no_image() -> None:
    annotations = {"vnd.docker.reference.type": "attestation-manifest"}
    entry = descriptor(ARM.manifest(), OCI_MANIFEST, annotations=annotations)
    document = to_json({"schemaVersion": 2, "manifests": [entry]})
    found = graph(Memory(document, *ARM.blobs()), target(document, OCI_INDEX))
    assert found.images == ()
    assert found.artifacts == ()
    assert archives.digest(ARM.manifest()) in digests(found.blobs)
    assert archives.digest(ARM.config) in digests(found.blobs)


def test_sizes_must_agree() -> None:
    with pytest.raises(SizeMismatch, match="expected 5"):
        graph(Memory(APP.manifest()), Descriptor(OCI_MANIFEST, archives.digest(APP.manifest()), 5))


def test_a_manifest_that_is_an_index_is_refused() -> None:
    document = index(APP)
    with pytest.raises(InvalidDocument):
        graph(Memory(document), target(document, OCI_MANIFEST))


def test_deep_nesting_ends() -> None:
    blobs = [index(APP)]
    for _ in range(MAX_DEPTH + 2):
        entry = descriptor(blobs[-1], OCI_INDEX)
        blobs.append(to_json({"schemaVersion": 2, "manifests": [entry]}))
    with pytest.raises(LimitExceeded, match="nested"):
        graph(Memory(*blobs, *APP.blobs()), target(blobs[-1], OCI_INDEX))


def test_sharing_does_not_multiply() -> None:
    blobs = [index(APP)]
    for level in range(10):
        entries = [descriptor(blobs[-1], OCI_INDEX, annotations={"n": str(i)}) for i in range(10)]
        blobs.append(
            to_json({"schemaVersion": 2, "manifests": entries, "annotations": {"l": str(level)}})
        )
    found = graph(Memory(*blobs, *APP.blobs()), target(blobs[-1], OCI_INDEX))
    assert len(found.blobs) == len(blobs) + 4


def artifact_over(*layers: bytes) -> bytes:
    """An artifact whose layers are these documents."""
    return to_json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(b"{}", "application/vnd.oci.empty.v1+json"),
            "layers": [descriptor(layer, "application/json") for layer in layers],
        }
    )


@pytest.mark.parametrize("comes_first", [True, False])
def test_an_image_whose_manifest_is_a_layer_of_an_artifact(comes_first: bool) -> None:
    wrapped = artifact_over(APP.manifest())
    entries = [descriptor(wrapped, OCI_MANIFEST), descriptor(APP.manifest(), OCI_MANIFEST)]
    document = to_json({"schemaVersion": 2, "manifests": entries if comes_first else entries[::-1]})
    blobs = Memory(document, wrapped, b"{}", *APP.blobs())
    found = graph(blobs, target(document, OCI_INDEX))
    wanted = {archives.digest(blob) for blob in (document, wrapped, b"{}", *APP.blobs())}
    assert set(digests(found.blobs)) == wanted
    assert [image.descriptor.digest for image in found.complete_images] == [
        archives.digest(APP.manifest())
    ]
    types = {blob.digest: blob.media_type for blob in found.blobs}
    assert types[archives.digest(APP.manifest())] == OCI_MANIFEST


OTHER_CONFIG = "application/vnd.example.config"


def other_image(config: bytes) -> bytes:
    """A manifest whose config has another media type than that of an image."""
    layers = [descriptor(layer, archives.OCI_LAYER) for layer in APP.layers]
    described = descriptor(config, OTHER_CONFIG)
    return to_json({"schemaVersion": 2, "config": described, "layers": layers})


class Limited(Documents):
    """Documents that exceed a limit once one of their configs is read, or is to be kept."""

    def __init__(self, note: int, keep: bool) -> None:
        super().__init__()
        self._note, self._keep = note, keep

    def note(self, size: int) -> None:
        if size == self._note:
            raise LimitExceeded("archive", "bytes", 1, size)

    def kept_config(self, found: ImageConfig) -> ImageConfig:
        if self._keep:
            raise LimitExceeded("archive", "bytes", 1, 2)
        return found


@pytest.mark.parametrize(
    "documents", [Limited(len(APP.config), False), Limited(0, True)], ids=["read", "kept"]
)
def test_a_limit_of_documents_holds_for_a_config_of_another_media_type(
    documents: Documents,
) -> None:
    manifest = other_image(APP.config)
    blobs = Memory(manifest, *APP.blobs())
    with pytest.raises(LimitExceeded, match="archive"):
        graph(blobs, target(manifest, OCI_MANIFEST), documents=documents)
    assert len(graph(blobs, target(manifest, OCI_MANIFEST)).images) == 1


@pytest.mark.parametrize("config", [b"model", bytes(DOCUMENT_LIMIT + 1)], ids=["text", "large"])
def test_a_document_of_another_media_type_that_is_no_config(config: bytes) -> None:
    manifest = other_image(config)
    blobs = Memory(manifest, config, *APP.layers)
    found = graph(
        blobs, target(manifest, OCI_MANIFEST), documents=Limited(DOCUMENT_LIMIT + 1, True)
    )
    assert (len(found.images), len(found.artifacts)) == (0, 1)


class Counted(Documents):
    """Documents that count those that are read."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def note(self, size: int) -> None:
        self.sizes.append(size)


def test_a_document_is_read_once() -> None:
    document = index(APP, ARM)
    blobs = Memory(document, *APP.blobs(), *ARM.blobs())
    documents = Counted()
    first = graph(blobs, target(document, OCI_INDEX), documents=documents)
    assert graph(blobs, target(document, OCI_INDEX), documents=documents) == first
    assert len(documents.sizes) == 5


def test_children_of_what_has_none() -> None:
    assert children(b"x", Descriptor(archives.OCI_LAYER, archives.digest(b"x"), 1)) == ()


def test_gc_labels_count_children() -> None:
    refs = children(APP.manifest(), target(APP.manifest(), OCI_MANIFEST))
    assert gc_labels(refs) == {
        f"containerd.io/gc.ref.content.{i}": archives.digest(blob)
        for i, blob in enumerate(APP.blobs()[1:])
    }


def test_a_summary() -> None:
    document = index(APP, ARM)
    found = graph(Memory(document, *APP.blobs()), target(document, OCI_INDEX))
    summary = summarize(found)
    assert summary.created == 1706933106
    assert set(summary.blobs) == {archives.digest(b) for b in (document, *APP.blobs())}
    (manifest,) = summary.manifests
    assert (manifest.config, manifest.platform) == (APP.id, "linux/amd64")
    assert manifest.size == sum(len(blob) for blob in APP.blobs())

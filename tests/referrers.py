"""Images with what refers to them, for tests."""

from tests.archives import (
    OCI_MANIFEST,
    ImageParts,
    descriptor,
    digest,
    oci_members,
    tar,
    to_json,
)

EMPTY = "application/vnd.oci.empty.v1+json"
SIGNATURE, SBOM = "application/vnd.example.signature", "application/spdx+json"


def artifact(kind: str, subject: bytes, content: bytes) -> bytes:
    """Return the manifest of an artifact that refers to the manifest `subject`."""
    return to_json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": kind,
            "config": descriptor(b"{}", EMPTY),
            "layers": [descriptor(content, "application/octet-stream")],
            "subject": descriptor(subject, OCI_MANIFEST),
            "annotations": {"org.example.kind": kind},
        }
    )


class Signed:
    """An image, its SBOM, and a signature of each."""

    def __init__(self, image: ImageParts | None = None) -> None:
        self.image = image or ImageParts()
        self.sbom = artifact(SBOM, self.image.manifest(), b"an SBOM")
        self.signature = artifact(SIGNATURE, self.image.manifest(), b"a signature")
        self.of_sbom = artifact(SIGNATURE, self.sbom, b"a signature of the SBOM")

    @property
    def artifacts(self) -> list[bytes]:
        """The manifests of what refers to the image."""
        return [self.sbom, self.signature, self.of_sbom]

    @property
    def digests(self) -> set[str]:
        return {digest(each) for each in self.artifacts}

    def archive(self, name: str) -> bytes:
        """Return an OCI archive in which the referrers come before the image."""
        contents = (b"{}", b"an SBOM", b"a signature", b"a signature of the SBOM")
        named = {"io.containerd.image.name": name}
        entries = [
            *(descriptor(each, OCI_MANIFEST) for each in self.artifacts),
            descriptor(self.image.manifest(), OCI_MANIFEST, annotations=named),
        ]
        blobs = [*self.image.blobs(), *self.artifacts, *contents]
        return tar(oci_members(entries, blobs))

"""A document of a new image."""

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from engine.spec import go_json, oci
from engine.spec.digest import of_bytes
from engine.spec.oci import Descriptor, Index, Manifest, Platform


class Document(msgspec.Struct, frozen=True):
    """A blob to be stored: its descriptor, its bytes, and the labels that protect the blobs it
    refers to.
    """

    descriptor: Descriptor
    data: bytes
    labels: Mapping[str, str] = msgspec.field(default_factory=dict)

    @property
    def noun(self) -> str:
        """The kind of the document: "manifest list", "manifest", "config" or "attestation"."""
        media_type = self.descriptor.media_type
        if oci.is_index_type(media_type):
            return "manifest list"
        if oci.is_manifest_type(media_type):
            return "manifest"
        return "config" if oci.is_config_type(media_type) else "attestation"

    @classmethod
    def of(cls, value: Manifest | Index, labels: Mapping[str, str]) -> "Document":
        """Return a manifest or index as a document, indented as BuildKit indents it."""
        data = go_json.dumps_indented(value)
        return cls(Descriptor(value.media_type, of_bytes(data), len(data)), data, labels)

    def described(
        self, annotations: Mapping[str, str], platform: Platform | None = None
    ) -> "Document":
        """Return the document with these annotations and this platform in its descriptor."""
        said = dict(sorted(annotations.items()))
        descriptor = replace(self.descriptor, annotations=said, platform=platform)
        return replace(self, descriptor=descriptor)

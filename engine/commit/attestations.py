"""Attestations of an image: in-toto statements as the layers of a separate manifest.

They are written as BuildKit writes them: the platform of the manifest is unknown/unknown, its
annotations refer to the attested manifest, and its config holds only the digests of the statements.
"""

from collections.abc import Sequence
from urllib.parse import quote

import msgspec

from engine.commit.document import Document
from engine.errors import InvalidText
from engine.graph import gc_labels
from engine.spec import digest as digests
from engine.spec import go_json, oci, platforms, reference
from engine.spec.digest import of_bytes
from engine.spec.oci import Descriptor, Manifest, Platform

PREDICATE_TYPE = "in-toto.io/predicate-type"
UNKNOWN = Platform("unknown", "unknown")


class InvalidStatement(InvalidText):
    """A document that is not an in-toto statement; `reason` explains why."""

    noun = ""

    def __init__(self, reason: str) -> None:
        super().__init__("attestation", reason)


class _Statement(msgspec.Struct, frozen=True):
    kind: str = msgspec.field(name="_type")
    predicate_type: str = msgspec.field(name="predicateType")
    subject: list[msgspec.Raw] | None = None


class _Config(msgspec.Struct, frozen=True):
    architecture: str
    os: str
    config: dict[str, str] | None
    rootfs: oci.RootFS


def about(
    statements: Sequence[bytes], target: Descriptor, platform: Platform, names: Sequence[str]
) -> list[bytes]:
    """Return the statements, with the image as the subject of those that have none.

    The subject is the names of the image as package URLs. Raise InvalidStatement.
    """
    digest = digests.parse(target.digest)
    subjects: list[dict[str, object]] = [
        {"name": name, "digest": {digest.algorithm: digest.encoded}}
        for name in [_package_url(name, platform) for name in names] or ["_"]
    ]
    return [_with_subject(statement, subjects) for statement in statements]


def _with_subject(statement: bytes, subjects: list[dict[str, object]]) -> bytes:
    found = _parsed(statement)
    if found.subject:
        return statement
    members = msgspec.json.decode(statement, type=dict[str, msgspec.Raw])
    begin = {key: members.pop(key) for key in ("_type", "predicateType")}
    members.pop("subject", None)
    return msgspec.json.encode(begin | {"subject": subjects} | members)


def _package_url(name: str, platform: Platform) -> str:
    """Return the package URL: "docker.io/library/app:1" is
    "pkg:docker/app@1?platform=linux%2Famd64".
    """
    ref = reference.parse_normalized(name)
    said = quote(platforms.format(platform), safe="")
    return f"pkg:docker/{quote(ref.familiar_name)}@{ref.tag}?platform={said}"


def manifest(target: Descriptor, statements: Sequence[bytes]) -> list[Document]:
    """Return the documents that attest `target`, the manifest last; raise InvalidStatement.

    A statement is JSON and is stored byte for byte.
    """
    layers = [_layer(statement) for statement in statements]
    described = [layer.descriptor for layer in layers]
    diff_ids = tuple(layer.digest for layer in described)
    data = go_json.dumps(
        _Config(UNKNOWN.architecture, UNKNOWN.os, {}, oci.RootFS("layers", diff_ids))
    )
    config = Descriptor(oci.CONFIG, of_bytes(data), len(data))
    document = Document.of(
        Manifest(schema_version=2, media_type=oci.MANIFEST, config=config, layers=tuple(described)),
        gc_labels((config, *described)),
    )
    annotations = {
        oci.REFERENCE_DIGEST: target.digest,
        oci.REFERENCE_TYPE: oci.ATTESTATION_MANIFEST,
    }
    return [*layers, Document(config, data), document.described(annotations, UNKNOWN)]


def _layer(statement: bytes) -> Document:
    annotations = {PREDICATE_TYPE: _parsed(statement).predicate_type}
    described = Descriptor(
        oci.IN_TOTO, of_bytes(statement), len(statement), annotations=annotations
    )
    return Document(described, statement)


def _parsed(statement: bytes) -> _Statement:
    try:
        found = msgspec.json.decode(statement, type=_Statement)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidStatement(f"expected an in-toto statement: {error}") from error
    if not found.kind.startswith("https://in-toto.io/Statement/"):
        raise InvalidStatement(f"expected an in-toto statement, found the type {found.kind!r}")
    if not found.predicate_type:
        raise InvalidStatement("expected a predicate type")
    return found

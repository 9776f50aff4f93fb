"""Image references: their grammar, and how familiar, full and OCI names turn into one another.

The rules are those of distribution/reference. All that is invalid raises InvalidReference, whose
`kind` is one of

    name_empty  reference_invalid_format  name_contains_uppercase  name_too_long
    identifier_not_allowed  tag_invalid_format
    digest_invalid_format  digest_unsupported  digest_invalid_length

Everything here is pure and safe from any thread. Names that did not come from the grammar (the
prefixes and `org.opencontainers.image.ref.name` values of containerd's archives) are plain text, at
the end of this file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec.structs import replace

from engine.errors import InvalidDigest, InvalidReference
from engine.spec import digest as digests
from engine.spec.digest import Digest

MAX_PATH_LENGTH: Final = 255
"""Of a reference's path in characters, an implied `library/` included."""

_DEFAULT_DOMAIN: Final = "docker.io"
_LEGACY_DOMAIN: Final = "index.docker.io"
_OFFICIAL: Final = "library/"
_DEFAULT_TAG: Final = "latest"

# As text: each is compiled when it is first used.
_DOMAIN = r"(?:[a-zA-Z0-9]+(?:(?:\.|-+)[a-zA-Z0-9]+)*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_PATH = r"[a-z0-9]+(?:(?:[._/]|__|-+)[a-z0-9]+)*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_NAME = rf"(?:(?P<domain>{_DOMAIN})/)?(?P<path>{_PATH})"

_REFERENCE = rf"{_NAME}(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_DIGEST}))?"
_IDENTIFIER = r"[a-f0-9]{64}"

_LOCATED = r"[^/?#:@]+(?::[0-9]*)?/[^?#:@]*:(?P<object>[^@?#][^?#]*)(?:[?#].*)?"

_SENTENCES: Final = {
    "name_empty": "empty image reference",
    "reference_invalid_format": "invalid reference format",
    "name_contains_uppercase": "repository name has upper-case letters",
    "name_too_long": f"repository name is longer than {MAX_PATH_LENGTH} characters",
    "identifier_not_allowed": "64 hex digits are an image ID and no name",
    "tag_invalid_format": "invalid tag",
    "digest_invalid_format": InvalidDigest.SENTENCES["invalid_format"],
    "digest_unsupported": InvalidDigest.SENTENCES["unsupported"],
    "digest_invalid_length": InvalidDigest.SENTENCES["invalid_length"],
}


class Reference(msgspec.Struct, frozen=True):
    """A repository with a tag, a digest, both or neither; `str()` is its full text.

    `domain` is "" where plain `parse` found none; normalised references always have one.
    """

    domain: str
    path: str
    tag: str | None = None
    digest: Digest | None = None

    def __str__(self) -> str:
        return self.name + self._suffix

    @property
    def name(self) -> str:
        """Domain and path, without tag and digest."""
        return f"{self.domain}/{self.path}" if self.domain else self.path

    @property
    def familiar_name(self) -> str:
        """The name as docker prints it: without `docker.io/` and without a `library/` above it."""
        if self.domain != _DEFAULT_DOMAIN:
            return self.name
        official = self.path.removeprefix(_OFFICIAL)
        return self.path if "/" in official else official

    @property
    def familiar(self) -> str:
        """The whole reference as docker prints it."""
        return self.familiar_name + self._suffix

    @property
    def is_name_only(self) -> bool:
        """Whether it has neither tag nor digest."""
        return self.tag is None and self.digest is None

    @property
    def _suffix(self) -> str:
        tag = "" if self.tag is None else f":{self.tag}"
        return tag if self.digest is None else f"{tag}@{self.digest}"


def parse(text: str) -> Reference:
    """`text` by the bare grammar, as Parse does: no default registry, no default tag."""
    if not text:
        raise _invalid(text, "name_empty")
    return _parse(text, text)


def parse_normalized(text: str) -> Reference:
    """A name as a user types it, its registry and `library/` made explicit (ParseNormalizedNamed).

    The first part is a registry if it is `localhost`, has a dot, a colon or an upper-case letter.
    """
    if is_identifier(text):
        raise _invalid(text, "identifier_not_allowed")
    domain, remainder = _split_domain(text)
    remote = remainder.partition(":")[0]
    if remote.lower() != remote:
        raise _invalid(text, "name_contains_uppercase")
    return _parse(f"{domain}/{remainder}", text)


def parse_any(text: str) -> Reference | Digest:
    """An identifier or a digest as a Digest, anything else as a normalised reference."""
    if is_identifier(text):
        return Digest(f"sha256:{text}")
    try:
        return digests.parse(text)
    except InvalidDigest:
        return parse_normalized(text)


def with_tag(ref: Reference, tag: str) -> Reference:
    """`ref` with this tag, its digest kept."""
    if not re.fullmatch(_TAG, tag):
        raise _invalid(tag, "tag_invalid_format")
    return replace(ref, tag=tag)


def tag_name_only(ref: Reference) -> Reference:
    """`ref`, with the tag `latest` if it has neither tag nor digest."""
    return with_tag(ref, _DEFAULT_TAG) if ref.is_name_only else ref


def is_identifier(text: str) -> bool:
    """Whether `text` is 64 lower-case hex digits, which name an image by its ID."""
    return re.fullmatch(_IDENTIFIER, text) is not None


def sort(names: Iterable[str]) -> list[str]:
    """`names` in full, those that say most first; what cannot be parsed comes last, as it is."""
    parsed: list[tuple[int, str]] = []
    for name in names:
        try:
            ref = parse_any(name)
        except InvalidReference:
            parsed.append((5, name))
        else:
            parsed.append((_sort_rank(ref), str(ref)))
    return [name for _, name in sorted(parsed)]


def oci_ref_name(name: Reference | str) -> str:
    """What containerd exports as org.opencontainers.image.ref.name of an image with this name.

    It is the tag, with the digest if both are there, else the whole name; a digest alone would
    begin with "@", which the annotation's grammar forbids.
    """
    text = str(name)
    located = re.fullmatch(_LOCATED, text, re.DOTALL)
    return text if located is None else located["object"]


def _parse(text: str, given: str) -> Reference:
    match = re.fullmatch(_REFERENCE, text)
    if match is None:
        lower = text.lower()
        only_case = lower != text and re.fullmatch(_REFERENCE, lower)
        raise _invalid(
            given, "name_contains_uppercase" if only_case else "reference_invalid_format"
        )
    path = _checked_path(match["path"], given)
    digest = None if match["digest"] is None else _parse_digest(match["digest"], given)
    return Reference(match["domain"] or "", path, match["tag"], digest)


def _checked_path(path: str, given: str) -> str:
    if len(path) > MAX_PATH_LENGTH:
        raise _invalid(given, "name_too_long")
    return path


def _parse_digest(text: str, given: str) -> Digest:
    try:
        return digests.parse(text)
    except InvalidDigest as error:
        raise _invalid(given, f"digest_{error.kind}") from error


def _split_domain(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    if not slash:
        return _DEFAULT_DOMAIN, _OFFICIAL + text
    if first == _LEGACY_DOMAIN:
        first = _DEFAULT_DOMAIN
    elif not (first == "localhost" or "." in first or ":" in first or first.lower() != first):
        return _DEFAULT_DOMAIN, text
    if first == _DEFAULT_DOMAIN and "/" not in rest:
        return first, _OFFICIAL + rest
    return first, rest


def _sort_rank(ref: Reference | Digest) -> int:
    if isinstance(ref, Digest):
        return 4
    return 2 * (ref.tag is None) + (ref.digest is None)


def _invalid(text: str, kind: str) -> InvalidReference:
    return InvalidReference(text, kind, _SENTENCES[kind])

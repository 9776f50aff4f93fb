"""Image references: their grammar, and conversions between familiar, full and OCI names.

The rules are those of distribution/reference. Invalid text raises InvalidReference, whose `kind` is
one of

    name_empty  reference_invalid_format  name_contains_uppercase  name_too_long
    identifier_not_allowed  tag_invalid_format
    digest_invalid_format  digest_unsupported  digest_invalid_length

All functions are pure and safe from any thread.
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
"""The maximum length of the path of a reference in characters, with any implied `library/`."""

_DEFAULT_DOMAIN: Final = "docker.io"
_LEGACY_DOMAIN: Final = "index.docker.io"
_OFFICIAL: Final = "library/"
_DEFAULT_TAG: Final = "latest"

# As text: re compiles each on first use.
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
    "name_not_canonical": "not a full image name with its registry",
    "identifier_not_allowed": "64 hex digits are an image ID and no name",
    "tag_invalid_format": "invalid tag",
    "digest_invalid_format": InvalidDigest.SENTENCES["invalid_format"],
    "digest_unsupported": InvalidDigest.SENTENCES["unsupported"],
    "digest_invalid_length": InvalidDigest.SENTENCES["invalid_length"],
}

_OCI_COMPONENT = r"[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*"
_OCI_NAME: Final = rf"{_OCI_COMPONENT}(?:/{_OCI_COMPONENT})*"


class Reference(msgspec.Struct, frozen=True):
    """A repository with a tag, a digest, both or neither; `str()` returns the full text.

    `domain` is "" if plain `parse` found none; normalized references always have one.
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
        """The name as docker prints it: without `docker.io/` and a top-level `library/`."""
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
        """Whether the reference has neither tag nor digest."""
        return self.tag is None and self.digest is None

    @property
    def _suffix(self) -> str:
        tag = "" if self.tag is None else f":{self.tag}"
        return tag if self.digest is None else f"{tag}@{self.digest}"


def parse(text: str) -> Reference:
    """Return `text` parsed by the bare grammar of Parse: no default registry, no default tag."""
    if not text:
        raise _invalid(text, "name_empty")
    return _parse(text, text)


def parse_normalized(text: str) -> Reference:
    """Return the reference that a user typed, with registry and `library/` (ParseNormalizedNamed).

    The first component is a registry if it is `localhost` or contains a dot, a colon or an
    upper-case letter.
    """
    if is_identifier(text):
        raise _invalid(text, "identifier_not_allowed")
    domain, remainder = _split_domain(text)
    remote = remainder.partition(":")[0]
    if remote.lower() != remote:
        raise _invalid(text, "name_contains_uppercase")
    return _parse(f"{domain}/{remainder}", text)


def parse_any(text: str) -> Reference | Digest:
    """Return an identifier or a digest as a Digest, other text as a normalized reference."""
    if is_identifier(text):
        return Digest(f"sha256:{text}")
    try:
        return digests.parse(text)
    except InvalidDigest:
        return parse_normalized(text)


def is_tag(text: str) -> bool:
    """Return whether a reference can have this tag."""
    return re.fullmatch(_TAG, text) is not None


def with_tag(ref: Reference, tag: str) -> Reference:
    """Return `ref` with this tag and its digest."""
    if not is_tag(tag):
        raise _invalid(tag, "tag_invalid_format")
    return replace(ref, tag=tag)


def tag_name_only(ref: Reference) -> Reference:
    """Return `ref`, with the tag `latest` if it has neither tag nor digest."""
    return with_tag(ref, _DEFAULT_TAG) if ref.is_name_only else ref


def is_identifier(text: str) -> bool:
    """Return whether `text` is 64 lower-case hex digits, which denote an image ID."""
    return re.fullmatch(_IDENTIFIER, text) is not None


def sort(names: Iterable[str]) -> list[str]:
    """Return full names, the most specific first; unparsable names are last, unchanged."""
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
    """Return the org.opencontainers.image.ref.name that containerd exports for an image name.

    It is the tag, with the digest if the name has both, else the whole name: a digest alone would
    start with "@", which the grammar of the annotation forbids.
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


def parse_named(text: str) -> Reference:
    """Parse a full name (ParseNamed); raise InvalidReference (name_not_canonical) for others."""
    ref = parse_normalized(text)
    if str(ref) != text:
        raise _invalid(text, "name_not_canonical")
    return ref


def parse_docker_ref(text: str) -> Reference:
    """Parse a reference by digest, else by tag, by default `latest` (ParseDockerRef)."""
    ref = parse_normalized(text)
    return tag_name_only(ref) if ref.digest is None else without_tag(ref)


def with_name(text: str) -> Reference:
    """Parse a repository by the bare grammar, without tag and digest (WithName)."""
    match = re.fullmatch(_NAME, text)
    if match is None:
        raise _invalid(text, "reference_invalid_format")
    return Reference(match["domain"] or "", _checked_path(match["path"], text))


def with_digest(ref: Reference, digest: str) -> Reference:
    """Return `ref` with this digest and its tag; check only the grammar, as WithDigest does."""
    if not re.fullmatch(_DIGEST, digest):
        raise _invalid(digest, "digest_invalid_format")
    return replace(ref, digest=Digest(digest))


def without_tag(ref: Reference) -> Reference:
    """Return `ref` without its tag, but with its digest."""
    return replace(ref, tag=None)


def trim(ref: Reference) -> Reference:
    """Return the repository of `ref` (TrimNamed)."""
    return Reference(ref.domain, ref.path)


def familiar_match(pattern: str, ref: Reference) -> bool:
    """Return whether Go's path.Match accepts the familiar reference or its familiar name.

    `*` and `?` stop at slashes. InvalidInput for a malformed pattern.
    """
    from engine.spec import path_match as go_path

    return go_path.match(pattern, ref.familiar) or go_path.match(pattern, ref.familiar_name)


def valid_ref_name(text: str) -> bool:
    """Return whether image-spec allows `text` as org.opencontainers.image.ref.name."""
    return re.fullmatch(_OCI_NAME, text) is not None


def with_prefix(prefix: str, ref_name: str) -> str:
    """Return the name of an archive's `ref_name`; a bare tag goes below `prefix` (AddRefPrefix).

    "" means that the image gets no name, as everything does without a prefix.
    """
    if not prefix:
        return ""
    is_full = any(mark in ref_name for mark in "/:@")
    return ref_name if is_full else f"{prefix}:{ref_name}"


def filter_prefix(prefix: str, ref_name: str) -> str:
    """Return as `with_prefix`, but "" for a full name of another repository (FilterRefPrefix).

    `prefix` may be a repository or a namespace, but not part of a component.
    """
    full = with_prefix(prefix, ref_name)
    below = full.startswith(prefix) and full[len(prefix) :][:1] in {"", "/", ":", "@"}
    return full if below else ""

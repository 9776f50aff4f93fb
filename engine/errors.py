"""The errors that the engine raises on purpose.

    EngineError
    ├── InvalidInput            input that is invalid whatever the store holds
    │   ├── InvalidDigest
    │   ├── InvalidReference
    │   ├── InvalidText         text that a user gives as a platform, an annotation, …
    │   │   └── InvalidPlatform
    │   ├── InvalidDocument     JSON of the wrong shape (manifest, index, config, …)
    │   ├── NotExportable       an image that a layout cannot represent
    │   │   └── NotAnImage      an artifact where an image is required
    │   └── BrokenArchive       a tar that is truncated, malformed or no image archive
    │       ├── MissingMember   a file that the archive requires is absent
    │       └── UnreadableLayer a layer that is encrypted, or is no tar by its media type
    ├── ContentMismatch         bytes that do not match their descriptor
    │   ├── DigestMismatch
    │   └── SizeMismatch
    ├── DamagedLayer            bytes of a stored layer that have changed
    ├── NotFound                no object of that name, digest or ID
    │   └── MissingContent      parts of an image that the store does not have
    ├── Ambiguous               an ID prefix that several images share
    ├── AlreadyExists
    ├── Unavailable             held by another writer
    ├── LimitExceeded           over a configured limit
    ├── ChangedFile             a file was changed while it was being read
    └── StoreError              the store cannot be used
        ├── StoreMissing        it does not exist
        ├── StoreDamaged        its database is missing or damaged
        ├── StoreBusy           another process holds its lock
        ├── Unreachable         its server does not answer
        ├── AccessDenied        its server refuses the user
        └── Unsupported         this kind of store cannot do it
            └── StoreReadOnly   it cannot be changed

`str(error)` is one line that names the object, what was expected and what was found. Failures of
the operating system, such as a missing file or a full disk, remain OSError.
"""

import errno
from typing import ClassVar, Final

_QUOTED: Final = 800
"""Length in characters at which quoted text is cut. The longest image name is shorter: a DNS name
(253), a port, a path (255), a tag (128) and a digest (136).
"""
_REASON: Final = 2000
"""Length in characters at which a reason is cut; a reason may quote two names."""


class EngineError(Exception):
    """The base class of the errors that the engine raises on purpose."""


class _Reasoned(EngineError):
    """An error about the `subject`, a thing of the kind that `noun` names; `reason` explains it."""

    noun: ClassVar[str] = ""

    def __init__(self, subject: str, reason: str) -> None:
        super().__init__(subject, reason)
        self.subject = subject
        self.reason = reason

    def __str__(self) -> str:
        subject = f"{self.noun} {printable(self.subject)}".lstrip()
        return f"{subject}: {printable(self.reason, _REASON)}"


class InvalidInput(EngineError):
    """Input that is invalid whatever the store holds."""


class InvalidDigest(InvalidInput):
    """Text that is no valid digest, by the rules of go-digest's Validate.

    `kind` is "invalid_format", "unsupported" (algorithm) or "invalid_length".
    """

    SENTENCES: ClassVar = {
        "invalid_format": "invalid checksum digest format",
        "unsupported": "unsupported digest algorithm",
        "invalid_length": "invalid checksum digest length",
    }

    def __init__(self, text: str, kind: str) -> None:
        super().__init__(text, kind)
        self.text = text
        self.kind = kind

    def __str__(self) -> str:
        found = printable(self.text) or "expected ALGORITHM:HEX, found nothing"
        return f"{self.SENTENCES[self.kind]}: {found}"


class InvalidReference(InvalidInput):
    """Text that is no valid image reference; `kind` names the error of distribution/reference."""

    def __init__(self, text: str, kind: str, sentence: str) -> None:
        super().__init__(text, kind, sentence)
        self.text = text
        self.kind = kind
        self.sentence = sentence

    def __str__(self) -> str:
        return f"{self.sentence}: {printable(self.text) or 'the name is empty'}"


class InvalidText(_Reasoned, InvalidInput):
    """A text that is no valid value of its kind, which `noun` names."""

    noun = "text"


class InvalidPlatform(InvalidText):
    """Text that is no valid platform specifier, such as linux/arm64/v8."""

    noun = "invalid platform"


class InvalidDocument(_Reasoned, InvalidInput):
    """A JSON document that does not have the required shape; `subject` names it."""


class NotExportable(_Reasoned, InvalidInput):
    """An image, named in familiar form, that a layout cannot represent."""

    noun = "image"


class NotAnImage(NotExportable):
    """An artifact where an image is required; `artifact_type` is its type, "" if unknown."""

    def __init__(self, image: str, artifact_type: str) -> None:
        what = f" of the type {artifact_type}" if artifact_type else ""
        super().__init__(image, f"expected an image, found an artifact{what}")


class BrokenArchive(InvalidInput):
    """An archive that cannot be loaded; `member` is the entry at fault, "" for the archive."""

    def __init__(self, member: str, reason: str) -> None:
        super().__init__(member, reason)
        self.member = member
        self.reason = reason

    def __str__(self) -> str:
        return f"{printable(self.member) or 'archive'}: {printable(self.reason, _REASON)}"


class MissingMember(BrokenArchive):
    """A file that the archive requires is absent; `member` is "" if one of several would do.

    `others` are further absent files that the same image needs.
    """

    def __init__(
        self,
        member: str,
        reason: str = "is missing from the archive",
        others: tuple[str, ...] = (),
    ) -> None:
        super().__init__(member, reason)
        self.others = others

    @property
    def by_truncation(self) -> "MissingMember":
        """The same error for an archive that is truncated, whose missing end may hold the file."""
        reason = f"{self.reason}; the archive is truncated: its end is missing too"
        return MissingMember(self.member, reason, self.others)


class UnreadableLayer(BrokenArchive):
    """A layer whose bytes match its digest but that cannot be read."""

    def __init__(self, digest: str, reason: str) -> None:
        super().__init__(f"layer {digest}", reason)
        self.digest = digest


class ContentMismatch(EngineError):
    """Bytes that do not match their descriptor; `subject` names the blob or member."""

    noun = "content"

    def __init__(self, subject: str, expected: object, found: object) -> None:
        super().__init__(subject, expected, found)
        self.subject = subject
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        subject = printable(self.subject)
        return f"{subject}: unexpected {self.noun}: expected {self.expected}, found {self.found}"


class DigestMismatch(ContentMismatch):
    """Bytes with another digest than expected; `size` is their number, None if unknown."""

    noun = "digest"

    def __init__(
        self, subject: str, expected: object, found: object, size: int | None = None
    ) -> None:
        super().__init__(subject, expected, found)
        self.size = size


class SizeMismatch(ContentMismatch):
    """Content of another size than expected; sizes are in bytes."""

    noun = "size"


class DamagedLayer(EngineError):
    """Bytes of a stored layer that are not those that were loaded."""

    def __init__(self, digest: str, reason: str) -> None:
        super().__init__(digest, reason)
        self.digest = digest
        self.reason = reason

    def __str__(self) -> str:
        return f"layer {self.digest}: is damaged in the store: {self.reason}"


class _AboutAThing(EngineError):
    """An error about the object of this `kind` ("image", "blob", "ingest", "lease") and `name`."""

    sentence: ClassVar[str]

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(kind, name)
        self.kind = kind
        self.name = name

    def __str__(self) -> str:
        return f"{self.kind} {printable(self.name)}: {self.sentence}"


class NotFound(_AboutAThing):
    """No object of this kind has this name."""

    sentence = "not found"


class MissingContent(NotFound):
    """Parts of an image, named in familiar form, that the store does not have; `digests` are
    theirs. containerd can be set to drop layers that it has unpacked.
    """

    def __init__(self, image: str, digests: tuple[str, ...]) -> None:
        super().__init__("image", image)
        self.digests = digests

    def __str__(self) -> str:
        lacking = printable(", ".join(self.digests), _REASON)
        return f"image {printable(self.name)}: the store lacks {lacking}; load or pull it again"


class Ambiguous(EngineError):
    """An ID prefix that several images share."""

    def __init__(self, prefix: str, matches: tuple[str, ...]) -> None:
        super().__init__(prefix, matches)
        self.prefix = prefix
        self.matches = matches

    def __str__(self) -> str:
        some = ", ".join(self.matches[:3])
        count = len(self.matches)
        return f"image ID {printable(self.prefix)}: ambiguous, it fits {count} images ({some})"


class AlreadyExists(_AboutAThing):
    """An object of this kind and name already exists."""

    sentence = "already exists"


class Unavailable(_AboutAThing):
    """Another writer holds the object; a later attempt may succeed."""

    sentence = "in use by another writer"


class LimitExceeded(EngineError):
    """A configured limit is exceeded; `limit` and `found` are in the unit that `what` names."""

    def __init__(self, subject: str, what: str, limit: int, found: int) -> None:
        super().__init__(subject, what, limit, found)
        self.subject = subject
        self.what = what
        self.limit = limit
        self.found = found

    def __str__(self) -> str:
        subject = printable(self.subject)
        return f"{subject}: {self.what}: limit {self.limit}, found {self.found}"


class ChangedFile(_Reasoned):
    """A file that was changed or removed while it was being read."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "changed while it was read")


class StoreError(_Reasoned):
    """The store at `path` cannot be used."""

    noun = "store"


class StoreMissing(StoreError):
    """There is no store at `path`, and the operation does not create one."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "there is none yet; imgfs load, commit or mount makes one")


class StoreDamaged(StoreError):
    """The database of the store is missing or damaged; `imgfs fsck --repair` rebuilds it."""


class StoreBusy(StoreError):
    """Another process holds the lock of the store; a later attempt may succeed."""


class Unreachable(StoreError):
    """The server of the store does not answer; a later attempt may succeed."""


class AccessDenied(StoreError):
    """The server of the store refuses the user, or wants credentials that are not there."""


class Unsupported(StoreError):
    """This kind of store cannot do what was asked of it."""


class StoreReadOnly(Unsupported):
    """The store cannot be changed."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "is read-only; name a store that can be changed")


def escaped(text: str) -> str:
    """Return `text` on one line with control characters escaped, safe for any terminal."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode()
        for c in text
    )


def is_of_space(error: Exception) -> bool:
    """Return whether an error says that a disk or a quota has no space left."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def counted(count: int, noun: str) -> str:
    """Return a number of things: "1 byte", "2 bytes"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def printable(text: str, limit: int = _QUOTED) -> str:
    """Return `text` as `escaped` does, cut at `limit` characters."""
    safe = escaped(text)
    return safe if len(safe) <= limit else f"{safe[:limit]}…"

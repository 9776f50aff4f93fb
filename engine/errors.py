"""Every error that the engine raises on purpose.

    EngineError
    ├── InvalidInput            what was given cannot be right
    │   ├── InvalidDigest
    │   ├── InvalidReference
    │   ├── InvalidPlatform
    │   ├── InvalidDocument     JSON of the wrong shape (manifest, index, config, …)
    │   ├── NotExportable       an image that a layout cannot show
    │   │   └── NotAnImage      an artifact where an image is needed
    │   └── BrokenArchive       a tar that is truncated, malformed or not an image archive
    │       ├── MissingMember   a file that the archive needs and has not
    │       └── UnreadableLayer a layer that is encrypted, or whose media type is no tar's
    ├── ContentMismatch         bytes that are not what their descriptor says
    │   ├── DigestMismatch
    │   └── SizeMismatch
    ├── NotFound                nothing by that name, digest or ID
    ├── Ambiguous               more than one thing by that ID prefix
    ├── AlreadyExists
    ├── Unavailable             held by somebody else just now
    ├── LimitExceeded           over a configured limit
    └── StoreError              the store itself cannot be used
        ├── StoreMissing        there is none yet
        ├── StoreDamaged        its database is lost or damaged
        └── StoreBusy           not now: another process keeps it locked

`str(error)` is one line that names the thing, what was expected and what was found. A missing file,
a full disk and the like stay the OSError that they are.
"""

from typing import ClassVar, Final

_QUOTED: Final = 800
"""What a quoted text is cut at, in characters: the longest image name is shorter, with a DNS name
(253), a port, a path (255), a tag (128) and a digest (136)."""
_REASON: Final = 2000
"""What a reason is cut at, which may quote two names."""


class EngineError(Exception):
    """The root of what the engine raises on purpose."""


class InvalidInput(EngineError):
    """What was given cannot be right, whatever the store holds."""


class InvalidDigest(InvalidInput):
    """Not a digest, as go-digest's Validate says it; `kind` is one of its three errors.

    `kind`: "invalid_format", "unsupported" (algorithm) or "invalid_length".
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
    """Not an image reference; `kind` names the error of distribution/reference."""

    def __init__(self, text: str, kind: str, sentence: str) -> None:
        super().__init__(text, kind, sentence)
        self.text = text
        self.kind = kind
        self.sentence = sentence

    def __str__(self) -> str:
        return f"{self.sentence}: {printable(self.text) or 'the name is empty'}"


class InvalidPlatform(InvalidInput):
    """Not a platform specifier such as linux/arm64/v8."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(text, reason)
        self.text = text
        self.reason = reason

    def __str__(self) -> str:
        return f"invalid platform {printable(self.text)}: {self.reason}"


class InvalidDocument(InvalidInput):
    """A JSON document that is not what it is used as; `subject` names it."""

    def __init__(self, subject: str, reason: str) -> None:
        super().__init__(subject, reason)
        self.subject = subject
        self.reason = reason

    def __str__(self) -> str:
        return f"{printable(self.subject)}: {printable(self.reason, _REASON)}"


class NotExportable(InvalidInput):
    """An image that a layout cannot show; `image` is its familiar name."""

    def __init__(self, image: str, reason: str) -> None:
        super().__init__(image, reason)
        self.image = image
        self.reason = reason

    def __str__(self) -> str:
        return f"image {printable(self.image)}: {printable(self.reason, _REASON)}"


class NotAnImage(NotExportable):
    """An artifact where an image is needed; `artifact_type` says what it is."""

    def __init__(self, image: str, artifact_type: str) -> None:
        what = f" of the type {artifact_type}" if artifact_type else ""
        super().__init__(image, f"expected an image, found an artifact{what}")
        self.artifact_type = artifact_type


class BrokenArchive(InvalidInput):
    """An archive that cannot be loaded; `member` is the entry at fault, "" the archive itself."""

    def __init__(self, member: str, reason: str) -> None:
        super().__init__(member, reason)
        self.member = member
        self.reason = reason

    def __str__(self) -> str:
        return f"{printable(self.member) or 'archive'}: {printable(self.reason, _REASON)}"


class MissingMember(BrokenArchive):
    """A file that the archive needs is not in it; `member` is "" where one of several would do."""

    def __init__(self, member: str, reason: str = "is missing from the archive") -> None:
        super().__init__(member, reason)

    @property
    def by_truncation(self) -> "MissingMember":
        """The error where the archive ends early, so that the file may have come later."""
        reason = f"{self.reason}; the archive is truncated: its end is missing too"
        return MissingMember(self.member, reason)


class UnreadableLayer(BrokenArchive):
    """A layer that cannot be read, although it is what its digest says."""

    def __init__(self, digest: str, reason: str) -> None:
        super().__init__(f"layer {digest}", reason)
        self.digest = digest


class ContentMismatch(EngineError):
    """Bytes that are not what was said of them; `subject` names the blob or member."""

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
    """The bytes hash to something else; there are `size` of them, if that is known."""

    noun = "digest"

    def __init__(
        self, subject: str, expected: object, found: object, size: int | None = None
    ) -> None:
        super().__init__(subject, expected, found)
        self.size = size


class SizeMismatch(ContentMismatch):
    """There are more or fewer bytes, in bytes."""

    noun = "size"


class _AboutAThing(EngineError):
    """Something about a `kind` ("image", "blob", "ingest", "lease") called `name`."""

    sentence: ClassVar[str]

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(kind, name)
        self.kind = kind
        self.name = name

    def __str__(self) -> str:
        return f"{self.kind} {printable(self.name)}: {self.sentence}"


class NotFound(_AboutAThing):
    """There is none of that name."""

    sentence = "not found"


class Ambiguous(EngineError):
    """An ID prefix that fits several images."""

    def __init__(self, prefix: str, matches: tuple[str, ...]) -> None:
        super().__init__(prefix, matches)
        self.prefix = prefix
        self.matches = matches

    def __str__(self) -> str:
        some = ", ".join(self.matches[:3])
        count = len(self.matches)
        return f"image ID {printable(self.prefix)}: ambiguous, it fits {count} images ({some})"


class AlreadyExists(_AboutAThing):
    """There is one of that name already."""

    sentence = "already exists"


class Unavailable(_AboutAThing):
    """Somebody else holds it just now; trying again later may work."""

    sentence = "in use by another writer"


class LimitExceeded(EngineError):
    """More than a configured limit allows; `limit` is in the unit that `what` names."""

    def __init__(self, subject: str, what: str, limit: int, found: int) -> None:
        super().__init__(subject, what, limit, found)
        self.subject = subject
        self.what = what
        self.limit = limit
        self.found = found

    def __str__(self) -> str:
        subject = printable(self.subject)
        return f"{subject}: {self.what}: limit {self.limit}, found {self.found}"


class ChangedFile(EngineError):
    """A file changed, or went away, while it was read."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"{printable(self.path)}: changed while it was read"


class StoreError(EngineError):
    """The store at `path` cannot be used."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"store {printable(self.path)}: {self.reason}"


class StoreMissing(StoreError):
    """There is no store at `path` yet, and what was asked for does not make one."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "there is none yet; imgfs load, commit or mount makes one")


class StoreDamaged(StoreError):
    """Its database is lost or damaged; `imgfs fsck --repair` makes it anew."""


class StoreBusy(StoreError):
    """Another process has kept the store locked for too long; trying again later may work."""


def escaped(text: str) -> str:
    """Return `text` on one line with its control characters escaped, safe for any terminal."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode()
        for c in text
    )


def counted(count: int, noun: str) -> str:
    """Return a number of things: "1 byte", "2 bytes"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def printable(text: str, limit: int = _QUOTED) -> str:
    """Return `text` as `escaped` does, cut at `limit` characters."""
    safe = escaped(text)
    return safe if len(safe) <= limit else f"{safe[:limit]}…"

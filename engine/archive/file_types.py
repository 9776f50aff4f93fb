"""Detection of the type of a file that was given in place of an archive or a layer.

`identify` returns a `FileType`: a noun phrase, and the action by which the user obtains an archive.
The answer depends on the first `SIZE` bytes only. It is used in error messages and never decides
how a file is read.
"""

import base64
import json
import re
from typing import Final

import msgspec

from engine.compression import decompress
from engine.tar import header_decoder as headers
from engine.tar.header_decoder import BLOCK

SIZE: Final = 66 << 10
"""The number of bytes examined, which includes the superblock of btrfs."""

_QUOTED: Final = 60
"""The number of characters of a text that a message shows."""
_LINES: Final = 50
_MARKUP: Final = 1000
"""The number of characters in which the tag that begins a page, or another one, has to end."""
_MESSAGES: Final = (
    *("message", "error", "detail", "errorMessage", "error_description", "msg"),
    *("title", "reason", "code"),
)
"""The members of a JSON document that tell what a server wanted to say, the best ones first."""


class FileType(msgspec.Struct, frozen=True):
    """`noun` includes its article ("a zip archive"); `advice` is an imperative clause, or ""."""

    noun: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.noun}: {self.advice}" if self.advice else self.noun


class _Magic(msgspec.Struct, frozen=True):
    offset: int
    pattern: bytes
    noun: str
    advice: str = ""


_UNPACK: Final = "unpack it and load the archive that is in it"
_TWICE: Final = "it is compressed twice: decompress it once and load what comes out"
_DISK: Final = "load what docker save or skopeo copy has written; a disk is not a container image"
_FILESYSTEM: Final = "mount it and use imgfs commit, or docker import"
_PROGRAM: Final = "load the archive of an image; imgfs commit makes an image of a directory"
AS_TEXT: Final = (
    "write the archive with docker save -o FILE, since PowerShell's > and | change what is no text"
)

_MAGICS: Final = (
    _Magic(0, rb"PK(?:\x03\x04|\x05\x06|\x07\x08)", "a zip archive", _UNPACK),
    _Magic(0, rb"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    _Magic(0, rb"Rar!\x1a\x07", "a rar archive", _UNPACK),
    _Magic(0, rb"xar!", "a xar archive", _UNPACK),
    _Magic(0, rb"0707(?:01|02|07)|\xc7\x71|\x71\xc7", "a cpio archive", _UNPACK),
    _Magic(0, rb"!<arch>\ndebian", "a Debian package", _PROGRAM),
    _Magic(0, rb"!<arch>\n", "an ar archive", _UNPACK),
    _Magic(0, rb"\xed\xab\xee\xdb", "an RPM package", _PROGRAM),
    _Magic(0, rb"\x02\x21\x4c\x18", "an lz4 stream of the old format", "decompress it with lz4 -d"),
    _Magic(0, rb"LZIP", "an lzip stream", "decompress it with lzip -d"),
    _Magic(0, rb"\x89LZO\x00\r\n\x1a\n", "an lzop stream", "decompress it with lzop -d"),
    _Magic(0, rb"LRZI", "an lrzip stream", "decompress it with lrzip -d"),
    _Magic(0, rb"\x1f\x9d", "a compress (.Z) stream", "decompress it with gzip -d"),
    _Magic(0, rb"\x1f[\x1e\xa0]", "a pack or LZH stream", "decompress it with gzip -d"),
    _Magic(0, rb"\xff\x06\x00\x00sNaPpY", "a snappy stream", "decompress it first"),
    _Magic(0, rb"QFI\xfb", "a qcow2 disk image", _DISK),
    _Magic(0, rb"KDMV|COWD|# Disk DescriptorFile", "a VMDK disk image", _DISK),
    _Magic(0, rb"conectix", "a VHD disk image", _DISK),
    _Magic(0, rb"vhdxfile", "a VHDX disk image", _DISK),
    _Magic(64, rb"\x7f\x10\xda\xbe", "a VirtualBox disk image", _DISK),
    _Magic(0, rb"MSWIM\0\0\0", "a Windows image (WIM)", _DISK),
    _Magic(32769, rb"CD001|BEA01|NSR0[23]", "an ISO 9660 or UDF image", _FILESYSTEM),
    _Magic(512, rb"EFI PART", "a disk image with a GPT", _DISK),
    _Magic(0, rb"hsqs|sqsh", "a squashfs image", _FILESYSTEM),
    _Magic(1024, rb"\xe2\xe1\xf5\xe0", "an EROFS image", _FILESYSTEM),
    _Magic(1080, rb"\x53\xef", "an ext2, ext3 or ext4 image", _FILESYSTEM),
    _Magic(0, rb"XFSB", "an XFS image", _FILESYSTEM),
    _Magic(65600, rb"_BHRfS_M", "a btrfs image", _FILESYSTEM),
    _Magic(0, rb"\x45\x3d\xcd\x28", "a cramfs image", _FILESYSTEM),
    _Magic(510, rb"\x55\xaa", "a disk image with a boot sector", _DISK),
    _Magic(
        32,
        rb"SIF_MAGIC",
        "a Singularity or Apptainer image (SIF)",
        "apptainer sif dump takes its squashfs out; imgfs commit makes an image of its files",
    ),
    _Magic(0, rb"\x7fELF", "an ELF program", _PROGRAM),
    _Magic(0, rb"MZ", "a Windows program", _PROGRAM),
    _Magic(0, rb"\xcf\xfa\xed\xfe|\xca\xfe\xba\xbe", "a Mach-O program or Java class", _PROGRAM),
    _Magic(0, rb"\0asm", "a WebAssembly module", _PROGRAM),
    _Magic(0, rb"SQLite format 3\0", "an SQLite database"),
    _Magic(0, rb"%PDF-", "a PDF document"),
    _Magic(0, rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|GIF8", "a picture"),
    _Magic(0, rb"GGUF", "a GGUF model"),
    _Magic(0, rb"PACK\0\0\0", "a git pack"),
    _Magic(0, rb"# v\d git bundle", "a git bundle", "clone it with git"),
    _Magic(0, rb"\x80[\x02-\x05](?:\x95|[\x28\x5d\x7d\x58\x55\x43\x42\x63])", "a Python pickle"),
    _Magic(0, rb"Salted__", "a file that openssl has encrypted", "decrypt it first"),
    _Magic(0, rb"age-encryption\.org/", "a file that age has encrypted", "decrypt it first"),
    _Magic(
        0,
        rb"-----BEGIN PGP MESSAGE|\x85[\x01\x02].\x03|\x8c[\x04\x0d]\x04",
        "a file that PGP has encrypted",
        "decrypt it first",
    ),
    _Magic(
        0,
        rb"version https://(?:git-lfs\.github\.com|hawser\.github\.com)/spec/",
        "a Git LFS pointer",
        "run git lfs pull",
    ),
    _Magic(0, rb"(?:\.\./)*(?:\.git)?/annex/objects/", "a git-annex pointer", "run git annex get"),
    _Magic(0, rb"outs:\s*\n- *md5:", "a DVC pointer", "run dvc pull"),
    _Magic(0, rb"\xff\xfe\x00\x00|\x00\x00\xfe\xff", "text in UTF-32", AS_TEXT),
    _Magic(
        0,
        rb"\xff\xfe|\xfe\xff|(?:[\x01-\x7f]\x00){8}|(?:\x00[\x01-\x7f]){8}",
        "text in UTF-16 (PowerShell's > writes that)",
        AS_TEXT,
    ),
    _Magic(
        0,
        rb"(?:\xef\xbb\xbf)?(?:\x1f(?:\xef\xbf\xbd|\xc2\x8b|\?)\x08"
        rb"|\((?:\xef\xbf\xbd|\xc2\xb5|\?)/(?:\xef\xbf\xbd|\xc3\xbd|\?)"
        rb"|(?:\xef\xbf\xbd|\xc3\xbd|\?)7zXZ)",
        "a compressed stream that was changed as if it were text",
        AS_TEXT,
    ),
)


def is_tar(data: bytes) -> bool:
    """Return whether `data` begins with a tar header, which its checksum determines."""
    if len(data) < BLOCK:
        return False
    expected, found = headers.checksums(data[:BLOCK])
    return expected == found


def has_windows_lines(data: bytes) -> bool:
    """Return whether `data` has lines and all of them end with CR LF."""
    return b"\r\n" in data and data.count(b"\r\n") == data.count(b"\n")


def identify(head: bytes) -> FileType | None:
    """Return the type of the file that begins with `head`; None if it is unknown or a tar archive.

    `head` is the first `SIZE` bytes, or all bytes of a shorter file.
    """
    compression = decompress.sniff(head)
    if compression != "none":
        article = "an" if compression in ("xz", "lzma", "lz4") else "a"
        return FileType(f"{article} {compression} stream", _TWICE)
    for magic in _MAGICS:
        if re.compile(magic.pattern, re.DOTALL).match(head, magic.offset):
            return FileType(magic.noun, magic.advice)
    return _behind_text(head) or _text(head)


def _behind_text(head: bytes) -> FileType | None:
    """Return the type for an archive that follows other output in the same file, else None."""
    start = 0
    for _ in range(_LINES):
        start = head.find(b"\n", start) + 1
        rest = head[start:]
        if not start or _decoded(head[:start]) is None:
            return None
        compression = decompress.sniff(rest)
        if is_tar(rest) or compression != "none":
            return FileType(
                f"an archive behind other output ({_line(head[:start].decode())})",
                "write nothing else to the same file, as 2>&1 or a login shell does",
            )
    return None


def _text(head: bytes) -> FileType | None:
    text = _decoded(head)
    if not text or not text.strip():
        return FileType("text", "it is blank") if text else None
    start = text.lstrip().lstrip("\ufeff")
    for detect in (_markup, _json, _encoded, _dockerfile):
        if (found := detect(start)) is not None:
            return found
    return FileType(f"text ({_line(start)})", "load the archive itself")


def _decoded(head: bytes) -> str | None:
    """Return the bytes as UTF-8 text, None for binary data; the last character may be cut off."""
    for end in range(len(head), max(len(head) - 4, -1), -1):
        try:
            text = head[:end].decode()
        except UnicodeDecodeError:
            continue
        controls = sum((c < " " and c not in "\t\n\r\f\x1b") or c == "\x7f" for c in text)
        return None if controls else text
    return None


def _markup(text: str) -> FileType | None:
    lowered = text[:_MARKUP].lower()
    if lowered.startswith(("<!doctype html", "<html", "<head", "<body")):
        noun = f"an HTML page{_quoted_element(text, 'title')}"
        return FileType(noun, "download the file itself, with the login that it needs")
    if lowered.startswith("<?xml") or re.match(r"<\w[^>]*>", text[:_MARKUP]):
        noun = f"an XML document{_quoted_element(text, 'message')}"
        return FileType(noun, "load the archive itself")
    return None


def _quoted_element(text: str, name: str) -> str:
    """Return the beginning of the first element of a name, in parentheses; "" if it is blank.

    Only as much of the text is examined as a message shows, since `re` would try every opening tag
    up to the end of the text, and let no other thread run meanwhile.
    """
    opening = re.search(rf"<{name}[\s>]", text, re.IGNORECASE)
    end = text.find(">", opening.end() - 1, opening.end() + _MARKUP) if opening else -1
    if end < 0:
        return ""
    shown = text[end + 1 : end + 1 + 4 * _QUOTED]
    inner = re.split(f"</{name}>", shown, maxsplit=1, flags=re.IGNORECASE)[0]
    return f" ({_line(inner)})" if inner.strip() else ""


def _json(text: str) -> FileType | None:
    if not re.match(r'\{\s*(?:"|\})|\[\s*(?:[\{\["\d\]]|null|true|false)', text):
        return None
    for key in _MESSAGES:
        for found in re.finditer(rf'"{key}"\s*:\s*("(?:[^"\\]|\\.)*")', text):
            with_message = _string(found[1])
            if with_message:
                noun = f"a JSON document ({_line(with_message)})"
                return FileType(noun, "mend what it says and fetch the archive again")
    if '"schemaVersion"' in text or '"mediaType"' in text or '"imageLayoutVersion"' in text:
        return FileType(
            "a JSON document, a manifest without its blobs",
            "fetch the image with skopeo copy or docker save",
        )
    return FileType("a JSON document", "load the archive itself")


def _string(literal: str) -> str:
    try:
        found: object = json.loads(literal, strict=False)
    except ValueError:
        return ""
    return found.strip() if isinstance(found, str) else ""


def _encoded(text: str) -> FileType | None:
    if re.match(r"b(['\"]).*\\x", text):
        return FileType("the text of bytes in Python", "write the bytes themselves")
    if _holds_archive(text):
        return FileType("an archive in base64", "decode it with base64 -d")
    return None


def _holds_archive(text: str) -> bool:
    letters = "".join(text[: 4 * BLOCK].split()).rstrip("=")
    if not re.fullmatch(r"[A-Za-z0-9+/]+", letters):
        return False
    inner = base64.b64decode(letters[: len(letters) // 4 * 4])
    return is_tar(inner) or decompress.sniff(inner) != "none"


def _dockerfile(text: str) -> FileType | None:
    lines = (line.strip() for line in text.splitlines())
    first = next((line for line in lines if line and not line.startswith("#")), "")
    if re.match(r"(?:FROM\s+\S+|ARG\s+\w+)", first):
        return FileType("a Dockerfile", "build the image that it describes and save that")
    return None


def _line(text: str) -> str:
    """Return the beginning of a text on one line."""
    words = " ".join(text[: 4 * _QUOTED].split())
    return words if len(words) <= _QUOTED else f"{words[:_QUOTED]}…"

"""Fuzz targets that load: whole archives, and the documents in one."""

import re
import sqlite3
import tempfile
import zlib
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from engine.archive.import_options import ImportOptions
from engine.archive.loaded import Loaded
from engine.compression import decompress
from engine.compression.options import Compression
from engine.image import Image
from engine.layouts import combined, docker_save, selection
from engine.limits import Limits
from engine.spec.oci import Platform
from tests import archives
from tests.fuzz.oracle import Refused, answer, pieces
from tests.fuzz.tar_targets import MENDED, mended
from tests.local_engine import LocalEngine

LIMITS = Limits(max_members=5000, max_expanded_bytes=4 << 20)
OPTIONS = (
    ImportOptions(limits=LIMITS),
    ImportOptions(limits=LIMITS, compression=Compression("gzip")),
    ImportOptions(limits=LIMITS, platforms=(Platform(architecture="arm64", os="linux"),)),
)
"""Which of them hold for an archive is left to its checksum."""
MEMORY = Path("/dev/shm")
"""Where there is one, nothing has to reach a disk."""
_DIGEST = re.compile(rb"@(\d{1,2})")
_SIZE = re.compile(rb'"#(\d{1,2})"')
_TITLE = re.compile(rb"^-- (.+) --\n", re.MULTILINE)

State = tuple[frozenset[str], dict[str, list[tuple[object, ...]]]]


def load(data: bytes) -> None:
    """The first byte says whether checksums of headers are mended."""
    loads(mended(data[1:]) if data[:1] == MENDED else data[1:])


def load_documents(data: bytes) -> None:
    """An archive told as text: "-- NAME --" lines, each with the member that follows.

    A member called "blob" is stored by its digest. In all members "@N" is the digest of the Nth
    before it, "@@N" the hex of it alone, and "#N" in quotes its size.
    """
    known: list[bytes] = []
    members: list[tuple[str, bytes]] = []
    _, *parts = _TITLE.split(data)
    for title, text in zip(parts[::2], parts[1::2], strict=True):
        body = filled(text.removesuffix(b"\n"), known)
        name = filled(title, known).decode("utf-8", "replace").replace("\0", "")[:90]
        known.append(body)
        path = f"blobs/sha256/{archives.digest(body)[7:]}" if name == "blob" else name
        members.append((path.encode("ascii", "replace").decode(), body))
    loads(archives.tar(members))


def filled(text: bytes, known: list[bytes]) -> bytes:
    def blob(found: re.Match[bytes]) -> bytes:
        return known[int(found[1])] if int(found[1]) < len(known) else b""

    text = re.sub(rb"@" + _DIGEST.pattern, lambda m: archives.digest(blob(m))[7:].encode(), text)
    text = _DIGEST.sub(lambda m: archives.digest(blob(m)).encode(), text)
    return _SIZE.sub(lambda m: b"%d" % len(blob(m)), text)


def loads(data: bytes) -> None:
    """What is refused leaves no trace; what is accepted is saved, and loaded again as the same.

    However it is cut up, the answer is the same; of two things that are wrong with a compressed
    archive either may be told.
    """
    options = OPTIONS[zlib.crc32(data) % len(OPTIONS)]
    place = MEMORY if MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        root = Path(folder)
        with LocalEngine(root / "whole") as whole, LocalEngine(root / "cut") as cut:
            before = state(whole)
            found = answer(lambda: fed(whole, [memoryview(data)], options))
            again = answer(lambda: fed(cut, pieces(data), options))
            if decompress.sniff(data[: decompress.SNIFFED]) == "none" or isinstance(found, Loaded):
                assert again == found
            assert isinstance(again, Refused) == isinstance(found, Refused)
            assert no_ingests(whole)
            if isinstance(found, Refused):
                assert state(whole) == before
                assert state(cut) == before
                return
            check_blobs(whole)
            check_docker_layout(whole, root / "docker")
            saved = save(whole)
            with LocalEngine(root / "other") as other:
                assert len(fed(other, pieces(saved), OPTIONS[0]).images) == len(names(whole))
                assert names(other) == names(whole)
                assert save(other) == saved
                assert stored(other) == stored(whole)
                fed(other, pieces(data), options)
                assert names(other) == names(whole)
                assert no_ingests(other)


def fed(engine: LocalEngine, parts: Iterable[memoryview], options: ImportOptions) -> Loaded:
    with engine.begin_import(options) as coming:
        for part in parts:
            coming.feed(part)
        return coming.finish()


def images(engine: LocalEngine) -> list[Image]:
    return sorted(engine.images.all(), key=lambda image: image.name)


def names(engine: LocalEngine) -> dict[str, str]:
    return {image.name: image.target.digest for image in images(engine)}


def save(engine: LocalEngine) -> bytes:
    out: list[bytes] = []
    engine.write(images(engine), combined.Options(fallback=selection.any_complete), out.append)
    return b"".join(out)


def stored(engine: LocalEngine) -> frozenset[str]:
    root = engine.path / "blobs"
    return frozenset(f"{p.parent.name}:{p.name}" for p in root.glob("*/*"))


def no_ingests(engine: LocalEngine) -> bool:
    return not any((engine.path / "ingest").glob("*"))


def check_blobs(engine: LocalEngine) -> None:
    for blob in stored(engine):
        algorithm, _, encoded = blob.partition(":")
        data = (engine.path / "blobs" / algorithm / encoded).read_bytes()
        assert archives.digest(data, algorithm) == blob


def check_docker_layout(engine: LocalEngine, path: Path) -> None:
    """What docker would have saved is loaded, too."""
    out: list[bytes] = []
    options = docker_save.Options(fallback=selection.any_complete)
    saved = answer(lambda: engine.save_for_docker(images(engine), options, out.append))
    if not isinstance(saved, Refused):
        with LocalEngine(path) as other:
            assert fed(other, pieces(b"".join(out)), OPTIONS[0]).images


def state(engine: LocalEngine) -> State:
    """The blobs and every row of the database."""
    with closing(sqlite3.connect(engine.path / "imgfs.db")) as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        rows = {name: database.execute(f"SELECT * FROM {name}").fetchall() for (name,) in tables}
    return stored(engine), rows

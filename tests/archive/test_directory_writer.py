"""Layouts as directories on disk."""

import errno
import gzip
import os
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from msgspec.structs import replace

from engine.archive import layout_directory
from engine.archive.directory_writer import DirectoryOutput
from engine.archive.entry_content import Source
from engine.content.protocols import ReaderAt
from engine.errors import (
    BrokenArchive,
    DigestMismatch,
    InvalidDocument,
    LimitExceeded,
    NotFound,
    SizeMismatch,
)
from engine.layouts.entry import Decompressed, Entry
from engine.progress import Done
from engine.spec import digest, oci
from engine.spec.descriptor import Descriptor
from engine.spec.digest import Digest
from engine.spec.go_json import JSON_LIMIT
from tests.archive.test_writer import MemoryProvider
from tests.stores.memory import MemoryTables

LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
SMALL, LARGE = b"small", os.urandom(3 << 20)
TEMPORARY = ".imgfs-0123456789abcdef"


def index(*names: str) -> bytes:
    target = Descriptor(oci.MANIFEST, digest.of_bytes(b""), 0)
    entries = tuple(replace(target, annotations={oci.IMAGE_NAME: name}) for name in names)
    return oci.render(oci.Index(schema_version=2, media_type=oci.INDEX, manifests=entries))


NO_IMAGES = index()


def layout(*blobs: bytes, index: bytes = NO_IMAGES) -> tuple[list[Entry], MemoryProvider]:
    named: dict[str, bytes] = {digest.of_bytes(data): data for data in blobs}
    entries = [
        Entry.directory("blobs", 5),
        Entry.directory("blobs/sha256", 6),
        *(Entry.blob(digest.of_bytes(data), len(data), "") for data in named.values()),
        Entry.file("index.json", 0o644, 7, index),
        Entry.file("oci-layout", 0o444, 8, LAYOUT),
    ]
    return entries, MemoryProvider(named)


def write(path: Path, written: tuple[Sequence[Entry], MemoryProvider]) -> int:
    return DirectoryOutput(path).write_layout(written[0], Source(written[1], MemoryTables()))


def place(path: Path, data: bytes) -> Path:
    return path / Entry.blob_path(digest.of_bytes(data))


def picture(path: Path) -> Mapping[str, object]:
    """Return kind, time, inode and bytes of everything below a path."""
    found: dict[str, object] = {}
    for below in sorted(path.rglob("*")):
        at = below.lstat()
        data = below.read_bytes() if stat.S_ISREG(at.st_mode) else None
        found[str(below.relative_to(path))] = (at.st_mode, at.st_mtime, at.st_ino, data)
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "layout"


def test_files_are_the_entries(path: Path) -> None:
    entries, provider = layout(SMALL, LARGE, b"")
    old = os.umask(0o022)
    try:
        assert write(path, (entries, provider)) == sum(entry.size for entry in entries)
    finally:
        os.umask(old)
    found = {str(p.relative_to(path)): p.stat() for p in path.rglob("*")}
    assert set(found) == {entry.path for entry in entries}
    for entry in entries:
        at = found[entry.path]
        kind = stat.S_IFDIR | 0o755 if entry.is_directory else stat.S_IFREG | 0o644
        assert (at.st_mode, at.st_mtime) == (kind, entry.mtime), entry
    assert path.stat().st_mtime == 7, "as index.json"
    assert place(path, LARGE).read_bytes() == LARGE
    assert all(reader.closed for reader in provider.opened)


def test_the_umask_counts(path: Path) -> None:
    old = os.umask(0o027)
    try:
        write(path, layout(SMALL))
    finally:
        os.umask(old)
    modes = {stat.S_IMODE(found.stat().st_mode) for found in [path, *path.rglob("*")]}
    assert modes == {0o750, 0o640}


def test_a_layer_is_written_decompressed(path: Path) -> None:
    data = b"plain" * 1000
    packed = gzip.compress(data)
    stored, diff_id = digest.of_bytes(packed), digest.of_bytes(data)
    entries, _ = layout()
    entries.append(Entry(Entry.blob_path(diff_id), 0o644, 9, 5000, Decompressed(stored, diff_id)))
    write(path, (entries, MemoryProvider({stored: packed})))
    assert place(path, data).read_bytes() == data


def test_a_second_time_nothing_is_written(path: Path) -> None:
    write(path, layout(SMALL, LARGE))
    before = picture(path)
    entries, provider = layout(SMALL, LARGE)
    write(path, (entries, provider))
    assert picture(path) == before
    assert provider.opened == []


def test_blobs_are_added(path: Path) -> None:
    write(path, layout(SMALL, index=index("a:1")))
    inode = place(path, SMALL).stat().st_ino
    write(path, layout(SMALL, LARGE, index=index("b:1")))
    assert place(path, SMALL).stat().st_ino == inode
    assert place(path, LARGE).read_bytes() == LARGE
    merged = oci.parse_index((path / "index.json").read_bytes(), "")
    assert [e.annotations[oci.IMAGE_NAME] for e in merged.manifests] == ["a:1", "b:1"]


def test_a_document_that_replaces_another_is_later(path: Path) -> None:
    """rsync compares time and size."""
    times = []
    for name in ("a:1", "b:1", "a:1"):
        write(path, layout(index=index(name)))
        times.append((path / "index.json").stat().st_mtime)
    assert times == [7, 8, 8], "the third adds nothing"


@pytest.mark.parametrize("there", [b"", SMALL[:-1], SMALL + b"more"])
def test_a_blob_of_another_size_is_replaced(path: Path, there: bytes) -> None:
    write(path, layout())
    place(path, SMALL).write_bytes(there)
    write(path, layout(SMALL))
    assert place(path, SMALL).read_bytes() == SMALL
    assert place(path, SMALL).stat().st_mtime == 0


def test_a_blob_of_that_size_is_taken_as_it_is(path: Path) -> None:
    write(path, layout())
    place(path, SMALL).write_bytes(b"wrong")
    write(path, layout(SMALL))
    assert place(path, SMALL).read_bytes() == b"wrong"


@pytest.mark.parametrize("data", [SMALL, LARGE])
@pytest.mark.parametrize("there", ["nothing", "a layout"])
def test_a_wrong_blob_gets_no_name(path: Path, data: bytes, there: str) -> None:
    if there == "a layout":
        write(path, layout(b"old", index=index("old:1")))
    entries, _ = layout(data, index=index("new:1"))
    wrong = data[:-1] + bytes([data[-1] ^ 1])
    before = picture(path)
    with pytest.raises(DigestMismatch):
        write(path, (entries, MemoryProvider({digest.of_bytes(data): wrong})))
    after = picture(path)
    assert {name for name in after if name not in before} <= {"blobs", "blobs/sha256", "oci-layout"}
    assert all(after[name] == found for name, found in before.items() if name != "blobs/sha256")
    write(path, layout(data, index=index("new:1")))
    assert place(path, data).read_bytes() == data


def test_a_blob_of_the_wrong_size_gets_no_name(path: Path) -> None:
    entries, _ = layout(SMALL)
    with pytest.raises(SizeMismatch):
        write(path, (entries, MemoryProvider({digest.of_bytes(SMALL): b"s"})))
    assert not place(path, SMALL).exists()


def test_an_absent_blob_leaves_no_index(path: Path) -> None:
    entries, _ = layout(SMALL)
    with pytest.raises(NotFound):
        write(path, (entries, MemoryProvider({})))
    assert not (path / "index.json").exists()


class Watched:
    """A provider that looks at the directory whenever a blob is opened."""

    def __init__(self, provider: MemoryProvider, look: Callable[[], object]) -> None:
        self._provider = provider
        self._look = look

    def open(self, digest: str) -> ReaderAt:
        self._look()
        return self._provider.open(digest)


def test_the_index_is_last(path: Path) -> None:
    seen: list[set[str]] = []
    entries, provider = layout(SMALL, LARGE)
    watched = Watched(provider, lambda: seen.append(set(os.listdir(path))))
    DirectoryOutput(path).write_layout(entries, Source(watched, MemoryTables()))
    assert len(seen) == 2
    assert all("oci-layout" in names and "index.json" not in names for names in seen)


def test_progress_counts_what_is_there_already(path: Path) -> None:
    write(path, layout(SMALL))
    entries, provider = layout(SMALL, LARGE)
    reports: list[Done] = []
    size = DirectoryOutput(path, reports.append).write_layout(
        entries, Source(provider, MemoryTables())
    )
    assert [done.size for done in reports] == sorted(done.size for done in reports)
    assert {done.total for done in reports} == {size} == {reports[-1].size}


# -- what may be there ----------------------------------------------------------------------------


def test_temporary_files_are_removed(path: Path) -> None:
    path.mkdir()
    (path / TEMPORARY).write_bytes(b"left behind")
    write(path, layout(SMALL))
    assert sorted(os.listdir(path)) == ["blobs", "index.json", "oci-layout"]


def test_a_directory_with_the_name_of_a_temporary_file_stays(path: Path) -> None:
    write(path, layout(SMALL))
    (path / TEMPORARY).mkdir()
    write(path, layout(LARGE))
    assert (path / TEMPORARY).is_dir()
    assert place(path, LARGE).read_bytes() == LARGE


@pytest.mark.parametrize("document", [b"null", b"[]", b"{"])
def test_a_manifest_json_that_names_no_image_is_replaced(path: Path, document: bytes) -> None:
    write(path, layout(SMALL))
    (path / "manifest.json").write_bytes(document)
    write(path, layout(LARGE))
    assert (path / "manifest.json").read_bytes() == document
    entries, provider = layout()
    item = b'[{"Config":"c","RepoTags":null,"Layers":null}]'
    write(path, ([*entries, Entry.file("manifest.json", 0o644, 9, item)], provider))
    assert (path / "manifest.json").read_bytes() == item


def test_an_interrupt_at_any_line_of_a_copy_leaves_no_temporary_file(path: Path) -> None:
    write(path, layout(SMALL))
    before = sorted(os.listdir(path))
    copying = ("LayoutDirectory.put", "LayoutDirectory._begin", "_NewFile.__init__")

    def is_interrupted(at: int) -> bool:
        """Write a blob, which is interrupted at a line of the copy; return whether there are so
        many.
        """
        lines = count()

        def trace(frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
            if event == "line" and next(lines) == at:
                raise KeyboardInterrupt
            return trace if frame.f_code.co_qualname in copying else None

        sys.settrace(trace)
        try:
            write(path, layout(SMALL, LARGE))
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(None)
        return False

    at = 0
    while is_interrupted(at):
        assert sorted(os.listdir(path)) == before
        at += 1
    assert at > 0


def test_what_was_begun_is_finished(path: Path) -> None:
    """A writer that died before it wrote an index."""
    write(path, layout(SMALL))
    (path / "index.json").unlink()
    entries, provider = layout(SMALL, LARGE)
    write(path, (entries, provider))
    assert len(provider.opened) == 1
    assert (path / "index.json").exists()


def test_files_of_others_stay(path: Path) -> None:
    write(path, layout(SMALL))
    (path / "README").write_bytes(b"mine")
    (path / ".imgfs-notes").write_bytes(b"mine too")
    write(path, layout(LARGE))
    assert (path / "README").read_bytes() == b"mine"
    assert (path / ".imgfs-notes").read_bytes() == b"mine too"


def _other_files(path: Path) -> None:
    (path / "photo.jpg").write_bytes(b"")


def _index_alone(path: Path) -> None:
    (path / "index.json").write_bytes(NO_IMAGES)


def _file(name: str, data: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        write(path, layout(SMALL))
        (path / name).write_bytes(data)

    return make


def _special(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        write(path, layout(SMALL))
        (path / name).unlink()
        make(path / name)

    return replace


REFUSED: dict[str, tuple[Callable[[Path], None], type[Exception], str]] = {
    "other files": (_other_files, BrokenArchive, "layout: expected an empty directory or an OCI"),
    "an index alone": (_index_alone, BrokenArchive, "expected an empty directory"),
    "a broken index": (_file("index.json", b"{"), InvalidDocument, "index.json"),
    "an empty index": (_file("index.json", b""), InvalidDocument, "index.json"),
    "an index that is a list": (_file("index.json", b"[]"), InvalidDocument, "index.json"),
    "another version": (
        _file("oci-layout", b'{"imageLayoutVersion":"2.0.0"}'),
        InvalidDocument,
        "unsupported imageLayoutVersion",
    ),
    "an endless index": (_file("index.json", b" " * (JSON_LIMIT + 1)), LimitExceeded, "index.json"),
    "an index that is a symlink": (
        _special("index.json", lambda path: path.symlink_to("oci-layout")),
        OSError,
        "index.json",
    ),
    "an index that is a pipe": (_special("index.json", os.mkfifo), BrokenArchive, "regular file"),
    "an index that is a directory": (_special("index.json", Path.mkdir), OSError, "index.json"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_nothing_touched(path: Path, case: str) -> None:
    make, error, words = REFUSED[case]
    path.mkdir()
    make(path)
    (path / TEMPORARY).write_bytes(b"of another writer")
    before = picture(path)
    with pytest.raises(error) as caught:
        write(path, layout(LARGE))
    assert words in str(caught.value)
    assert picture(path) == before


@pytest.mark.parametrize("name", ["blobs", "blobs/sha256"])
def test_a_symlink_to_a_directory_is_not_followed(path: Path, tmp_path: Path, name: str) -> None:
    write(path, layout())
    outside = tmp_path / "outside"
    (path / name).rename(outside)
    (path / name).symlink_to(outside)
    before = picture(outside)
    with pytest.raises(NotADirectoryError) as caught:
        write(path, layout(SMALL))
    assert caught.value.filename == str(path / name)
    assert picture(outside) == before


def test_a_blob_that_is_a_symlink_is_replaced(path: Path, tmp_path: Path) -> None:
    write(path, layout())
    outside = tmp_path / "outside"
    outside.write_bytes(SMALL)
    place(path, SMALL).symlink_to(outside)
    write(path, layout(SMALL))
    assert not place(path, SMALL).is_symlink()
    assert place(path, SMALL).read_bytes() == outside.read_bytes() == SMALL


def test_a_directory_in_the_place_of_a_blob(path: Path) -> None:
    write(path, layout())
    place(path, SMALL).mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write(path, layout(SMALL))
    assert caught.value.filename == str(place(path, SMALL))
    assert not list(path.glob(".imgfs-*"))


def test_only_the_last_part_of_a_path_is_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "absent" / "layout", layout())
    assert os.listdir(tmp_path) == []


def test_a_file_is_no_directory(path: Path) -> None:
    path.write_bytes(b"mine")
    with pytest.raises(NotADirectoryError):
        write(path, layout())
    assert path.read_bytes() == b"mine"


# -- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call", ["open", "pwrite", "utime", "fdatasync", "fsync", "rename", "mkdir"]
)
@pytest.mark.parametrize("number", [0, 1, 2, 3, 4])
def test_a_full_disk_leaves_the_old_layout(
    path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    """Whichever call finds it full, the old layout is whole and no temporary file stays."""
    monkeypatch.setattr(layout_directory, "_SYNC_SIZE", 1 << 20)
    write(path, layout(b"old", index=index("old:1")))
    (path / "blobs/sha256" / digest.of_bytes(b"old").encoded).unlink()
    before = (path / "index.json").read_bytes()
    real, calls = getattr(os, call), []

    def full(*arguments: object, **options: object) -> object:
        calls.append(arguments)
        if len(calls) - 1 == number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments, **options)

    written = layout(b"old", SMALL, LARGE, index=index("new:1"))
    failures = []
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        try:
            write(path, written)
        except OSError as error:
            failures.append(error)
    assert len(failures) == (len(calls) > number)
    for failure in failures:
        assert failure.errno == errno.ENOSPC
        assert str(failure.filename).startswith(str(path))
        assert (path / "index.json").read_bytes() == before
        assert call != "fdatasync" or not place(path, LARGE).exists()
    assert not list(path.glob(".imgfs-*"))
    write(path, written)
    assert place(path, LARGE).read_bytes() == LARGE


def test_more_files_than_are_synced_at_once_are_written(path: Path) -> None:
    """More than are on their way to the disk at once."""
    blobs = [b"%d" % number for number in range(100)]
    write(path, layout(*blobs))
    assert {place(path, data).read_bytes() for data in blobs} == set(blobs)


def test_an_interrupt_leaves_no_temporary_file(path: Path) -> None:
    def interrupt(done: Done) -> None:
        if done.size > 1 << 20:
            raise KeyboardInterrupt

    entries, provider = layout(SMALL, LARGE)
    with pytest.raises(KeyboardInterrupt):
        DirectoryOutput(path, interrupt).write_layout(entries, Source(provider, MemoryTables()))
    assert sorted(os.listdir(path)) == ["blobs", "oci-layout"]
    assert os.listdir(path / "blobs/sha256") in ([], [digest.of_bytes(SMALL).encoded])


def test_names_of_blobs_are_digests_of_any_algorithm(path: Path) -> None:
    name = digest.of_bytes(SMALL, "sha512")
    entries, _ = layout()
    entries += [Entry.directory("blobs/sha512", 0), Entry.blob(Digest(name), len(SMALL), "")]
    write(path, (entries, MemoryProvider({name: SMALL})))
    assert (path / "blobs/sha512" / name.encoded).read_bytes() == SMALL

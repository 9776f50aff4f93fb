import bz2
import gzip
import io
import tarfile
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.archive.entry_content import Source
from engine.archive.writer import write_archive
from engine.closing import Closing
from engine.errors import BrokenArchive, DigestMismatch, NotFound, SizeMismatch
from engine.layouts.entry import Decompressed, Entry
from engine.limits import Limits
from engine.progress import Done
from engine.spec import digest, oci
from engine.spec.digest import Digest
from engine.tar.reader import MemberData, MemberStart, TarReader
from tests.stores.memory import MemoryTables
from tests.tar.raw_tar import END, header, padded, pax

MIB = 1 << 20


class MemoryReader(Closing):
    """A blob, `size` bytes of which are said to be there."""

    def __init__(self, data: bytes, size: int, asked: list[int]) -> None:
        self._data = data
        self._asked = asked
        self.size = size
        self.closed = False

    def pread(self, length: int, offset: int) -> bytes:
        self._asked.append(length)
        return self._data[offset : offset + length]

    def fileno(self) -> None:
        """Return None: it is in memory."""

    def close(self) -> None:
        self.closed = True


class MemoryProvider:
    """Blobs by the digests they are to be asked for by."""

    def __init__(self, blobs: dict[str, bytes], size: int | None = None) -> None:
        self._blobs = blobs
        self._size = size
        self.opened: list[MemoryReader] = []
        self.asked: list[int] = []

    def open(self, digest: str) -> MemoryReader:
        if digest not in self._blobs:
            raise NotFound("blob", digest)
        data = self._blobs[digest]
        size = len(data) if self._size is None else self._size
        self.opened.append(MemoryReader(data, size, self.asked))
        return self.opened[-1]


NOTHING = MemoryProvider({})


def written(entries: Sequence[Entry], provider: MemoryProvider = NOTHING) -> bytes:
    out = io.BytesIO()
    assert write_archive(entries, Source(provider, MemoryTables()), out.write) == len(
        out.getvalue()
    )
    return out.getvalue()


def blob(data: bytes, algorithm: str = "sha256") -> tuple[Entry, MemoryProvider]:
    name = digest.of_bytes(data, algorithm)
    return Entry.blob(name, len(data), ""), MemoryProvider({name: data})


# -- bytes ----------------------------------------------------------------------------------------

NO_DEVICE = bytes(72) + b"0000000\x000000000\0"


def ustar(
    name: bytes, size: int, flag: bytes, mode: bytes, mtime: bytes, prefix: bytes = b""
) -> bytes:
    """A header as Go writes it: numbers of devices are written out for everything."""
    block = bytearray(header(name, size, flag, mode=mode, mtime=mtime, prefix=prefix))
    block[265:345] = NO_DEVICE[8:]
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def test_a_directory() -> None:
    expected = ustar(b"blobs/", 0, b"5", b"0000755\0", b"00000000012\0")
    assert written([Entry.directory("blobs", 10)]) == expected + END


def test_a_file() -> None:
    entry = Entry.file("index.json", 0o644, 1700000000, b"{}")
    expected = ustar(b"index.json", 2, b"0", b"0000644\0", b"14524770400\0")
    assert written([entry]) == expected + padded(b"{}") + END


def test_an_empty_file() -> None:
    expected = ustar(b"empty", 0, b"0", b"0000444\0", b"00000000000\0")
    assert written([Entry.file("empty", 0o444, 0, b"")]) == expected + END


def test_a_blob() -> None:
    data = b"b" * 512
    entry, provider = blob(data)
    name = f"blobs/sha256/{digest.of_bytes(data).encoded}".encode()
    expected = ustar(name, 512, b"0", b"0000444\0", b"00000000000\0")
    assert written([entry], provider) == expected + data + END
    assert [reader.closed for reader in provider.opened] == [True]


def test_nothing() -> None:
    assert written([]) == END


def test_a_long_path_is_split_at_its_last_slash_that_fits() -> None:
    path = "/".join(["d" * 50] * 3 + ["f" * 60])
    name, prefix = b"f" * 60, "/".join(["d" * 50] * 3).encode()
    expected = ustar(name, 0, b"0", b"0000444\0", b"00000000000\0", prefix)
    assert written([Entry.file(path, 0o444, 0, b"")]) == expected + END


def pax_header(name: bytes, records: dict[str, str]) -> bytes:
    data = pax(records)[512:]
    size = len(data.rstrip(b"\0"))
    return header(name, size, b"x", mode=b"0000000\0") + data


def test_a_path_that_cannot_be_split_needs_pax() -> None:
    data = b"x"
    entry, provider = blob(data, "sha512")
    path = f"blobs/sha512/{digest.of_bytes(data, 'sha512').encoded}"
    expected = pax_header(f"blobs/sha512/PaxHeaders.0/{path[13:]}".encode()[:100], {"path": path})
    expected += ustar(path.encode()[:100], 1, b"0", b"0000444\0", b"00000000000\0")
    assert written([entry], provider) == expected + padded(data) + END


def test_a_path_that_is_not_ascii_needs_pax() -> None:
    expected = pax_header(b"PaxHeaders.0/spter", {"path": "später"})
    expected += ustar(b"spter", 0, b"0", b"0000444\0", b"00000000000\0")
    assert written([Entry.file("später", 0o444, 0, b"")]) == expected + END


@pytest.mark.parametrize("mtime", [-1, 8**11])
def test_a_time_that_is_no_octal_number_needs_pax(mtime: int) -> None:
    expected = pax_header(b"PaxHeaders.0/f", {"mtime": str(mtime)})
    expected += ustar(b"f", 0, b"0", b"0000444\0", b"00000000000\0")
    assert written([Entry.file("f", 0o444, mtime, b"")]) == expected + END


def test_a_size_that_is_no_octal_number_needs_pax() -> None:
    size = 8**11
    name = digest.of_bytes(b"")
    out = io.BytesIO()
    provider = MemoryProvider({name: bytes(MIB)}, size)
    with pytest.raises(SizeMismatch):
        write_archive(
            [Entry("f", 0o444, 0, size, name)], Source(provider, MemoryTables()), out.write
        )
    expected = pax_header(b"PaxHeaders.0/f", {"size": str(size)})
    expected += ustar(b"f", 0, b"0", b"0000444\0", b"00000000000\0")
    assert out.getvalue()[: len(expected)] == expected


def test_a_long_path_goes_into_pax_with_the_rest() -> None:
    path = "/".join(["d" * 50] * 3)
    expected = pax_header(
        f"{path}/PaxHeaders.0".encode()[:100], {"mtime": "-1", "path": f"{path}/"}
    )
    expected += ustar(path.encode()[:100], 0, b"5", b"0000755\0", b"00000000000\0")
    assert written([Entry.directory(path, -1)]) == expected + END


def test_a_path_cut_at_a_slash_is_no_directory() -> None:
    path = "d" * 99 + "/" + "f" * 101
    expected = pax_header(b"d" * 99, {"path": path})
    expected += ustar(b"d" * 99, 0, b"0", b"0000444\0", b"00000000000\0")
    assert written([Entry.file(path, 0o444, 0, b"")]) == expected + END


def test_the_length_of_a_pax_record_counts_itself() -> None:
    for length in range(101, 1200):
        with tarfile.open(
            fileobj=io.BytesIO(written([Entry.file("f" * length, 0o444, 0, b"")]))
        ) as archive:
            assert archive.getnames() == ["f" * length]


# -- layers that are decompressed -----------------------------------------------------------------

LAYER = bytes(3 * MIB) + b"end"
FRAME = b"\x28\xb5\x2f\xfd\x20\x03\x19\x00\x00end"
"""A zstd frame with one raw block."""


def decompressed(stored: bytes, plain: bytes, size: int) -> tuple[Entry, MemoryProvider]:
    """An entry for what should come out of a stored blob."""
    name = digest.of_bytes(stored)
    content = Decompressed(name, digest.of_bytes(plain))
    return Entry("f", 0o644, 0, size, content), MemoryProvider({name: stored})


@pytest.mark.parametrize(
    ("stored", "plain"),
    [
        (gzip.compress(LAYER), LAYER),
        (bz2.compress(LAYER), bz2.compress(LAYER)),
        (FRAME, b"end"),
        (b"plain, and longer", b"plain, and longer"),
        (gzip.compress(b""), b""),
    ],
)
def test_a_decompressed_layer(stored: bytes, plain: bytes) -> None:
    entry, provider = decompressed(stored, plain, len(plain))
    archive = written([entry], provider)
    assert archive == ustar(b"f", len(plain), b"0", b"0000644\0", b"00000000000\0") + (
        padded(plain) + END
    )
    assert [reader.closed for reader in provider.opened] == [True]


def test_a_layer_is_decompressed_in_chunks() -> None:
    entry, provider = decompressed(gzip.compress(LAYER), LAYER, len(LAYER))
    sizes: list[int] = []
    write_archive([entry], Source(provider, MemoryTables()), lambda part: sizes.append(len(part)))
    assert max(sizes) == MIB


def test_a_layer_of_another_diff_id_is_refused_before_it_is_complete() -> None:
    entry, provider = decompressed(gzip.compress(LAYER), b"something else", len(LAYER))
    out = io.BytesIO()
    with pytest.raises(DigestMismatch) as caught:
        write_archive([entry], Source(provider, MemoryTables()), out.write)
    assert caught.value.expected == digest.of_bytes(b"something else")
    assert caught.value.found == digest.of_bytes(LAYER)
    assert len(out.getvalue()) < 512 + len(LAYER)


@pytest.mark.parametrize("more", [-1, 1, 2 * MIB, -2 * MIB])
def test_a_layer_of_another_uncompressed_size_is_refused(more: int) -> None:
    size = len(LAYER) + more
    entry, provider = decompressed(gzip.compress(LAYER), LAYER, size)
    out = io.BytesIO()
    with pytest.raises(SizeMismatch) as caught:
        write_archive([entry], Source(provider, MemoryTables()), out.write)
    assert caught.value.expected == size
    assert len(out.getvalue()) <= 512 + size


def test_a_layer_that_cannot_be_decompressed_is_named() -> None:
    entry, provider = decompressed(gzip.compress(LAYER)[:-1], LAYER, len(LAYER))
    with pytest.raises(BrokenArchive, match="f: is a truncated gzip stream"):
        written([entry], provider)
    assert provider.opened[0].closed


# -- what is wrong --------------------------------------------------------------------------------


def test_a_blob_of_another_size_is_refused() -> None:
    entry, provider = blob(b"data")
    wrong = Entry(entry.path, 0o444, 0, 5, entry.content)
    with pytest.raises(SizeMismatch) as caught:
        written([wrong], provider)
    assert (caught.value.subject, caught.value.expected, caught.value.found) == (entry.path, 5, 4)


def test_a_blob_that_ends_early_is_refused() -> None:
    name = digest.of_bytes(b"data and more")
    provider = MemoryProvider({name: b"data"}, 13)
    with pytest.raises(SizeMismatch) as caught:
        written([Entry.blob(name, 13, "")], provider)
    assert (caught.value.expected, caught.value.found) == (13, 4)
    assert provider.opened[0].closed


@pytest.mark.parametrize("algorithm", digest.ALGORITHMS)
def test_a_blob_of_another_digest_is_refused_before_it_is_complete(algorithm: str) -> None:
    data = bytes(3 * MIB)
    name = digest.of_bytes(b"something else", algorithm)
    out = io.BytesIO()
    entry = Entry("f", 0o444, 0, len(data), name)
    with pytest.raises(DigestMismatch) as caught:
        write_archive([entry], Source(MemoryProvider({name: data}), MemoryTables()), out.write)
    assert caught.value.expected == name
    assert caught.value.found == digest.of_bytes(data, algorithm)
    assert len(out.getvalue()) == 512 + 2 * MIB


def test_an_empty_blob_is_verified_too() -> None:
    name = digest.of_bytes(b"something")
    with pytest.raises(DigestMismatch):
        written([Entry.blob(name, 0, "")], MemoryProvider({name: b""}))


def test_a_blob_that_is_not_there() -> None:
    with pytest.raises(NotFound):
        written([Entry.blob(digest.of_bytes(b"absent"), 6, "")])


# -- as it goes -----------------------------------------------------------------------------------


def test_blobs_are_copied_in_chunks_and_progress_is_told() -> None:
    data = bytes(2 * MIB + 5)
    entry, provider = blob(data)
    told: list[Done] = []
    sizes: list[int] = []
    total = write_archive(
        [entry], Source(provider, MemoryTables()), lambda part: sizes.append(len(part)), told.append
    )
    assert provider.asked == [MIB, MIB, 5]
    assert sizes == [512, MIB, MIB, 5, 507, 1024]
    so_far = [sum(sizes[: count + 1]) for count in range(len(sizes))]
    assert told == [Done(size, total, entry.is_layer, entry.is_layer) for size in so_far]
    assert total == sum(sizes)


def test_progress_tells_layers() -> None:
    """What is a layer, by its type or because it is decompressed, is counted when it begins."""
    config, layer = b"config", b"layer"
    names = [digest.of_bytes(data) for data in (config, layer)]
    provider = MemoryProvider(dict(zip(names, (config, layer), strict=True)))
    entries = [
        Entry.blob(names[0], len(config), oci.CONFIG),
        Entry.blob(names[1], len(layer), oci.LAYER),
    ]
    told: list[Done] = []
    write_archive(entries, Source(provider, MemoryTables()), lambda _: None, told.append)
    assert [(done.layers, done.total_layers) for done in told] == [(0, 1)] * 3 + [(1, 1)] * 4


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(
                lambda path: not path.startswith("/") and not path.endswith("/")
            ),
            st.binary(max_size=1200) | st.none(),
            st.integers(-(10**12), 10**12),
        ),
        max_size=5,
    )
)
def test_what_is_written_is_read(files: list[tuple[str, bytes | None, int]]) -> None:
    entries = [
        Entry.directory(path, mtime) if data is None else Entry.file(path, 0o640, mtime, data)
        for path, data, mtime in files
    ]
    found: list[tuple[str, bytes | None, int]] = []
    for event in TarReader(Limits()).feed(memoryview(written(entries))):
        match event:
            case MemberStart(member):
                is_directory = member.kind == "dir"
                name = member.name.removesuffix("/") if is_directory else member.name
                found.append((name, None if is_directory else b"", member.mtime_ns // 10**9))
            case MemberData(data):
                name, before, mtime = found[-1]
                found[-1] = (name, (before or b"") + data, mtime)
    assert found == files


def test_tarfile_reads_it() -> None:
    entry, provider = blob(b"layer")
    entries = [Entry.directory("blobs", 5), entry, Entry.file("oci-layout", 0o444, 7, b"{}")]
    with tarfile.open(fileobj=io.BytesIO(written(entries, provider))) as archive:
        found = [(i.name, i.type, i.mode, i.mtime, i.size, i.uid, i.uname) for i in archive]
        content = archive.extractfile(entry.path)
        assert content is not None
        assert content.read() == b"layer"
    assert found == [
        ("blobs", tarfile.DIRTYPE, 0o755, 5, 0, 0, ""),
        (entry.path, tarfile.REGTYPE, 0o444, 0, 5, 0, ""),
        ("oci-layout", tarfile.REGTYPE, 0o444, 7, 2, 0, ""),
    ]


def test_entries_know_their_digests() -> None:
    entry, _ = blob(b"x")
    assert isinstance(entry.content, Digest)

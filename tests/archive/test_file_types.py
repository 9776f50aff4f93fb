"""What is no archive is called what it is, however it comes."""

import base64
import gzip
import io
import json
import lzma
import pickle
import zipfile
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.archive import file_types
from engine.archive.import_options import ImportOptions
from engine.archive.importer import Import
from engine.errors import EngineError
from engine.limits import Limits
from tests import archives
from tests.archives import ImageParts
from tests.local_engine import LocalEngine
from tests.tar import raw_tar

ARCHIVE = archives.docker_archive((ImageParts(), ["app:1"]))


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("app.tar", ARCHIVE)
    return out.getvalue()


def at(offset: int, magic: bytes, size: int = 100_000) -> bytes:
    return (bytes(offset) + magic).ljust(size, b"\x01")


PAGE = b"\n<!DOCTYPE html>\n<html><head><title>\n Sign in\n</title></head>" + b"<p>" * 40_000
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"

FILES = {
    "zip": (zipped(), "a zip archive: unpack it"),
    "7z": (at(0, b"7z\xbc\xaf\x27\x1c"), "a 7z archive"),
    "rar": (at(0, b"Rar!\x1a\x07\x01\x00"), "a rar archive"),
    "cpio": (b"070701" + b"0" * 200, "a cpio archive"),
    "deb": (b"!<arch>\ndebian-binary   ", "a Debian package"),
    "old lz4": (at(0, b"\x02\x21\x4c\x18"), "an lz4 stream of the old format: decompress it"),
    "lzip": (at(0, b"LZIP\x01\x0c"), "an lzip stream: decompress it with lzip -d"),
    "lzop": (at(0, b"\x89LZO\0\r\n\x1a\n"), "an lzop stream"),
    "compress": (b"\x1f\x9d\x90" + b"\x01" * 300, "a compress (.Z) stream"),
    "qcow2": (at(0, b"QFI\xfb\0\0\0\3"), "a qcow2 disk image"),
    "vmdk": (at(0, b"KDMV\1\0\0\0"), "a VMDK disk image"),
    "vhd": (at(0, b"conectix"), "a VHD disk image"),
    "gpt": (at(512, b"EFI PART"), "a disk image with a GPT"),
    "mbr": (at(510, b"\x55\xaa"), "a disk image with a boot sector"),
    "squashfs": (at(0, b"hsqs"), "a squashfs image"),
    "ext4": (at(1080, b"\x53\xef"), "an ext2, ext3 or ext4 image"),
    "iso": (at(32769, b"CD001"), "an ISO 9660 or UDF image"),
    "btrfs": (at(65600, b"_BHRfS_M"), "a btrfs image"),
    "sif": (b"#!/usr/bin/env run-singularity\n\0SIF_MAGIC\0" + b"01\0", "(SIF)"),
    "elf": (at(0, b"\x7fELF\2\1\1"), "an ELF program"),
    "wasm": (b"\0asm\1\0\0\0", "a WebAssembly module"),
    "pickle": (pickle.dumps({"a": b"x"}), "a Python pickle"),
    "lfs": (LFS, "a Git LFS pointer: run git lfs pull"),
    "annex": (b"/annex/objects/SHA256E-s1--0.tar\n", "a git-annex pointer"),
    "utf-16 with a mark": (ARCHIVE.decode("latin-1").encode("utf-16"), "text in UTF-16"),
    "utf-16 without one": (b"app.json of an image".decode().encode("utf-16-le"), "text in UTF-16"),
    "gzip as utf-8": (
        gzip.compress(ARCHIVE).decode("utf-8", "replace").encode(),
        "if it were text",
    ),
    "xz as utf-8": (lzma.compress(ARCHIVE).decode("latin-1").encode(), "if it were text"),
    "html": (PAGE, "an HTML page (Sign in): download"),
    "xml": (
        b'<?xml version="1.0"?><Error><Message>No such key.</Message></Error>',
        "an XML document (No such key.)",
    ),
    "html without an end of its title": (
        b"<html><title>Sign in" + b" here" * 20_000,
        "an HTML page (Sign in here here",
    ),
    "html with nothing but titles": (b"<html>" + b"<title " * 20_000, "an HTML page: download"),
    "xml with nothing but messages": (
        b"<?xml?>" + b"<message> " * 20_000,
        "an XML document (<message> <message>",
    ),
    "a tag without an end": (b"<a" + b"a" * 99_000 + b">", "text (<aaaa"),
    "json of a registry": (
        b'{"errors":[{"code":"UNAUTHORIZED","message":"log \\"in\\"","detail":1}]}',
        'a JSON document (log "in")',
    ),
    "json of a registry without a message": (
        b'{"errors":[{"code":"MANIFEST_UNKNOWN","detail":{"Tag":"1"}}]}',
        "a JSON document (MANIFEST_UNKNOWN)",
    ),
    "json of a problem": (b'{"status":404,"title":"Not Found"}', "a JSON document (Not Found)"),
    "json of a daemon": (b'{ "message": "No such image: app:1" }\n', "(No such image: app:1)"),
    "json of a server": (json.dumps({"error": "gone", "x": "y" * 9999}).encode(), "(gone)"),
    "json that is large": (
        json.dumps([{"Id": n} for n in range(20_000)]).encode(),
        "a JSON document: load",
    ),
    "a manifest": (ImageParts().manifest(), "a manifest without its blobs"),
    "a Dockerfile": (b"# syntax\n\nFROM alpine:3\nRUN true\n", "a Dockerfile"),
    "what a command said": (b"Error response from daemon: no\n", "text (Error response from"),
    "text of umlauts": ("ä".encode() * 60_000, "text (ää"),
    "base64": (base64.encodebytes(ARCHIVE), "an archive in base64: decode it"),
    "base64 of gzip": (base64.b64encode(gzip.compress(ARCHIVE)), "an archive in base64"),
    "numbers": (b"".join(b"%d\n" % n for n in range(5000)), "text (0 1 2 3"),
    "bytes of Python": (b"b'\\x00\\x01'", "the text of bytes in Python"),
    "output before a tar": (b"Warning: x\nPulling y\n" + ARCHIVE, "other output (Warning: x"),
    "output before gzip": (
        b"Welcome\r\n" + gzip.compress(ARCHIVE),
        "behind other output (Welcome)",
    ),
    "gzip twice": (gzip.compress(gzip.compress(ARCHIVE)), "a gzip stream: it is compressed twice"),
    "zip in gzip": (gzip.compress(zipped()), "a zip archive"),
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEngine]:
    """For the whole module, since what is refused changes nothing."""
    with LocalEngine(tmp_path_factory.mktemp("types") / "store") as engine:
        yield engine


def load(data: bytes, session: Import, size: int) -> None:
    for start in range(0, len(data), size):
        session.feed(data[start : start + size])
    session.finish()


def refused(data: bytes, session: Import, size: int = 1 << 20) -> str:
    with pytest.raises(EngineError) as raised:
        load(data, session, size)
    return str(raised.value)


@pytest.mark.parametrize("size", [509, 1 << 20])
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_archive(engine: LocalEngine, name: str, size: int) -> None:
    data, says = FILES[name]
    with engine.begin_import() as session:
        sentence = refused(data, session, size)
    assert sentence.startswith("archive: is not a tar archive but ")
    assert says in sentence


ROOT = ["etc/passwd", "bin/sh", "usr/lib/os-release", "home/me/.profile"]
HEX = "0" * 64
TARS = {
    "a root file system": (ROOT, "use imgfs commit or docker import"),
    "a container's export": ([".dockerenv", "hello"], "use imgfs commit or docker import"),
    "a root of one file": (["usr/bin/hello"], "use imgfs commit or docker import"),
    "a root under a dot": ([f"./{name}" for name in ROOT], "use imgfs commit or docker import"),
    "skopeo's dir:": (["version", "manifest.json", HEX], "skopeo's dir: transport"),
    "a directory above": (["app/oci-layout", "app/index.json"], "make it with tar -C app -c ."),
    "a docker archive in a directory": (["x/manifest.json", f"x/{HEX}.json"], "tar -C x -c ."),
    "a chart": (["app/Chart.yaml", "app/values.yaml"], "a Helm chart"),
    "an archive in an archive": (["app.tar.gz"], "with another archive in it, app.tar.gz"),
    "a bundle": (["config.json", "rootfs/etc/passwd"], "an OCI runtime bundle"),
    "a context": (["Dockerfile", "main.go"], "a build context"),
    "a layer": (["app/.wh.old", "app/new"], "a layer"),
    "anything": (["README"], "expected oci-layout, manifest.json or repositories, found 1 member:"),
    "two things": (["README", "main.go"], "found 2 members: load what docker save"),
    "dir: in a directory": (
        [f"app/{name}" for name in ("version", "manifest.json", HEX)],
        "skopeo's dir: transport",
    ),
}


@pytest.mark.parametrize("name", TARS)
def test_a_tar_that_is_no_image_archive(engine: LocalEngine, name: str) -> None:
    names, says = TARS[name]
    with engine.begin_import() as session:
        sentence = refused(archives.tar((n, b"{}") for n in names), session)
    assert sentence.startswith("archive: is not an image archive")
    assert says in sentence


def test_a_root_file_system_of_too_many_files(engine: LocalEngine) -> None:
    tar = archives.tar((f"usr/share/{n}", b"%d" % n) for n in range(200))
    with engine.begin_import(ImportOptions(Limits(max_members=100))) as session:
        assert "use imgfs commit or docker import" in refused(tar, session)


def test_line_ends_that_were_changed(engine: LocalEngine) -> None:
    members = [("README", b"one\ntwo\n" * 100), ("manifest.json", b"[]")]
    mangled = archives.tar(members).replace(b"\n", b"\r\n")
    for size in (512, 1 << 20):
        with engine.begin_import() as session:
            sentence = refused(mangled, session, size)
        assert "damaged header behind README" in sentence
        assert "its line ends are CR LF: write the archive with docker save -o" in sentence


@pytest.mark.parametrize("data", [b"", gzip.compress(b""), bytes(4096)], ids=["", "gz", "zeros"])
def test_nothing_at_all(engine: LocalEngine, data: bytes) -> None:
    with engine.begin_import() as session:
        assert "is not an image archive: it is empty" in refused(data, session)


@given(st.binary(max_size=2000) | st.text(max_size=500).map(str.encode))
def test_any_bytes_have_an_answer(data: bytes) -> None:
    found = file_types.identify(data)
    assert found is None or (found.noun and "\n" not in str(found))


@given(st.binary(min_size=1, max_size=600))
def test_a_header_with_the_right_checksum_is_a_tar(name: bytes) -> None:
    header = raw_tar.header(name[:100])
    assert file_types.is_tar(header)
    assert not file_types.is_tar(header[:511])
    assert not file_types.is_tar(bytes([header[0] ^ 1]) + header[1:])

"""Seeds of the fuzz targets: small inputs of every kind, made here."""

import bz2
import gzip
import io
import lzma
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterable
from typing import Final

from tests import archives
from tests.archives import ImageParts
from tests.commit.test_instructions import CASES as INSTRUCTIONS
from tests.filetree import layers as layer_files
from tests.fuzz.tar_targets import MENDED
from tests.tar import raw_tar

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

RAW = b"R"
NAME = "docker.io/library/app:1"
ONE = ImageParts()
ARM = ImageParts(architecture="arm64", layers=(archives.layer("a", b"x" * 2000), archives.layer()))


def seeds(target: str) -> list[bytes]:
    """Return the seeds of a target; it must accept them all."""
    return list(dict.fromkeys(_SEEDS[target]()))


# -- tar ------------------------------------------------------------------------------------------


def _tars() -> list[bytes]:
    found = [*_python_tars(), *_raw_tars(), *_layers(), raw_tar.END, b""]
    return [prefix + data for data in found for prefix in (RAW, MENDED)]


def _python_tars() -> Iterable[bytes]:
    for format_ in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        yield layer_files.layer(
            layer_files.directory("d"),
            layer_files.file("d/f", "content", mtime=1_700_000_000),
            layer_files.symlink("d/s", "../x"),
            layer_files.hardlink("d/h", "d/f"),
            layer_files.fifo("p"),
            layer_files.member("c", tarfile.CHRTYPE, devmajor=1, devminor=3),
            format_=format_,
        )
    for format_ in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        yield layer_files.layer(
            layer_files.file("n" * 120, "long"),
            layer_files.symlink("é" * 60, "t" * 120),
            layer_files.file("big", "", uid=1 << 30, mtime=1 << 34),
            format_=format_,
        )
    yield layer_files.layer(layer_files.with_xattrs("x", tarfile.REGTYPE, {"user.a": "b"}))


def _raw_tars() -> Iterable[bytes]:
    end = raw_tar.END
    yield raw_tar.member(b"v7", b"x", b"\0", magic=raw_tar.V7) + end
    yield raw_tar.member(b"f", b"x", prefix=b"a/b") + raw_tar.header(b"d/", flag=b"5") + end
    yield raw_tar.header(b"f", raw_tar.base256(3, 12), magic=raw_tar.GNU) + raw_tar.padded(b"abc")
    yield raw_tar.member(b"f", b"x", mtime=raw_tar.base256(-5, 12)) + end
    sparse = {"GNU.sparse.size": 2000, "GNU.sparse.numblocks": 1, "GNU.sparse.map": "600,3"}
    yield raw_tar.pax(sparse) + raw_tar.member(b"s", b"abc") + end
    mapped = {"GNU.sparse.major": 1, "GNU.sparse.minor": 0, "GNU.sparse.realsize": 2000}
    mapped["GNU.sparse.name"] = 7
    data = raw_tar.padded(b"2\n0\n3\n1000\n2\n") + b"abcde"
    yield raw_tar.pax(mapped) + raw_tar.member(b"s", data) + end
    tail = bytearray(167)
    tail[41:65] = b"%011o\0%011o\0" % (600, 3)
    tail[138:150] = b"%011o\0" % 2000
    old = raw_tar.header(b"s", 3, b"S", magic=raw_tar.GNU, tail=bytes(tail))
    yield old + raw_tar.padded(b"abc") + end
    tail[137] = 1
    old = raw_tar.header(b"s", 6, b"S", magic=raw_tar.GNU, tail=bytes(tail))
    more = raw_tar.padded(b"%011o\0%011o\0" % (1000, 3))
    yield old + more + raw_tar.padded(b"abcdef") + end
    yield raw_tar.pax({"mtime": "1.5", "uid": 7}, b"g") + raw_tar.member(b"f", b"x") + end
    yield raw_tar.member(b"?", b"other data", b"Z") + raw_tar.member(b"f") + end


def _layers() -> Iterable[bytes]:
    yield layer_files.layer(layer_files.file(".wh.f"), layer_files.file("d/.wh..wh..opq"))
    yield layer_files.layer(layer_files.file("../../x", "1"), layer_files.file("/etc/y", "2"))


def _extended_headers() -> list[bytes]:
    stored = b"abc"
    mapped = raw_tar.padded(b"1\n600\n3\n") + stored
    sparse = b"GNU.sparse.size=2000\nGNU.sparse.numblocks=1\nGNU.sparse."
    return [
        b"path=name\nlinkpath=there\nuid=7\ngid=8\nmtime=-1.000000005\0\0abc",
        b"size=2\nSCHILY.xattr.user.a=b\nLIBARCHIVE.xattr.user%2eb=aGk=\0\0ab",
        sparse + b"map=600,3\0\0" + stored,
        sparse + b"offset=600\nGNU.sparse.numbytes=3\0\0" + stored,
        b"GNU.sparse.major=1\nGNU.sparse.minor=0\nGNU.sparse.name=n\nGNU.sparse.realsize=2000\0\0"
        + mapped,
        "path=é\nuname=ü\ncomment=x\0\0".encode(),
        b"!12 path=abc\n11 uid=123\n\0\0",
        b"!7 a=b\n\0\0",
    ]


def _layer_plans() -> list[bytes]:
    return [
        b"fa/b\nfa/c\n\nfa/.wh.b\nfa/d",
        b"da\nfa/b\nfa/c/d\n\nda\nfa/.wh..wh..opq\nfa/c/e",
        b"la\tb/c\ndb/c\nfa/x\nhy\ta/x\n\nf.wh.a\nfa/x",
        b"l1\t../../2\nl2\t/3\nf1/x\nh../h\t1/x\npf\ncc",
        b"fa\nfa/b\nla\ta\nfb/../a",
        b"fa\nha\ta",
        b"la\ta\nfa/b",
    ]


# -- streams --------------------------------------------------------------------------------------


def _streams() -> list[bytes]:
    text = b"some text, some more text\n" * 20
    long = bytes(range(256)) * 9000
    named = io.BytesIO()
    with gzip.GzipFile("name", "wb", fileobj=named, mtime=1) as out:
        out.write(text)
    packs: tuple[Callable[[bytes], bytes], ...] = (
        lambda data: gzip.compress(data, mtime=0),
        lambda data: gzip.compress(data, 0, mtime=0),
        bz2.compress,
        lzma.compress,
        zstd.compress,
        lambda data: zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1}),
    )
    found = [pack(data) for pack in packs for data in (b"", text)]
    found += [pack(text) + pack(b"more") + bytes(20) for pack in packs]
    found += [gzip.compress(long, 9, mtime=0), zstd.compress(long)]
    extra = b"\x1f\x8b\x08\x1e" + bytes(6) + b"\x03\0abcname\0comment\0"
    checksum = (zlib.crc32(extra) & 0xFFFF).to_bytes(2, "little")
    plain = gzip.compress(text, mtime=0)
    skippable = b"\x50\x2a\x4d\x18\x04\0\0\0skip" + zstd.compress(text)
    return [*found, named.getvalue(), extra + checksum + plain[10:], skippable, b"plain"]


# -- text -----------------------------------------------------------------------------------------


def _json() -> list[bytes]:
    return [
        b'{"a":[1,-2.5e3,true,false,null,"\\u00e9\\ud83d\\ude00<&>"],"b":{}, "a":"again"} ',
        b"[1e400, 123456789012345678901234567890, 1e-7, 1e21, 0.1, -0]",
        '{"é": "\u2028", "\\ud800": "\\udc00", "x\\"y": ["\\\\", "\\n"]}'.encode(),
        b'{"\xff": "\xfe"}',
        b'"text"',
        b"[[[[[[]]]]]] {}",
        b" nul",
    ]


def _documents() -> list[bytes]:
    config, layer = archives.descriptor(ONE.config, "c"), archives.descriptor(b"", "l")
    full = archives.descriptor(
        b"x",
        archives.OCI_MANIFEST,
        urls=["https://example.org"],
        annotations={"k": "<v>"},
        platform={"architecture": "arm", "os": "linux", "variant": "v7", "os.features": ["f"]},
        artifactType="t",
    )
    full["data"] = "eA=="
    v1 = {
        "id": "a",
        "created": "2015-01-02T03:04:05.600Z",
        "container_config": {"Cmd": ["/bin/sh", "-c", "x"], "ExposedPorts": {"80/tcp": {}}},
        "docker_version": "1.9.0",
        "config": {"Entrypoint": "text", "Healthcheck": {"Test": ["NONE"], "Interval": 5}},
        "os": "linux",
        "Size": 5,
    }
    item = {"Config": "c.json", "RepoTags": ["app:1"], "Layers": ["l"], "Parent": "p"}
    values = [
        {"schemaVersion": 2, "mediaType": "m", "config": config, "layers": [layer, full]},
        {"schemaVersion": 2, "manifests": [full], "subject": full, "annotations": {"a": "b"}},
        {"imageLayoutVersion": "1.0.0"},
        [{**item, "LayerSources": {"d": {"mediaType": "l", "size": 1, "platform": None}}}],
        {"app": {"latest": "0123"}},
        v1,
        {**v1, "docker_version": "1.0", "parent": "b", "throwaway": True},
    ]
    return [archives.to_json(value) for value in values] + [ONE.config, ONE.manifest()]


def _references() -> list[bytes]:
    found = """alpine alpine:3 library/alpine docker.io/library/alpine:latest ghcr.io/a/b-c__d.e:T.1
        localhost/a localhost:5000/a/b:1 [::1]:80/a index.docker.io/a Upper/case a@sha256:12 *pi?e
        [a-z]*:\\1 linux linux/arm64/v8 arm64 linux/arm windows(10.0.17763+win32k)/amd64
        linux(+a%2Bb)/arm/v6 darwin/amd64"""
    hexes = "0123456789abcdef" * 8
    digests = [f"sha256:{hexes[:64]}", f"sha512:{hexes}", f"a/b:1@sha256:{hexes[:64]}", hexes[:64]]
    return [text.encode() for text in (*found.split(), *digests, "", "é", "a" * 300)]


def _changes() -> list[bytes]:
    texts = list(INSTRUCTIONS)
    return [text.encode() for text in (*texts, "\n".join(texts))]


# -- whole archives -------------------------------------------------------------------------------


def _archives() -> list[bytes]:
    big = ImageParts(layers=(archives.layer("big", b"0" * 70_000),))
    found = [
        archives.oci_archive((ONE, NAME)),
        archives.oci_archive((ONE, NAME), (ARM, None), gzipped=True),
        archives.multi_platform(NAME, [ONE, ARM]),
        archives.multi_platform(NAME, [ONE], [ARM]),
        archives.docker_archive((ONE, ["app:1", "b"]), (ARM, None)),
        archives.docker_archive((big, ["big"])),
        _legacy_archive(),
        archives.tar([("a", b""), archives.link("b", "a")]),
    ]
    found += [gzip.compress(found[0], mtime=0), zstd.compress(found[4])]
    return [prefix + data for data in found for prefix in (RAW, MENDED)]


def _legacy_archive() -> bytes:
    v1 = b'{"id":"v","created":"2015-01-02T03:04:05Z","os":"linux","architecture":"amd64"}'
    return archives.tar(
        [
            ("v/json", v1),
            ("v/layer.tar", archives.layer()),
            ("repositories", b'{"app":{"1":"v"}}'),
        ]
    )


def _told_archives() -> list[bytes]:
    layer = raw_tar.header(b"f") + b"\n"
    layout = b'-- oci-layout --\n{"imageLayoutVersion":"1.0.0"}\n'
    config = (
        b'-- blob --\n{"architecture":"amd64","os":"linux","created":"2024-01-02T03:04:05Z",'
        b'"rootfs":{"type":"layers","diff_ids":["@0"]},"history":[{"created_by":"x"}]}\n'
    )
    manifest = (
        b'-- blob --\n{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",'
        b'"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"@1",'
        b'"size":"#1"},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar",'
        b'"digest":"@0","size":"#0"}]}\n'
    )
    entry = (
        b'{"mediaType":"application/vnd.oci.image.%s.v1+json","digest":"@%d","size":"#%d",'
        b'"annotations":{"io.containerd.image.name":"ghcr.io/a/b:1",'
        b'"org.opencontainers.image.ref.name":"1"}}'
    )
    index = b'{"schemaVersion":2,"manifests":[%s]}\n'
    image = b"-- blob --\n" + layer + config + manifest
    nested = b"-- blob --\n" + index % (entry % (b"manifest", 2, 2))
    artifact = manifest.replace(b"image.config.v1+json", b"empty.v1+json")
    foreign = manifest.replace(b"layer.v1.tar", b"layer.nondistributable.v1.tar")
    platform = b'"platform":{"os":"linux","architecture":"arm64","variant":"v8"},"annotations":{}'
    attestation = (
        b'{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"@2","size":"#2",'
        b'"platform":{"os":"unknown","architecture":"unknown"},"annotations":{'
        b'"vnd.docker.reference.type":"attestation-manifest"},"urls":null,"data":"eA=="}'
    )
    items = b'[{"Config":"%s","RepoTags":["app:1"],"Layers":["l/layer.tar"]}]\n'
    legacy = (
        b'-- v/json --\n{"id":"v","parent":""}\n-- v/layer.tar --\n'
        + layer
        + b'-- repositories --\n{"app":{"1":"v"}}\n'
    )
    return [
        image + b"-- index.json --\n" + index % (entry % (b"manifest", 2, 2)) + layout,
        image + nested + b"-- index.json --\n" + index % (entry % (b"index", 3, 3)) + layout,
        b"-- blob --\n"
        + layer
        + config
        + artifact
        + b"-- index.json --\n"
        + index % (entry % (b"manifest", 2, 2)).replace(b'"annotations":{', platform[:-1])
        + layout,
        b"-- blob --\n"
        + layer
        + config
        + foreign
        + b"-- index.json --\n"
        + index % (entry % (b"manifest", 2, 2) + b"," + attestation)
        + layout,
        b"-- l/layer.tar --\n"
        + layer
        + config.replace(b"blob", b"c.json")
        + b"-- manifest.json --\n"
        + items % b"c.json",
        b"-- blob --\n"
        + layer
        + config
        + b"-- l/layer.tar --\n"
        + layer
        + b"-- manifest.json --\n"
        + items % b"blobs/sha256/@@1",
        legacy,
    ]


_SEEDS: Final[dict[str, Callable[[], list[bytes]]]] = {
    "tar": _tars,
    "pax": _extended_headers,
    "layers": _layer_plans,
    "streams": _streams,
    "json": _json,
    "documents": _documents,
    "references": _references,
    "changes": _changes,
    "load": _archives,
    "load-documents": _told_archives,
}

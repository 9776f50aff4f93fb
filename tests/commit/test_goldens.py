"""BuildKit's own goldens: what its exporters make of one build, by compatibility version.

The build puts three layers on a busybox: a file and mount points, files that were copied, files
that a command made. BuildKit keeps the bytes; here are the inputs, and the digests of what it keeps
(client/testdata/compatibility, moby/buildkit 73ed6825c4b7). Up to version 10 files of a git
checkout have the mode 0666. The bytes of a compressor are its own, so compressed layers are given.
"""

import json
from pathlib import Path

import msgspec
import pytest

from engine.commit import differ
from engine.commit.annotations import Annotation
from engine.commit.epoch import clamp_tree
from engine.commit.history import LayerNote
from engine.commit.image_writer import PlatformImage, WriterOptions, WrittenLayer, write
from engine.filetree.directory import scan
from engine.filetree.tree import EMPTY, Tree
from engine.spec import oci
from engine.spec.digest import of_bytes
from engine.spec.oci import Descriptor, Platform
from tests.commit.tars import tar_of

EPOCH = 1_445_412_480
BUSYBOX = "sha256:fe4922f0a3ca2aa707ca0f8cc53937e947fec1157a09302baf11904258d67d17"
BASE = "sha256:007165e99d6304af5653e8a8cc1c8886e5719cf31bf09cbd9f50fa09008ef654"
INPUTS = {
    10: "sha256:78260322e6ea253e5f3f675b3140ebe95ae8fc7e0ac2b1b3b88f1c8fc83525ce",
    20: "sha256:9228085939d1444bd500ac8a4f8ee9d39fed1e5905da0968ffed61887ab41042",
}
GENERATED = "sha256:672c0da84adab23797eebbf41315e289f03b02e266bdd6f6e88a7736583a4466"
CONFIGS = {
    10: "sha256:697cbcf20a7a2050075178146adc20d19e01634b96a2fd6ae574864f5ec5adac",
    20: "sha256:1772fd0a3b45a62fc5e23737bf8aa63ea2cb178a02e57cec4d14ef9e6fcc4c95",
}

LATER = "2023-05-11T00:00:00.5Z"
PROCESS = {
    "Hostname": "",
    "Domainname": "",
    "User": "",
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
    "Cmd": ["sh"],
    "Image": "sha256:919de79e94ce464098cec8a4796f27aa2d0c93985e27f6a157c8bbb557568013",
    "Volumes": None,
    "WorkingDir": "",
    "Entrypoint": None,
    "OnBuild": None,
    "Labels": None,
}
CONTAINER = "adfa050237a5fcf9f1e5ad6351b3665e4b99e0c12f33bdd3535b8fb001f9dd2e"
ADDED = "7e9002edaafd4e4579b65c8f0aaabde1aeb7fd3f8d95579f7fd3443cef785fd1"
CONFIG = {
    "os": "linux",
    "architecture": "amd64",
    "container": CONTAINER,
    "created": LATER,
    "docker_version": "20.10.23",
    "config": PROCESS,
    "container_config": {
        **PROCESS,
        "Hostname": CONTAINER[:12],
        "Cmd": ["/bin/sh", "-c", "#(nop) ", 'CMD ["sh"]'],
        "Labels": {},
    },
    "history": [
        {"created": LATER, "created_by": f"/bin/sh -c #(nop) ADD file:{ADDED} in / "},
        {
            "created": LATER,
            "created_by": '/bin/sh -c #(nop)  CMD ["sh"]',
            "empty_layer": True,
        },
    ],
}
DESCRIPTIONS = (
    "",
    "mkdir /proc, mkdir /sys, mkdir /base, mkfile /base/base.txt",
    (
        "mkdir /inputs/git, mkfile /inputs/llb.txt, copy /artifact.txt /inputs/http.txt, "
        "copy /git.txt /inputs/git/git.txt, copy /sub/nested.txt /inputs/git/nested.txt"
    ),
    (
        "mount / from exec sh -eux -c \nmkdir -p /generated/deeper\n"
        "echo exec-fixture > /generated/exec.txt\n"
        "echo nested-exec > /generated/deeper/nested.txt\n"
    ),
)

Files = dict[str, tuple[int, str]]


def diff_id(root: Path, files: Files) -> str:
    """Of a layer with these files (mode, text), and directories where a path ends in a slash."""
    for path, (mode, text) in files.items():
        place = root / path
        if path.endswith("/"):
            place.mkdir(parents=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        place.chmod(mode)
    for above in (root, *root.rglob("*")):
        if above.is_dir():
            above.chmod(0o755)
    found = {
        path: msgspec.structs.replace(entry, uid=0, gid=0) for path, entry in scan(root).items()
    }
    return of_bytes(tar_of(differ.diff(EMPTY, clamp_tree(Tree(found), EPOCH))))


def inputs(mode: int) -> Files:
    """What was copied; a file that came by HTTP is its owner's alone."""
    return {
        "inputs/llb.txt": (0o644, "llb fixture\n"),
        "inputs/http.txt": (0o600, "http fixture\n"),
        "inputs/git/git.txt": (mode, "git fixture\n"),
        "inputs/git/nested.txt": (mode, "nested fixture\n"),
    }


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {
                "base/base.txt": (0o644, "compatibility base\n"),
                "proc/": (0o755, ""),
                "sys/": (0o755, ""),
            },
            BASE,
        ),
        (inputs(0o666), INPUTS[10]),
        (inputs(0o644), INPUTS[20]),
        (
            {
                "generated/exec.txt": (0o644, "exec-fixture\n"),
                "generated/deeper/nested.txt": (0o644, "nested-exec\n"),
            },
            GENERATED,
        ),
    ],
    ids=["base", "inputs 10", "inputs 20", "generated"],
)
def test_layers(tmp_path: Path, files: Files, expected: str) -> None:
    assert diff_id(tmp_path, files) == expected


BLOBS = {
    ("gzip", 20): (
        ("430ee4fa77d640d42de0c6357e4cff7249712a28284310bda8293050c6cbc5d8", 2219886),
        ("48cef04b9e3890175d531912bd6307b344eb1d16caba14f32989e8034466dde4", 175),
        ("3096f0079befb9bacfab7003f9de4604477e81ef1cd0d4bb9f967db5aba7bebc", 242),
        ("163f5dbfba981d0b1e6e9c5a1ba003efa40e7e7d38e8471653e1f1b2abd370d9", 201),
    ),
    ("gzip-level-0", 20): (
        ("3b2645dc700f1550f22b0915aea1fb70755d0cccd4171499c7a18f396a284d48", 4492656),
        ("426dfb571c2a1f52cb66e0a69fbe2348348afc4ba893cba5754a841882d91773", 3612),
        ("5c3240cc0bcdc46a4ff085359eba4d0ffe7e5e161c5f376e79f2264719041668", 6172),
        ("847e9b228e5b81db2fe943892d3602808b8f94ec498afe963a23bf8ab1d39a26", 4124),
    ),
    ("gzip-level-9", 20): (
        ("86961eaccfc75a8eea4385f921d5aa55c8bb752f1c92a7c3189ae4a4fc37a45c", 2216704),
        ("f39e671d2c987aa1cedb5d830a68d394ce7f72502ec50d6bd11efaa71bb697d2", 168),
        ("ba67dd0bb35371d02be3b950c6d617e1f22f55861fc5a7d0d354c8fbb2f77b56", 228),
        ("ca66b99f9916a22accc57a790d407b442a10791859f9d0a6b6c8108857c3c608", 187),
    ),
    ("gzip", 10): (
        ("430ee4fa77d640d42de0c6357e4cff7249712a28284310bda8293050c6cbc5d8", 2219886),
        ("48cef04b9e3890175d531912bd6307b344eb1d16caba14f32989e8034466dde4", 175),
        ("9f55dc33cc1a8a650ec0b977d23e9ae2be65954f129f70fe44d766a52c61885b", 247),
        ("163f5dbfba981d0b1e6e9c5a1ba003efa40e7e7d38e8471653e1f1b2abd370d9", 201),
    ),
    ("uncompressed", 20): (
        ("fe4922f0a3ca2aa707ca0f8cc53937e947fec1157a09302baf11904258d67d17", 4492288),
        ("007165e99d6304af5653e8a8cc1c8886e5719cf31bf09cbd9f50fa09008ef654", 3584),
        ("9228085939d1444bd500ac8a4f8ee9d39fed1e5905da0968ffed61887ab41042", 6144),
        ("672c0da84adab23797eebbf41315e289f03b02e266bdd6f6e88a7736583a4466", 4096),
    ),
    ("zstd", 10): (
        ("d6212bbd58032e7ffcc85f00c6441b97d1422a06c6b1c376773e3bcae0818b91", 1999152),
        ("76451e8cb9d4c03a4a5e254ecf3c7560da00200629108027bb0917606a6893e8", 170),
        ("d4f54c0fc08d0ed4743d32432a3f3f68dd69c1d3fc53737057e2f19c096ada33", 235),
        ("6b3abee2a380b768e8226e746508c577528ab01697bf119112be3fcd02d6ae21", 183),
    ),
    ("zstd", 20): (
        ("732ad1c88bfbc8aa6f9d98b0aa872a79298affbec456265500477eaf7b3acad4", 1997110),
        ("72a37ade5c8308d1328a61790c83d4f6cc2e6a18cdbf96f17058766d61758100", 170),
        ("cdd742478917b2382493c0c3ccf484ffa94833015e81b7b084c608bb8405affa", 232),
        ("ef0abf1996faa0809cea6e2f7f971089f5990894c5b267927f9776e073a75325", 186),
    ),
    ("gzip-level-0", 10): (
        ("3b2645dc700f1550f22b0915aea1fb70755d0cccd4171499c7a18f396a284d48", 4492656),
        ("426dfb571c2a1f52cb66e0a69fbe2348348afc4ba893cba5754a841882d91773", 3612),
        ("32b77f982cd1e1e83523fc65841d82dd0d925872e3dee6bd508ff81b157864c9", 6172),
        ("847e9b228e5b81db2fe943892d3602808b8f94ec498afe963a23bf8ab1d39a26", 4124),
    ),
    ("gzip-level-9", 10): (
        ("86961eaccfc75a8eea4385f921d5aa55c8bb752f1c92a7c3189ae4a4fc37a45c", 2216704),
        ("f39e671d2c987aa1cedb5d830a68d394ce7f72502ec50d6bd11efaa71bb697d2", 168),
        ("640c55a12b945452255a4cee6c2c084bc3b29f2f5b802eb0b42a4245f489ae23", 232),
        ("ca66b99f9916a22accc57a790d407b442a10791859f9d0a6b6c8108857c3c608", 187),
    ),
    ("uncompressed", 10): (
        ("fe4922f0a3ca2aa707ca0f8cc53937e947fec1157a09302baf11904258d67d17", 4492288),
        ("007165e99d6304af5653e8a8cc1c8886e5719cf31bf09cbd9f50fa09008ef654", 3584),
        ("78260322e6ea253e5f3f675b3140ebe95ae8fc7e0ac2b1b3b88f1c8fc83525ce", 6144),
        ("672c0da84adab23797eebbf41315e289f03b02e266bdd6f6e88a7736583a4466", 4096),
    ),
}

MANIFESTS = [
    ("gzip", 20, True, False, "fedc54abea7987dfe5a75f6f9019a9a8dcbc97c6f8048532fd071758c379c25d"),
    (
        "gzip-level-0",
        20,
        True,
        False,
        "861754d242691772d20bc1468bf5f78a7e7ab59ae7d03367c6dac0d0f1804c25",
    ),
    (
        "gzip-level-9",
        20,
        True,
        False,
        "5e510b73a3ba3959733aa60ef3b59b975abd6457b0259eeeb17046cc4900bf8c",
    ),
    ("gzip", 20, True, True, "d5f485d3b29a7f67e7d7b4c26547e58efe2563709b667ce1b199d1b6dccf3dd5"),
    ("gzip", 10, True, False, "4656644b39978246c6c507d0dc86afb5bffa73710c275a7595fb824eda116068"),
    (
        "uncompressed",
        20,
        True,
        False,
        "a7f44c37a8fb706770e18a1a35a9c3a664132404d8bdc4c8d5af7355d5c88029",
    ),
    ("zstd", 10, True, False, "fdf067fcb84be16769b321a2e09b2b790b4162f5b30394f7d665cc510931bbe6"),
    ("zstd", 20, True, False, "6035283d3ffc89e51878d051d6699ca4a76212704577939ce8d3f6792af7cd36"),
    ("gzip", 10, False, False, "829f09a2f3848d4128dac80bfe0a8b7a6c47071cc9f812d32d6f8dcbea65991d"),
    ("gzip", 20, False, False, "a16545a870295b3d9bc2d8f3fe1998abd4c95c0252d49794437e2b3954b03739"),
    (
        "gzip-level-0",
        10,
        False,
        False,
        "4171e8f0bf1ec2bfaadfe86027a6923031321ac916a04074b8874a01bfad2976",
    ),
    (
        "gzip-level-0",
        20,
        False,
        False,
        "8c6ecf1cf532a8e9474f014bc98c5ebb1d906d386ae0cd25381aa07bd235f9f9",
    ),
    (
        "gzip-level-9",
        10,
        False,
        False,
        "61dd503c9dbc427bc73ecda1a564161ec611f1f747bd6e3c548e8302a27e6bec",
    ),
    (
        "gzip-level-9",
        20,
        False,
        False,
        "23672e68a0d858aed9434896c5beeba192c128d358e8cfee859295ed3467ab8b",
    ),
    ("gzip", 10, False, True, "a321d2657957f55e559854c72ee5c5874c06afa26c6e4879472d278a804f4e88"),
    ("gzip", 20, False, True, "7da3d130bd6f4ac8e2a71f52dd1818d0cd25d6213be94184ce7e56d7d70c02d5"),
    (
        "uncompressed",
        10,
        False,
        False,
        "5ef7cde1467dc97e1102af1bebf3d0022a122560b250793f97ded68d58f244f0",
    ),
    (
        "uncompressed",
        20,
        False,
        False,
        "fe1a7629d6662903d6ef63f6b623f2b71e7e7b5d5ba24036e59a705a89b982ce",
    ),
    (
        "gzip-level-0",
        10,
        True,
        False,
        "777d6dbd9cabe484c3ac34fa1e9c23138cdceacd7c2c9805ef3d3cbef6eb028b",
    ),
    (
        "gzip-level-9",
        10,
        True,
        False,
        "92f30291bd913f933b1ee7ff7e45efe9e14a76905275238e8602d2bb883f8389",
    ),
    ("gzip", 10, True, True, "ef01d92be98ee0a12eca9d726d4b006a944368e5e0728d26a3c5a08d8edc2657"),
    (
        "uncompressed",
        10,
        True,
        False,
        "15eb8d128be21ebbf313b678ffe7b661297e1a8bef4ebe3ffd3cd30e87e0e9c4",
    ),
]


@pytest.mark.parametrize(("blobs", "version", "is_oci", "is_noted", "expected"), MANIFESTS)
def test_manifest_and_config(
    blobs: str, version: int, is_oci: bool, is_noted: bool, expected: str
) -> None:
    types = {"uncompressed": oci.LAYER, "zstd": oci.LAYER_ZSTD}
    rewritten = {"buildkit/rewritten-timestamp": str(EPOCH)}
    layers = tuple(
        WrittenLayer(
            Descriptor(
                types.get(blobs, oci.LAYER_GZIP), f"sha256:{digest}", size, annotations=rewritten
            ),
            plain,
            LayerNote(description, LATER),
        )
        for (digest, size), plain, description in zip(
            BLOBS[blobs, version],
            (BUSYBOX, BASE, INPUTS[version], GENERATED),
            DESCRIPTIONS,
            strict=True,
        )
    )
    title = Annotation("manifest", "org.opencontainers.image.title", "compatibility-test")
    image = PlatformImage(Platform("amd64", "linux"), layers, json.dumps(CONFIG).encode())
    options = WriterOptions(is_oci=is_oci, epoch=EPOCH, annotations=(title,) * is_noted)
    written = write([image], options)
    assert written.config == CONFIGS[version]
    assert written.target.digest == f"sha256:{expected}"

"""Archives whose documents are hostile: JSON, digests, graphs, names, and too much of anything."""

from collections.abc import Iterable
from functools import partial
from typing import Any

from engine.errors import (
    BrokenArchive,
    DigestMismatch,
    InvalidDocument,
    LimitExceeded,
    MissingMember,
    SizeMismatch,
)
from tests import archives
from tests.archives import ImageParts, descriptor, tar, to_json
from tests.hostile.case import (
    APP,
    CONFIG,
    LAYER,
    NAME,
    PLAIN,
    REF,
    Case,
    described,
    docker,
    entry,
    index,
    item,
    manifest,
    oci,
    whole,
)
from tests.tar import raw_tar

MANIFEST, INDEX = archives.OCI_MANIFEST, archives.OCI_INDEX
ZEROS = "sha256:" + "0" * 64
ESCAPES = "\x1b]0;owned\x07\x1b[2J\r\n\x9b1m\u202e\x7f"


def _text(name: str, text: bytes) -> bytes:
    """An archive in which this stands for that document."""
    if name == "manifest.json":
        return tar([CONFIG, LAYER, (name, text)])
    if name == "config":
        return docker(config=text)
    return tar([*archives.oci_members([entry()], APP.blobs()), (name, text)])


def _deep(before: bytes, after: bytes, depth: int) -> bytes:
    return before + b"[" * depth + b"]" * depth + after


def _nesting(name: str, opening: str) -> bytes:
    return _text(name, opening.encode() * 200_000)


def _deep_in_a_config(depth: int) -> bytes:
    config = APP.config[:-1] + _deep(b',"x":', b"}", depth)
    return docker(config=config)


_JSON = [
    Case(
        f"{name} nests {opening!r}",
        whole(partial(_nesting, name, opening)),
        InvalidDocument,
        "nested too deeply",
    )
    for name in ("manifest.json", "config", "index.json", "oci-layout")
    for opening in ("[", '{"a":')
] + [
    Case(
        "a config's unknown member nests",
        whole(lambda: _deep_in_a_config(100_000)),
        InvalidDocument,
        "nested too deeply",
    ),
    Case("a config's unknown member nests a little", whole(lambda: _deep_in_a_config(100))),
    Case(
        "duplicate keys, the last is right",
        whole(
            lambda: _text(
                "manifest.json",
                b'[{"Config":"/etc/passwd","Config":"c.json","Layers":["/x"],"Layers":["l.tar"]}]',
            )
        ),
    ),
    Case(
        "duplicate keys, the last is wrong",
        whole(
            lambda: _text("manifest.json", b'[{"Config":"c.json","config":"x","Layers":["l.tar"]}]')
        ),
        MissingMember,
        "x: is missing",
    ),
    Case(
        "duplicate keys in a manifest",
        whole(lambda: described(to_json(manifest())[:-1] + b',"layers":[{"digest":"sha256:x"}]}')),
        InvalidDocument,
        "digest",
    ),
    Case(
        "a number of 10,000 digits",
        whole(lambda: _text("manifest.json", b"[" + b"9" * 10_000 + b"]")),
        InvalidDocument,
        "not valid JSON",
    ),
    Case(
        "a size of 10^400",
        whole(lambda: oci([entry() | {"size": 10**400}])),
        InvalidDocument,
        "size",
    ),
    Case(
        "a size of 1e400",
        whole(
            lambda: described(
                to_json(index(entry())).replace(b'"size":', b'"size":1e400,"was":'), INDEX
            )
        ),
        InvalidDocument,
        "size",
    ),
    Case(
        "NaN",
        whole(lambda: _text("index.json", b'{"schemaVersion":NaN}')),
        InvalidDocument,
        "NaN",
    ),
    Case(
        "JSON is no UTF-8",
        whole(lambda: _text("manifest.json", b'[{"Config":"\xff\xfe","Layers":[]}]')),
        MissingMember,
        "is missing",
    ),
    Case(
        "JSON is UTF-16",
        whole(lambda: _text("manifest.json", '[{"Config":"c.json"}]'.encode("utf-16"))),
        InvalidDocument,
        "not valid JSON",
    ),
    Case(
        "lone surrogates",
        whole(lambda: _text("manifest.json", b'[{"Config":"\\ud800","Layers":[]}]')),
        MissingMember,
        "is missing",
    ),
    Case(
        "NUL in a config",
        whole(lambda: docker(config=APP.config[:-1] + b',"author":"a\\u0000b"}')),
    ),
    Case(
        "manifest.json of numbers",
        whole(lambda: _text("manifest.json", b"[1,2,3]")),
        InvalidDocument,
        "manifest.json",
    ),
    Case(
        "index.json is a list",
        whole(lambda: _text("index.json", b"[]")),
        InvalidDocument,
        "index.json",
    ),
]


# -- digests and graphs ---------------------------------------------------------------------------


def _named(digest: str) -> bytes:
    return oci([entry() | {"digest": digest}])


def _in_a_manifest(digest: str) -> bytes:
    return described(manifest(layers=[descriptor(PLAIN, archives.OCI_LAYER) | {"digest": digest}]))


def _self_index() -> bytes:
    """An index that names itself: by a digest that is not its own, since nobody finds that one."""
    loop = to_json(index({"mediaType": INDEX, "digest": ZEROS, "size": 0}))
    loop = loop.replace(b'"size":0', b'"size":%d' % (len(loop) + 2))
    return tar(
        [
            *archives.oci_members([{"mediaType": INDEX, "digest": ZEROS, "size": len(loop)}], []),
            (f"blobs/sha256/{ZEROS[7:]}", loop),
        ]
    )


def _two_indexes() -> bytes:
    """Two that name each other, by false digests."""
    a, b = ("sha256:" + c * 64 for c in "ab")
    blobs = [
        (
            f"blobs/sha256/{own[7:]}",
            to_json(index({"mediaType": INDEX, "digest": other, "size": 190})),
        )
        for own, other in ((a, b), (b, a))
    ]
    return tar(
        [
            *blobs,
            *archives.oci_members(
                [{"mediaType": INDEX, "digest": a, "size": len(blobs[0][1])}], []
            ),
        ]
    )


def _nested(depth: int, width: int = 1) -> bytes:
    """Indexes of indexes, each named `width` times by the one above."""
    blobs, top = list[bytes](), entry()
    for _ in range(depth):
        blobs.append(to_json(index(*[top] * width)))
        top = descriptor(blobs[-1], INDEX)
    return oci([top], blobs)


def _both() -> bytes:
    """A document that is a manifest, and the config of another one."""
    own = manifest(architecture="amd64", os="linux", rootfs={"type": "layers", "diff_ids": []})
    data = to_json(own)
    other = to_json(manifest(config=descriptor(data, archives.OCI_CONFIG), layers=[]))
    return oci([descriptor(data, MANIFEST), descriptor(other, MANIFEST)], [data, other])


def _own_config(media_type: str = MANIFEST) -> bytes:
    return oci([descriptor(APP.config, media_type)])


_GRAPHS = [
    Case(
        "digest of md5",
        whole(lambda: _named("md5:" + "0" * 32)),
        InvalidDocument,
        "unsupported digest algorithm",
    ),
    Case(
        "digest of sha1",
        whole(lambda: _in_a_manifest("sha1:" + "0" * 40)),
        InvalidDocument,
        "unsupported digest algorithm",
    ),
    Case(
        "digest of blake3",
        whole(lambda: _in_a_manifest("blake3:" + "0" * 64)),
        InvalidDocument,
        "unsupported digest algorithm",
    ),
    Case(
        "digest is short",
        whole(lambda: _in_a_manifest("sha256:abc")),
        InvalidDocument,
        "invalid checksum digest length",
    ),
    Case(
        "digest is empty",
        whole(lambda: _in_a_manifest("")),
        InvalidDocument,
        "invalid checksum digest format: expected ALGORITHM:HEX, found nothing",
    ),
    Case(
        "digest in capitals",
        whole(lambda: _in_a_manifest("sha256:" + "A" * 64)),
        InvalidDocument,
        "invalid checksum digest format",
    ),
    Case(
        "digest is a path",
        whole(lambda: _in_a_manifest("sha256:../../../../etc/passwd")),
        InvalidDocument,
        "digest",
    ),
    Case("digest has escapes", whole(lambda: _named(ESCAPES)), InvalidDocument, "digest"),
    Case(
        "digest of 1 MB",
        whole(lambda: _named("sha256:" + "a" * (1 << 20))),
        InvalidDocument,
        "digest",
    ),
    Case(
        "digest of sha512, which is not there",
        whole(lambda: _in_a_manifest("sha512:" + "0" * 128)),
        BrokenArchive,
        "is missing",
    ),
    Case(
        "diff ID of md5",
        whole(
            lambda: docker(
                config=APP.config.replace(archives.digest(PLAIN).encode(), b"md5:" + b"0" * 32)
            )
        ),
        InvalidDocument,
        "diff ID 0",
    ),
    Case(
        "blob of another name",
        whole(
            lambda: tar(
                [
                    *archives.oci_members([entry()], APP.blobs()[:1]),
                    ("blobs/sha256/" + APP.id[7:], b"{}"),
                ]
            )
        ),
        DigestMismatch,
        APP.id,
    ),
    Case(
        "blob under md5",
        whole(
            lambda: tar(
                [
                    ("blobs/md5/" + "0" * 32, b"x"),
                    ("blobs/../x", b"x"),
                    *archives.oci_members([entry()], APP.blobs()),
                ]
            )
        ),
    ),
    Case(
        "size is too small", whole(lambda: oci([entry() | {"size": 1}])), SizeMismatch, "expected 1"
    ),
    Case(
        "size is negative",
        whole(lambda: oci([entry() | {"size": -1}])),
        InvalidDocument,
        "negative",
    ),
    Case(
        "size is huge",
        whole(lambda: oci([entry() | {"size": (1 << 63) - 1}])),
        SizeMismatch,
        "expected 9223372036854775807",
    ),
    Case(
        "size over 64 bits",
        whole(lambda: oci([entry() | {"size": 1 << 63}])),
        InvalidDocument,
        "size",
    ),
    Case("index names itself", whole(_self_index), DigestMismatch, "expected " + ZEROS),
    Case("indexes name each other", whole(_two_indexes), DigestMismatch, "unexpected digest"),
    Case("indexes nest 16 deep", whole(lambda: _nested(15))),
    Case(
        "indexes nest 20 deep",
        whole(lambda: _nested(20)),
        LimitExceeded,
        "nested indexes: limit 16",
    ),
    Case(
        "indexes nest 1,000 deep",
        whole(lambda: _nested(1000)),
        LimitExceeded,
        "nested indexes: limit 16",
    ),
    Case("indexes fan out to 2^45", whole(lambda: _nested(15, 8))),
    Case(
        "manifest that is an index too",
        whole(lambda: described(manifest(manifests=[entry()]))),
        InvalidDocument,
        "found an index",
    ),
    Case(
        "index that is a manifest too",
        whole(lambda: described(manifest(manifests=[entry()]), INDEX)),
        InvalidDocument,
        "found a manifest",
    ),
    Case(
        "manifest that says it is an index",
        whole(lambda: described(manifest(mediaType=INDEX))),
        InvalidDocument,
        "found an index",
    ),
    Case(
        "index that says it is a manifest",
        whole(lambda: described(index(entry(), mediaType=MANIFEST), INDEX)),
        InvalidDocument,
        "found a manifest",
    ),
    Case("config in the place of a manifest", whole(_own_config), InvalidDocument, "digest"),
    Case(
        "config in the place of an index",
        whole(lambda: _own_config(INDEX)),
        InvalidDocument,
        "found a manifest",
    ),
    Case("manifest that is a config too", whole(_both)),
    Case(
        "schema 1",
        whole(lambda: described({"schemaVersion": 1, "fsLayers": []})),
        InvalidDocument,
        "schema 1",
    ),
    Case(
        "data that is no base64",
        whole(lambda: oci([entry() | {"data": "\x1b[2J"}])),
        InvalidDocument,
        "base64",
    ),
]


# -- names and annotations ------------------------------------------------------------------------


def _repo_tag(tag: str) -> bytes:
    return docker(items=[item(RepoTags=[tag])])


def _repository(name: str) -> bytes:
    return tar([("repositories", to_json({name: {name: "a"}}))])


def _annotated(names: Iterable[str]) -> bytes:
    return oci([entry({NAME: name, REF: name, name: name}) for name in names])


BAD_NAMES = {
    "a newline": "app:1\n",
    "a NUL": "app\0:1",
    "escapes": f"app:{ESCAPES}",
    "dots": "../../etc:1",
    "dots in the middle": "a/../b:1",
    "a leading slash": "/etc/passwd:1",
    "two slashes": "a//b:1",
    "an empty tag": "app:",
    "1 MB": "a" * (1 << 20) + ":1",
    "invalid UTF-8": "app:\udcff",
}

_REFUSED_NAMES = [
    Case(
        f"tag with {what}",
        whole(partial(_repo_tag, name)),
        BrokenArchive,
        "expected a name and a tag",
    )
    for what, name in BAD_NAMES.items()
] + [
    Case(
        f"repositories with {what}",
        whole(partial(_repository, name)),
        BrokenArchive,
        "expected a name and a tag",
    )
    for what, name in BAD_NAMES.items()
    if what in ("escapes", "dots", "1 MB")
]

_LOADED_NAMES = [
    Case("annotations with all of them", whole(lambda: _annotated(BAD_NAMES.values())))
]


# -- too much -------------------------------------------------------------------------------------


def _member(name: str, text: bytes) -> bytes:
    return raw_tar.member(name.encode(), text)


def _large(name: str, size: int) -> Iterable[bytes]:
    yield _member(name, b'{"x":"' + b"x" * size + b'"}') + docker()


def _values(name: str, opening: bytes, value: bytes, closing: bytes, count: int) -> Iterable[bytes]:
    """A document of very many values."""
    yield _text(name, opening + b",".join([value] * count) + closing)


def _layers(count: int) -> Iterable[bytes]:
    """Return an archive with as many equal layers as manifest.json states, and as many diff IDs."""
    parts = ImageParts(layers=[PLAIN])
    diff_ids = parts.config.replace(b'"diff_ids":[', b'"diff_ids":[' + b'"x",' * (count - 1))
    yield docker(items=[item(Layers=["l.tar"] * count)], config=diff_ids)


def _right_layers(count: int) -> Iterable[bytes]:
    config: Any = {"os": "linux", "architecture": "amd64"}
    config["rootfs"] = {"type": "layers", "diff_ids": [archives.digest(PLAIN)] * count}
    yield docker(items=[item(Layers=["l.tar"] * count)], config=to_json(config))


def _tags(count: int) -> Iterable[bytes]:
    yield docker(items=[item(RepoTags=[f"a:{n}" for n in range(count)])])


def _repositories(count: int) -> Iterable[bytes]:
    yield tar([("repositories", to_json({"a": {f"{n}": "x" for n in range(count)}}))])


def _items(count: int) -> Iterable[bytes]:
    """Very many images of one large config."""
    config = APP.config[:-1] + b',"x":"' + b"x" * 500_000 + b'"}'
    yield docker(items=[item(RepoTags=[f"a:{n}"]) for n in range(count)], config=config)


def _entries(count: int, pad: int = 0) -> Iterable[bytes]:
    """Very many entries of one manifest, each another one by its annotations."""
    data = to_json(manifest(annotations={"x": "x" * pad}))
    named = [descriptor(data, MANIFEST, annotations={"n": f"{n}"}) for n in range(count)]
    yield oci(named, [data])


def _legacy(images: int, chain: int) -> Iterable[bytes]:
    """docker before 1.10: many images over one chain of parents."""
    members = []
    for n in range(chain):
        config = {"id": f"l{n}", "parent": f"l{n - 1}" if n else "", "os": "linux"}
        members += [(f"l{n}/json", to_json(config)), (f"l{n}/layer.tar", PLAIN)]
    for n in range(images):
        config = {"id": f"i{n}", "parent": f"l{chain - 1}", "os": "linux"}
        members += [(f"i{n}/json", to_json(config)), (f"i{n}/layer.tar", PLAIN)]
    tags = {f"{n}": f"i{n}" for n in range(images)}
    yield tar([*members, ("repositories", to_json({"app": tags}))])


def _labelled(size: int, label: str = "x") -> bytes:
    """A config with a label of that many bytes, which compresses to almost nothing."""
    labels = {"config": {"Labels": {"x": label * size}}}
    return ImageParts(layers=[PLAIN], extra=labels).config


def _sharing(count: int) -> Iterable[bytes]:
    """Many manifests over one config with a large label."""
    config = _labelled(19 << 20)
    described = descriptor(config, archives.OCI_CONFIG)
    each = [to_json(manifest(config=described, annotations={"n": f"{n}"})) for n in range(count)]
    entries = [descriptor(data, MANIFEST, annotations={REF: f"{n}"}) for n, data in enumerate(each)]
    yield oci(entries, [config, *each])


def _large_configs(count: int) -> Iterable[bytes]:
    """One index of many manifests, each with another large config."""
    configs = [_labelled(9 << 20, chr(ord("a") + n)) for n in range(count)]
    each = [to_json(manifest(config=descriptor(c, archives.OCI_CONFIG))) for c in configs]
    top = to_json(index(*(descriptor(data, MANIFEST) for data in each)))
    named = descriptor(top, INDEX, annotations={REF: "1"})
    yield oci([named], [*configs, *each, top])


def _spelled(count: int) -> Iterable[bytes]:
    """Many items of one large config, each by another path."""
    paths = ["./" * n + "c.json" for n in range(count)]
    items = [item(Config=path, RepoTags=[f"a:{n}"]) for n, path in enumerate(paths)]
    yield docker(items=items, config=_labelled(19 << 20))


def _large_annotations(count: int) -> Iterable[bytes]:
    """Many manifests with large annotations."""
    text = "x" * (9 << 20)
    each = [to_json(manifest(annotations={"n": f"{n}{text}"})) for n in range(count)]
    entries = [descriptor(data, MANIFEST, annotations={REF: f"{n}"}) for n, data in enumerate(each)]
    yield oci(entries, each)


def _repeating(count: int, layers: int) -> Iterable[bytes]:
    """Many manifests of one layer, very often."""
    config = _config_of(layers)
    parts = {
        "config": descriptor(config, archives.OCI_CONFIG),
        "layers": [descriptor(PLAIN, archives.OCI_LAYER)] * layers,
    }
    each = [to_json(manifest(**parts, annotations={"n": f"{n}"})) for n in range(count)]
    entries = [descriptor(data, MANIFEST, annotations={REF: f"{n}"}) for n, data in enumerate(each)]
    yield oci(entries, [config, *each])


def _config_of(count: int) -> bytes:
    config: Any = {"os": "linux", "architecture": "amd64"}
    config["rootfs"] = {"type": "layers", "diff_ids": [archives.digest(PLAIN)] * count}
    return to_json(config)


def _features(count: int, features: int) -> Iterable[bytes]:
    """Many images for very many features of their systems, each of which is empty."""
    configs = [
        ImageParts(layers=[PLAIN], extra={"os.features": [""] * features, "author": f"{n}"}).config
        for n in range(count)
    ]
    each = [to_json(manifest(config=descriptor(c, archives.OCI_CONFIG))) for c in configs]
    entries = [descriptor(data, MANIFEST, annotations={REF: f"{n}"}) for n, data in enumerate(each)]
    yield oci(entries, [*configs, *each])


def _unstored_layers(count: int, layers: int) -> Iterable[bytes]:
    """Many manifests, each of very many layers that are nowhere else."""
    described = [
        [
            {"mediaType": archives.OCI_LAYER, "digest": f"sha256:{n:032x}{m:032x}", "size": 1}
            for m in range(layers)
        ]
        for n in range(count)
    ]
    each = [to_json(manifest(layers=some)) for some in described]
    entries = [descriptor(data, MANIFEST, annotations={REF: f"{n}"}) for n, data in enumerate(each)]
    yield oci([entry(), *entries], each)


def _commands(chain: int, children: int) -> Iterable[bytes]:
    """docker before 1.10: a chain of layers with large commands, and images on its end."""
    command = {"Cmd": ["x" * (15 << 20)]}
    members = []
    for n in range(chain + children):
        parent = f"{min(n, chain) - 1}" if n else ""
        config: Any = {"id": f"{n}", "parent": parent, "os": "linux"}
        if n < chain:
            config["container_config"] = command
        members += [(f"{n}/json", to_json(config)), (f"{n}/layer.tar", PLAIN)]
    tags = {f"{n}": f"{n}" for n in range(chain, chain + children)}
    yield tar([*members, ("repositories", to_json({"app": tags}))])


_TOO_MUCH = [
    Case(
        "manifest over the limit",
        lambda: [described(manifest(x="x" * (21 << 20)))],
        LimitExceeded,
        "limit 20971520",
    ),
    Case(
        "index.json over the limit",
        whole(lambda: _text("index.json", b" " * (21 << 20))),
        LimitExceeded,
        "bytes of JSON",
    ),
    Case(
        "config over the limit",
        whole(lambda: docker(config=b" " * (21 << 20))),
        LimitExceeded,
        "bytes of JSON",
    ),
    Case(
        "a config of one text of 19 MiB",
        whole(lambda: docker(config=APP.config[:-1] + b',"x":"' + b"x" * (19 << 20) + b'"}')),
    ),
    Case(
        "very many values in a config",
        lambda: _values("config", b'{"x":[', b"[]", b"]}", 2_000_000),
        LimitExceeded,
        "values",
    ),
    Case(
        "very many manifests",
        lambda: _values("index.json", b'{"manifests":[', b"{}", b"]}", 2_000_000),
        LimitExceeded,
        "values",
    ),
    Case(
        "very many items",
        lambda: _values("manifest.json", b"[", b"{}", b"]", 2_000_000),
        LimitExceeded,
        "values",
    ),
    Case(
        "a million layers",
        lambda: _values(
            "manifest.json", b'[{"Config":"c.json","Layers":[', b'"l.tar"', b"]}]", 1_000_000
        ),
        LimitExceeded,
        "values",
    ),
    Case(
        "a million layers, in OCI",
        lambda: [described(manifest(layers=[{"digest": ZEROS}] * 200_000))],
        LimitExceeded,
        "values",
    ),
    Case("10,000 layers and one diff ID", lambda: _layers(10_000), InvalidDocument, "diff ID"),
    Case("10,000 layers", lambda: _right_layers(10_000)),
    Case("a million tags", lambda: _tags(1_000_000), LimitExceeded, "values"),
    Case("20,000 tags", lambda: _tags(20_000), LimitExceeded, "images: limit 10000"),
    Case("very many tags in repositories", lambda: _repositories(300_000), LimitExceeded, "values"),
    Case(
        "20,000 tags in repositories",
        lambda: _repositories(20_000),
        LimitExceeded,
        "images: limit 10000",
    ),
    Case(
        "20,000 images in index.json",
        lambda: _entries(20_000),
        LimitExceeded,
        "images: limit 10000",
    ),
    Case("1,000 images of one large config", lambda: _items(1000)),
    Case("1,000 entries of one large manifest", lambda: _entries(1000, 500_000)),
    Case("100 images over a chain of 300 layers", lambda: _legacy(100, 300)),
    Case("40 manifests over one config of 19 MiB", lambda: _sharing(40)),
    Case("20 configs of 9 MiB", lambda: _large_configs(20)),
    Case("40 items of one config of 19 MiB", lambda: _spelled(40)),
    Case("20 manifests with annotations of 9 MiB", lambda: _large_annotations(20)),
    Case("4 manifests of 20,000 equal layers", lambda: _repeating(4, 20_000)),
    Case(
        "16 manifests of 20,000 equal layers",
        lambda: _repeating(16, 20_000),
        LimitExceeded,
        "bytes of what its manifests and configs name",
    ),
    Case(
        "30 manifests of 20,000 absent layers",
        lambda: _unstored_layers(30, 20_000),
        LimitExceeded,
        "bytes of what its manifests and configs name: limit 67108864",
    ),
    Case(
        "80 images for 240,000 features",
        lambda: _features(80, 240_000),
        LimitExceeded,
        "bytes of what its manifests and configs name",
    ),
    Case(
        "a chain of commands of 15 MiB",
        lambda: _commands(20, 1),
        LimitExceeded,
        "bytes of history: limit 20971520",
    ),
    Case("30 images over a command of 15 MiB", lambda: _commands(1, 30)),
]

DOCUMENTS = [*_JSON, *_GRAPHS, *_REFUSED_NAMES, *_LOADED_NAMES, *_TOO_MUCH]

"""engine.oci: the image-spec's documents and media types."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import EngineError, InvalidDocument
from engine.spec import go_json, oci
from tests.oci_schemas import problems

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"


def descriptor(**fields: Any) -> oci.Descriptor:
    known: dict[str, Any] = {"media_type": oci.LAYER, "digest": DIGEST, "size": 1}
    return oci.Descriptor(**known | fields)


FULL = descriptor(
    urls=("https://example.com/x",),
    annotations={"z": "<1>", "a": "2"},
    data=base64.b64encode(b"x").decode(),
    platform=oci.Platform("arm64", "linux", "1.2", ("f",), "v8"),
    artifact_type="a/b",
)
FULL_TEXT = (
    f'{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{DIGEST}","size":1,'
    '"urls":["https://example.com/x"],"annotations":{"a":"2","z":"\\u003c1\\u003e"},"data":"eA==",'
    '"platform":{"architecture":"arm64","os":"linux","os.version":"1.2","os.features":["f"],'
    '"variant":"v8"},"artifactType":"a/b"}'
)
BARE_TEXT = f'{{"mediaType":"a/b","digest":"{DIGEST}","size":0}}'


# --- rendering ---


def test_descriptors_in_go_field_order() -> None:
    assert oci.render(FULL).decode() == FULL_TEXT
    assert oci.render(descriptor(media_type="a/b", size=0)).decode() == BARE_TEXT
    assert oci.render(oci.Platform("", "")) == b'{"architecture":"","os":""}'


def test_manifest_and_index_in_go_field_order() -> None:
    one = descriptor(media_type="a/b", size=0)
    manifest = oci.Manifest(
        schema_version=2,
        media_type="m/m",
        artifact_type="t/t",
        config=one,
        layers=(one,),
        subject=one,
        annotations={"k": "v"},
    )
    assert oci.render(manifest).decode() == (
        f'{{"schemaVersion":2,"mediaType":"m/m","artifactType":"t/t","config":{BARE_TEXT},'
        f'"layers":[{BARE_TEXT}],"subject":{BARE_TEXT},"annotations":{{"k":"v"}}}}'
    )
    index = oci.Index(
        schema_version=2,
        media_type="m/m",
        artifact_type="t/t",
        manifests=(one,),
        subject=one,
        annotations={"k": "v"},
    )
    assert oci.render(index).decode() == (
        f'{{"schemaVersion":2,"mediaType":"m/m","artifactType":"t/t","manifests":[{BARE_TEXT}],'
        f'"subject":{BARE_TEXT},"annotations":{{"k":"v"}}}}'
    )


def test_lists_are_written_even_when_they_are_empty() -> None:
    manifest = oci.Manifest(schema_version=2, config=descriptor(), layers=())
    assert oci.render(manifest).endswith(b',"layers":[]}')
    assert oci.render(oci.Index(schema_version=2, manifests=())) == (
        b'{"schemaVersion":2,"manifests":[]}'
    )
    assert oci.render(oci.ImageLayout("1.0.0")) == b'{"imageLayoutVersion":"1.0.0"}'


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
texts = st.lists(text, max_size=3).map(tuple)
platforms = st.builds(oci.Platform, text, text, text, texts, text)
media_types = st.sampled_from([oci.LAYER_GZIP, oci.DOCKER_CONFIG, oci.EMPTY, "text/plain"])
descriptors = st.builds(
    oci.Descriptor,
    media_types,
    st.binary(min_size=32, max_size=32).map(lambda raw: f"sha256:{raw.hex()}"),
    st.integers(0, 2**63 - 1),
    texts,
    st.dictionaries(text, text, max_size=3),
    st.binary(max_size=9).map(lambda raw: base64.b64encode(raw).decode()),
    st.none() | platforms,
    media_types,
)
manifests = st.builds(
    oci.Manifest,
    schema_version=st.just(2),
    media_type=st.just(oci.MANIFEST),
    config=descriptors,
    layers=st.lists(descriptors, min_size=1, max_size=3).map(tuple),
    subject=st.none() | descriptors,
    annotations=st.dictionaries(text, text, max_size=3),
)
indexes = st.builds(
    oci.Index,
    schema_version=st.just(2),
    media_type=st.sampled_from(["", oci.INDEX]),
    manifests=st.lists(descriptors, max_size=3).map(tuple),
    subject=st.none() | descriptors,
)


@given(manifests)
def test_manifests_are_valid_and_read_back(manifest: oci.Manifest) -> None:
    data = oci.render(manifest)
    assert problems("manifest", data) == []
    assert oci.parse_manifest(data, "it") == manifest
    oci.validate_media_type(data, oci.MANIFEST, "it")


@given(indexes)
def test_indexes_are_valid_and_read_back(index: oci.Index) -> None:
    data = oci.render(index)
    assert problems("index", data) == []
    assert oci.parse_index(data, "it") == index
    assert oci.parse_index(go_json.dumps_indented(index), "it") == index
    oci.validate_media_type(data, oci.INDEX, "it")


def test_the_layout_file_is_valid() -> None:
    assert problems("layout", oci.render(oci.ImageLayout(oci.LAYOUT_VERSION))) == []


def test_the_schemas_refuse_too() -> None:
    assert problems("descriptor", FULL_TEXT.encode()) == []
    assert problems("descriptor", FULL_TEXT.replace(HEX, HEX[1:]).encode())
    assert problems("descriptor", b"{}")
    assert problems("config", b'{"architecture":"","os":"","rootfs":{"type":"x","diff_ids":[]}}')
    assert problems("layout", b'{"imageLayoutVersion":"1.1.0"}')


# --- parsing ---


@pytest.mark.parametrize(
    "fields",
    [
        {"digest": ""},
        {"digest": "sha256:abc"},
        {"digest": HEX},
        {"digest": f"md5:{HEX[:32]}"},
        {"digest": f"sha256:{HEX.upper()}"},
        {"digest": f"sha256:../{HEX[3:]}"},
        {"size": -1},
        {"data": "!"},
        {"data": "eA="},
        {"data": "é==="},
    ],
)
def test_descriptors_that_cannot_be_right(fields: dict[str, Any]) -> None:
    bad = descriptor(**fields)
    with pytest.raises(InvalidDocument, match=r"^the blob: "):
        oci.check_descriptor(bad, "the blob")
    good = descriptor()
    for config, layers, subject in ((bad, (), None), (good, (good, bad), None), (good, (), bad)):
        manifest = oci.Manifest(schema_version=2, config=config, layers=layers, subject=subject)
        with pytest.raises(InvalidDocument):
            oci.parse_manifest(oci.render(manifest), "it")
    for manifests, subject in (((good, bad), None), ((), bad)):
        index = oci.Index(schema_version=2, manifests=manifests, subject=subject)
        with pytest.raises(InvalidDocument):
            oci.parse_index(oci.render(index), "it")


def test_descriptors_that_can_be_right() -> None:
    for good in (
        FULL,
        descriptor(size=0),
        descriptor(data="e3\n0=\r"),
        descriptor(digest=f"sha512:{HEX * 2}"),
        descriptor(media_type=""),
    ):
        assert oci.check_descriptor(good, "it") is good


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"{", b'{"layers":{}}', b'{"config":[]}'])
def test_what_is_no_manifest(data: bytes) -> None:
    with pytest.raises(InvalidDocument):
        oci.parse_manifest(data, "it")


def test_a_manifest_needs_a_config_but_an_index_no_entries() -> None:
    with pytest.raises(InvalidDocument):
        oci.parse_manifest(b'{"schemaVersion":2,"layers":null}', "it")
    assert oci.parse_index(b'{"manifests":null,"x":1}', "it").manifests == ()


@given(st.binary())
def test_any_bytes_are_a_document_or_an_error(data: bytes) -> None:
    for parse in (oci.parse_manifest, oci.parse_index, oci.parse_config):
        with pytest.raises(EngineError):
            parse(data + b"!", "it")


def test_config() -> None:
    data = (
        b'{"architecture":"arm","os":"linux","variant":"v7","os.features":["x"],"Author":"A",'
        b'"created":"2020-01-01T00:00:00Z","config":{"Env":["A=B"],"Labels":null},'
        b'"rootfs":{"type":"layers","diff_ids":["sha256:x"]},"container_config":{},'
        b'"history":[{"created_by":"c","empty_layer":true},null]}'
    )
    config = oci.parse_config(data, "it")
    assert config.platform == oci.Platform("arm", "linux", "", ("x",), "v7")
    assert config.config == {"Env": ["A=B"], "Labels": None}
    assert config.rootfs.diff_ids == ("sha256:x",)
    assert config.history == (oci.History(created_by="c", empty_layer=True), oci.History())
    assert oci.image_created(config) == 1577836800


def test_an_empty_config_has_nothing() -> None:
    config = oci.parse_config(b"{}", "it")
    assert (config.platform, config.rootfs.diff_ids) == (oci.Platform("", ""), ())
    assert oci.image_created(config) == 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ('"history":[{"created":"1970-01-01T00:00:09Z"},{"created":"1970-01-01T00:00:05Z"}]', 5),
        ('"history":[{"created":"1970-01-01T00:00:09Z"},{}]', 0),
        ('"created":null,"history":[{"created":"1970-01-01T00:00:05Z"}]', 5),
        ('"created":"0001-01-01T00:00:00Z","history":[{"created":"1970-01-01T00:00:05Z"}]', 0),
        ('"created":"soon"', 0),
    ],
)
def test_when_an_image_was_made(text: str, seconds: int) -> None:
    config = oci.parse_config(f"{{{text}}}".encode(), "it")
    assert oci.image_created(config) == seconds


# --- media types ---

MANIFESTS = (oci.MANIFEST, oci.DOCKER_MANIFEST)
INDEXES = (oci.INDEX, oci.DOCKER_MANIFEST_LIST)


@pytest.mark.parametrize("media_type", [*MANIFESTS, *INDEXES, oci.LAYER, ""])
@pytest.mark.parametrize(
    ("text", "refused_as"),
    [
        ("{}", ()),
        ("null", ()),
        ('{"config":{}}', INDEXES),
        ('{"layers":[]}', INDEXES),
        ('{"Layers":null}', INDEXES),
        ('{"manifests":[]}', MANIFESTS),
        ('{"manifests":null}', MANIFESTS),
        ('{"config":{},"manifests":[]}', (*MANIFESTS, *INDEXES)),
        (f'{{"mediaType":"{oci.MANIFEST}"}}', INDEXES),
        (f'{{"mediaType":"{oci.DOCKER_MANIFEST}"}}', INDEXES),
        (f'{{"mediaType":"{oci.INDEX}"}}', MANIFESTS),
        (f'{{"mediaType":"{oci.DOCKER_MANIFEST_LIST}"}}', MANIFESTS),
        ('{"mediaType":"text/plain"}', ()),
        ('{"fsLayers":[]}', None),
        ('{"fslayers":null}', None),
        ('{"mediaType":1}', None),
        ("[]", None),
        ("", None),
        ("{", None),
    ],
)
def test_media_type_confusion(
    media_type: str, text: str, refused_as: tuple[str, ...] | None
) -> None:
    if refused_as is None or media_type in refused_as:
        with pytest.raises(InvalidDocument, match=r"^the blob: "):
            oci.validate_media_type(text.encode(), media_type, "the blob")
    else:
        oci.validate_media_type(text.encode(), media_type, "the blob")


def test_each_media_type_is_one_thing() -> None:
    kinds = (oci.is_manifest_type, oci.is_index_type, oci.is_config_type, oci.is_layer_type)
    expected = {
        oci.MANIFEST: 0,
        oci.DOCKER_MANIFEST: 0,
        oci.INDEX: 1,
        oci.DOCKER_MANIFEST_LIST: 1,
        oci.CONFIG: 2,
        oci.DOCKER_CONFIG: 2,
        oci.LAYER: 3,
        oci.LAYER_ZSTD: 3,
        oci.LAYER_NONDISTRIBUTABLE_GZIP: 3,
        oci.LAYER_GZIP + "+encrypted": 3,
        "application/vnd.oci.image.layer.v2": 3,
        oci.DOCKER_LAYER_ZSTD: 3,
        oci.DOCKER_FOREIGN_LAYER_GZIP + "+x": 3,
        "application/vnd.erofs+zstd": 3,
        "application/vnd.docker.distribution.manifest.v1+prettyjws": None,
        oci.EMPTY: None,
        oci.IN_TOTO: None,
        oci.MANIFEST + "+x": None,
        "": None,
    }
    for media_type, place in expected.items():
        assert [kind(media_type) for kind in kinds] == [i == place for i in range(4)], media_type


@pytest.mark.parametrize(
    ("media_type", "compression"),
    [
        (oci.LAYER, ""),
        (oci.LAYER_GZIP, "gzip"),
        (oci.LAYER_ZSTD, "zstd"),
        (oci.LAYER_NONDISTRIBUTABLE_ZSTD, "zstd"),
        (oci.LAYER + "+xz", ""),
        (oci.LAYER + "+encrypted", ""),
        (oci.LAYER_GZIP + "+encrypted", "gzip"),
        (oci.LAYER + "+encrypted+zstd", "zstd"),
        (oci.LAYER_GZIP + "+wrapped", ""),
        (oci.DOCKER_LAYER, "unknown"),
        (oci.DOCKER_FOREIGN_LAYER, "unknown"),
        (oci.DOCKER_LAYER_GZIP, "gzip"),
        (oci.DOCKER_FOREIGN_LAYER_GZIP, "gzip"),
        (oci.DOCKER_LAYER_ZSTD, "zstd"),
        (oci.DOCKER_LAYER_GZIP + "+encrypted", ""),
        (oci.DOCKER_LAYER + "+gzip", ""),
        (oci.CONFIG, None),
        ("application/vnd.erofs", None),
        ("", None),
    ],
)
def test_layer_compression(media_type: str, compression: str | None) -> None:
    assert oci.layer_compression(media_type) == compression


def test_nondistributable_types() -> None:
    assert oci.is_nondistributable(oci.LAYER_NONDISTRIBUTABLE_ZSTD)
    assert oci.is_nondistributable(oci.DOCKER_FOREIGN_LAYER_GZIP)
    assert not oci.is_nondistributable(oci.LAYER_GZIP)


def test_attestations() -> None:
    entry = descriptor(annotations={oci.REFERENCE_TYPE: oci.ATTESTATION_MANIFEST})
    assert oci.is_attestation(entry)
    assert not oci.is_attestation(descriptor(annotations={oci.REFERENCE_TYPE: "x"}))
    assert not oci.is_attestation(descriptor())

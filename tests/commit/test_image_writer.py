"""Config, manifest and index of an image that is made."""

import json
from typing import Any

import pytest

from engine.commit.annotations import Annotation
from engine.commit.attestations import InvalidStatement
from engine.commit.config import history_of
from engine.commit.history import LayerNote, empty_entry
from engine.commit.image_writer import (
    EMPTY_DIFF_ID,
    InvalidSource,
    PlatformImage,
    WriterOptions,
    Written,
    WrittenLayer,
    write,
)
from engine.spec import oci
from engine.spec.digest import of_bytes
from engine.spec.oci import Descriptor, Platform

CREATED = "2020-01-01T00:00:00Z"
AMD, ARM = Platform("amd64", "linux"), Platform("arm64", "linux", variant="v8")


def layer(name: str, diff_id: str = "") -> WrittenLayer:
    blob = Descriptor(oci.LAYER_GZIP, of_bytes(name.encode()), 7)
    plain = diff_id or of_bytes(b"plain " + name.encode())
    return WrittenLayer(blob, plain, LayerNote(name, CREATED))


def documents(written: Written) -> list[Any]:
    for document in written.documents:
        assert of_bytes(document.data) == document.descriptor.digest
        assert len(document.data) == document.descriptor.size
    return [json.loads(document.data) for document in written.documents]


def test_one_platform() -> None:
    one, two = layer("one"), layer("two")
    written = write([PlatformImage(AMD, (one, two))], WriterOptions())
    config, manifest = written.documents
    assert written.target == manifest.descriptor
    assert written.config == config.descriptor.digest
    assert (
        manifest.data
        == (
            "{\n"
            '  "schemaVersion": 2,\n'
            f'  "mediaType": "{oci.MANIFEST}",\n'
            '  "config": {\n'
            f'    "mediaType": "{oci.CONFIG}",\n'
            f'    "digest": "{config.descriptor.digest}",\n'
            f'    "size": {len(config.data)}\n'
            "  },\n"
            '  "layers": [\n'
            "    {\n"
            f'      "mediaType": "{oci.LAYER_GZIP}",\n'
            f'      "digest": "{one.descriptor.digest}",\n'
            '      "size": 7\n'
            "    },\n"
            "    {\n"
            f'      "mediaType": "{oci.LAYER_GZIP}",\n'
            f'      "digest": "{two.descriptor.digest}",\n'
            '      "size": 7\n'
            "    }\n"
            "  ]\n"
            "}"
        ).encode()
    )
    assert manifest.labels == {
        "containerd.io/gc.ref.content.0": config.descriptor.digest,
        "containerd.io/gc.ref.content.1": one.descriptor.digest,
        "containerd.io/gc.ref.content.2": two.descriptor.digest,
    }
    found = json.loads(config.data)
    assert list(found) == sorted(found)
    assert found["rootfs"] == {"type": "layers", "diff_ids": [one.diff_id, two.diff_id]}
    assert [entry["created_by"] for entry in found["history"]] == ["one", "two"]


def test_several_platforms() -> None:
    written = write(
        [PlatformImage(AMD, (layer("a"),)), PlatformImage(ARM, (layer("b"),))], WriterOptions()
    )
    index = documents(written)[-1]
    assert written.target.media_type == oci.INDEX
    assert [m["platform"] for m in index["manifests"]] == [
        {"architecture": "amd64", "os": "linux"},
        {"architecture": "arm64", "os": "linux", "variant": "v8"},
    ]
    assert written.documents[-1].labels == {
        f"containerd.io/gc.ref.content.{n}": m["digest"] for n, m in enumerate(index["manifests"])
    }
    assert written.config == "", "there are two"


def test_dockers_media_types() -> None:
    images = [PlatformImage(AMD, (layer("a"),)), PlatformImage(ARM, (layer("b"),))]
    config, manifest, *_, index = write(images, WriterOptions(is_oci=False)).documents
    assert config.descriptor.media_type == oci.DOCKER_CONFIG
    assert json.loads(manifest.data)["mediaType"] == oci.DOCKER_MANIFEST
    assert json.loads(index.data)["mediaType"] == oci.DOCKER_MANIFEST_LIST


def test_a_layer_that_changes_nothing_is_dropped() -> None:
    layers = (layer("one"), layer("nothing", EMPTY_DIFF_ID), layer("two"))
    config, manifest = documents(write([PlatformImage(AMD, layers)], WriterOptions()))
    assert len(manifest["layers"]) == 2
    assert [e.get("empty_layer") for e in config["history"]] == [None, True, None]
    kept = documents(write([PlatformImage(AMD, layers)], WriterOptions(keep_empty_layers=True)))
    assert len(kept[1]["layers"]) == 3


def test_a_step_without_a_layer_follows_the_layers() -> None:
    step = empty_entry(LayerNote("step", CREATED, "said", "me"))
    image = PlatformImage(AMD, (layer("one"),), steps=(step,))
    config, manifest = documents(write([image], WriterOptions(epoch=86400)))
    assert len(manifest["layers"]) == len(config["rootfs"]["diff_ids"]) == 1
    assert [entry["created_by"] for entry in config["history"]] == ["one", "step"]
    assert config["history"][-1] == {
        "created": "1970-01-02T00:00:00Z",
        "created_by": "step",
        "author": "me",
        "comment": "said",
        "empty_layer": True,
    }


def test_annotations() -> None:
    noted = (
        Annotation("manifest", "z", "1"),
        Annotation("manifest", "a", "for all"),
        Annotation("manifest", "a", "<2>", AMD),
        Annotation("manifest", "b", "not here", ARM),
        Annotation("manifest-descriptor", "d", "3"),
        Annotation("index", "i", "4"),
        Annotation("index-descriptor", "t", "5"),
    )
    images = [PlatformImage(AMD, (layer("a"),)), PlatformImage(ARM, (layer("b"),))]
    written = write(images, WriterOptions(annotations=noted))
    _, manifest, _, other, index = documents(written)
    assert list(manifest["annotations"].items()) == [("a", "<2>"), ("z", "1")]
    assert other["annotations"] == {"z": "1", "a": "for all", "b": "not here"}
    assert index["annotations"] == {"i": "4"}
    assert written.target.annotations == {"t": "5"}
    assert index["manifests"][0]["annotations"] == {"d": "3"}
    for level in ("index", "index-descriptor"):
        one = (Annotation(level, "i", "4"),)
        with pytest.raises(InvalidSource, match=f"^{level} annotations need"):
            write(images[:1], WriterOptions(annotations=one))


@pytest.mark.parametrize(
    ("annotation", "is_oci", "words"),
    [
        (
            Annotation("manifest", "k", "v", Platform("s390x", "linux")),
            True,
            "not the platform",
        ),
        (Annotation("index", "k", "v"), False, "index annotations need OCI's"),
        (
            Annotation("manifest-descriptor", "k", "v"),
            False,
            "manifest-descriptor annotations need",
        ),
    ],
)
def test_annotations_without_a_place(annotation: Annotation, is_oci: bool, words: str) -> None:
    images = [PlatformImage(AMD, (layer("a"),)), PlatformImage(ARM, (layer("b"),))]
    with pytest.raises(InvalidSource, match=words):
        write(images, WriterOptions(is_oci=is_oci, annotations=(annotation,)))


def test_attestations_need_ocis_media_types() -> None:
    image = PlatformImage(AMD, (layer("a"),), statements=(STATEMENT,))
    with pytest.raises(InvalidSource, match="attestations need OCI's media types"):
        write([image], WriterOptions(is_oci=False))


def test_an_epoch() -> None:
    given = b'{"architecture":"amd64","os":"linux","created":"2022-01-01T00:00:00Z"}'
    image = PlatformImage(AMD, (layer("a"),), given)
    config, _ = documents(write([image], WriterOptions(epoch=86400)))
    assert config["created"] == "1970-01-02T00:00:00Z"
    assert config["history"][0]["created"] == "1970-01-02T00:00:00Z"


LATER = "2022-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("odd", "diff_id", "created"),
    [
        ({"created": LATER}, EMPTY_DIFF_ID, LATER),
        ({"created_by": "odd"}, "", "1970-01-02T00:00:00Z"),
    ],
    ids=("with an empty layer", "with an entry without a time"),
)
def test_an_epoch_leaves_the_history_of_a_base(
    odd: dict[str, str], diff_id: str, created: str
) -> None:
    history = [odd, {"created": LATER, "created_by": "base"}]
    below = {"architecture": "amd64", "os": "linux", "history": history}
    above = below | {"history": [*history, {"created": LATER, "created_by": "new"}]}
    layers = (layer("odd", diff_id), layer("base"), layer("new"))
    of_base = history_of(json.dumps(below).encode())
    image = PlatformImage(AMD, layers, json.dumps(above).encode(), of_base)
    config, _ = documents(write([image], WriterOptions(epoch=86400)))
    times = [entry["created"] for entry in config["history"]]
    assert times == [created, LATER, "1970-01-02T00:00:00Z"]


def test_nothing_makes_no_image() -> None:
    with pytest.raises(InvalidSource):
        write([], WriterOptions())


STATEMENT = (
    b'{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://slsa.dev/provenance/v0.2",'
    b'"subject":[{"name":"x","digest":{"sha256":"00"}}],"predicate":{"a":"<b>"}}'
)


def test_attestations_come_after_the_platforms() -> None:
    images = [
        PlatformImage(AMD, (layer("a"),), statements=(STATEMENT,)),
        PlatformImage(ARM, (layer("b"),)),
    ]
    written = write(images, WriterOptions())
    stored = {document.descriptor.digest: document for document in written.documents}
    index = documents(written)[-1]
    assert [m["platform"]["os"] for m in index["manifests"]] == ["linux", "linux", "unknown"]
    about, _, entry = index["manifests"]
    assert entry["annotations"] == {
        "vnd.docker.reference.digest": about["digest"],
        "vnd.docker.reference.type": "attestation-manifest",
    }
    manifest = json.loads(stored[entry["digest"]].data)
    (attested,) = manifest["layers"]
    assert attested["mediaType"] == "application/vnd.in-toto+json"
    assert attested["annotations"] == {
        "in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"
    }
    assert stored[attested["digest"]].data == STATEMENT
    assert (
        stored[manifest["config"]["digest"]].data
        == (
            '{"architecture":"unknown","os":"unknown","config":{},'
            f'"rootfs":{{"type":"layers","diff_ids":["{attested["digest"]}"]}}}}'
        ).encode()
    )


def test_a_statement_without_a_subject_is_about_the_image() -> None:
    statement = json.loads(STATEMENT) | {"subject": []}
    image = PlatformImage(AMD, (layer("a"),), statements=(json.dumps(statement).encode(),))
    names = ("docker.io/library/app:1", "ghcr.io/org/app:2")
    for wanted, expected in (
        (
            names,
            [
                "pkg:docker/app@1?platform=linux%2Famd64",
                "pkg:docker/ghcr.io/org/app@2?platform=linux%2Famd64",
            ],
        ),
        ((), ["_"]),
    ):
        written = write([image], WriterOptions(names=wanted))
        about = written.documents[1].descriptor.digest.removeprefix("sha256:")
        stored = json.loads(written.documents[2].data)
        assert stored == statement | {
            "subject": [{"name": name, "digest": {"sha256": about}} for name in expected]
        }


def test_one_platform_with_attestations_is_an_index() -> None:
    written = write([PlatformImage(AMD, (layer("a"),), statements=(STATEMENT,))], WriterOptions())
    assert written.target.media_type == oci.INDEX


@pytest.mark.parametrize(
    "statement",
    [b"{", b"[]", b"{}", b'{"_type":"x","predicateType":"y"}', STATEMENT.replace(b"slsa", b"\xff")],
)
def test_what_is_no_statement(statement: bytes) -> None:
    with pytest.raises(InvalidStatement, match="in-toto statement"):
        write([PlatformImage(AMD, (layer("a"),), statements=(statement,))], WriterOptions())

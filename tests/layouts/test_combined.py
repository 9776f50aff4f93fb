"""The combined layout, and `save` which writes it."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from engine.errors import DigestMismatch, InvalidInput, NotFound
from engine.image import Image
from engine.layouts import combined, selection
from engine.spec import platforms
from engine.spec.digest import Digest
from engine.spec.oci import Descriptor, Platform
from tests import archives
from tests.archives import ImageParts
from tests.local_engine import LocalEngine

APP = ImageParts(layers=[archives.layer("a"), archives.layer("b")])
OTHER = ImageParts(layers=[archives.layer("a"), archives.layer("c")])
ARM = ImageParts(layers=[archives.layer("arm")], architecture="arm64")
SPARC = ImageParts(layers=[archives.layer("sparc")], architecture="sparc64")
AMD64 = platforms.only(Platform("amd64", "linux"))
ANY = combined.Options(preferred=AMD64)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    with LocalEngine(tmp_path / "store") as opened:
        yield opened


def load(engine: LocalEngine, archive: bytes) -> None:
    with engine.begin_import() as session:
        session.feed(archive)
        session.finish()


def save(engine: LocalEngine, *names: str, options: combined.Options = ANY) -> bytes:
    out = io.BytesIO()
    images = [image for name in names for image in engine.find(name)]
    engine.write(images, options, out.write)
    return out.getvalue()


def members(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as source:
        return {
            info.name: (file.read() if (file := source.extractfile(info)) else b"")
            for info in source
        }


def index_of(archive: bytes) -> list[dict[str, object]]:
    manifests = json.loads(members(archive)["index.json"])["manifests"]
    assert isinstance(manifests, list)
    return manifests


def test_one_image(engine: LocalEngine) -> None:
    load(engine, archives.oci_archive((APP, "docker.io/x/app:1")))
    saved = save(engine, "x/app:1")
    found = members(saved)
    assert list(found) == sorted(found)
    assert found["oci-layout"] == b'{"imageLayoutVersion":"1.0.0"}'
    manifest = archives.digest(APP.manifest())
    assert found["index.json"] == (
        b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":'
        b'[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"%s","size":%d,'
        b'"annotations":{"io.containerd.image.name":"docker.io/x/app:1",'
        b'"org.opencontainers.image.ref.name":"1"}}]}'
    ) % (manifest.encode(), len(APP.manifest()))
    layers = ",".join(f'"blobs/sha256/{archives.digest(x)[7:]}"' for x in APP.layers)
    assert found["manifest.json"].decode() == (
        f'[{{"Config":"blobs/sha256/{APP.id[7:]}","RepoTags":["x/app:1"],"Layers":[{layers}]}}]'
    )
    for name, data in found.items():
        if name.startswith("blobs/sha256/"):
            assert hashlib.sha256(data).hexdigest() == name[13:]


def test_headers_are_as_containerd_writes_them(engine: LocalEngine) -> None:
    load(engine, archives.oci_archive((APP, "docker.io/x/app:1")))
    saved = save(engine, "x/app:1")
    assert saved[257:265] == b"ustar\x0000"
    assert saved.endswith(bytes(1024))
    assert len(saved) % 512 == 0
    with tarfile.open(fileobj=io.BytesIO(saved)) as source:
        modes = {info.name: oct(info.mode) for info in source if "sha256/" not in info.name}
        assert all((i.uid, i.gid, i.uname, i.gname, i.mtime) == (0, 0, "", "", 0) for i in source)
    assert modes == {
        "blobs": "0o755",
        "blobs/sha256": "0o755",
        "index.json": "0o644",
        "manifest.json": "0o644",
        "oci-layout": "0o444",
    }


def test_several_images_in_the_order_asked_for(engine: LocalEngine) -> None:
    load(engine, archives.docker_archive((APP, ["app:1", "app:2"]), (OTHER, ["other:1"])))
    saved = save(engine, "other:1", "app", "app:2")
    items = json.loads(members(saved)["manifest.json"])
    assert [i["RepoTags"] for i in items] == [["other:1"], ["app:1", "app:2"]]
    assert len(index_of(saved)) == 3
    assert sum(name.startswith("blobs/sha256/") for name in members(saved)) == 7


def test_an_untagged_image_has_a_plain_entry(engine: LocalEngine) -> None:
    load(engine, archives.docker_archive((APP, None)))
    saved = save(engine, APP.id)
    assert "annotations" not in index_of(saved)[0]
    assert json.loads(members(saved)["manifest.json"])[0]["RepoTags"] is None


def test_an_index_keeps_everything_and_manifest_json_the_best(engine: LocalEngine) -> None:
    load(engine, archives.multi_platform("docker.io/x/multi:1", [ARM, APP]))
    saved = save(engine, "x/multi:1")
    (item,) = json.loads(members(saved)["manifest.json"])
    assert item["Config"].endswith(APP.id[7:])
    assert f"blobs/sha256/{ARM.id[7:]}" in members(saved)


def test_a_platform_narrows_it(engine: LocalEngine) -> None:
    load(engine, archives.multi_platform("docker.io/x/multi:1", [ARM, APP]))
    arm = platforms.only(Platform("arm64", "linux"))
    saved = save(engine, "x/multi:1", options=combined.Options(platform=arm, preferred=arm))
    assert f"blobs/sha256/{APP.id[7:]}" not in members(saved)
    (item,) = json.loads(members(saved)["manifest.json"])
    assert item["Config"].endswith(ARM.id[7:])


def test_every_required_platform_is_there(engine: LocalEngine) -> None:
    load(engine, archives.multi_platform("docker.io/x/multi:1", [APP, ARM]))
    amd, arm, s390x = (Platform(a, "linux") for a in ("amd64", "arm64", "s390x"))
    matcher = platforms.any_of(amd, arm)
    held = combined.Options(matcher, matcher, required=(amd, arm))
    assert len(index_of(save(engine, "x/multi:1", options=held))) == 1
    lacking = combined.Options(matcher, matcher, required=(amd, s390x))
    with pytest.raises(NotFound, match="linux/s390x of x/multi:1"):
        save(engine, "x/multi:1", options=lacking)


def test_a_platform_that_is_not_there(engine: LocalEngine) -> None:
    here = replace(APP, architecture=platforms.host().architecture)
    load(engine, archives.multi_platform("docker.io/x/multi:1", [SPARC, here]))
    s390x = platforms.only(Platform("s390x", "linux"))
    for strict in (combined.Options(preferred=s390x), combined.Options(s390x, s390x)):
        with pytest.raises(NotFound, match="platform"):
            save(engine, "x/multi:1", options=strict)
    for narrowed in (platforms.ALL, s390x):
        options = combined.Options(narrowed, s390x, fallback=selection.any_complete)
        found = members(save(engine, "x/multi:1", options=options))
        (item,) = json.loads(found["manifest.json"])
        assert item["Config"].endswith(here.id[7:])
        assert f"blobs/sha256/{SPARC.id[7:]}" in found


def test_what_is_complete_where_this_host_s_platform_is_not_there(engine: LocalEngine) -> None:
    load(engine, archives.multi_platform("docker.io/x/multi:1", [SPARC], [APP]))
    options = combined.Options(fallback=selection.any_complete)
    (item,) = json.loads(members(save(engine, "x/multi:1", options=options))["manifest.json"])
    assert item["Config"].endswith(SPARC.id[7:])


def test_a_blob_filter(engine: LocalEngine) -> None:
    load(engine, archives.oci_archive((APP, "docker.io/x/app:1")))
    small = combined.Options(preferred=AMD64, keeps=lambda blob: blob.size < 1000)
    assert (
        sum(n.startswith("blobs/sha256/") for n in members(save(engine, "x/app:1", options=small)))
        == 2
    )


def test_what_was_saved_loads_as_the_same(engine: LocalEngine, tmp_path: Path) -> None:
    load(engine, archives.multi_platform("docker.io/x/multi:1", [ARM, APP]))
    load(engine, archives.oci_archive((OTHER, "docker.io/x/other:1"), gzipped=True))
    saved = save(engine, "x/multi:1", "x/other:1")
    with LocalEngine(tmp_path / "second") as second:
        load(second, saved)
        assert [(i.name, i.target) for i in second.images.all()] == [
            (i.name, i.target) for i in engine.images.all()
        ]
        assert save(second, "x/multi:1", "x/other:1") == saved


def test_only_manifests_may_be_exported(engine: LocalEngine) -> None:
    layer = Image("docker.io/x/layer:1", Descriptor(archives.OCI_LAYER, archives.digest(b"x"), 1))
    with pytest.raises(InvalidInput, match="only manifests"):
        combined.layout([layer], engine.content, ANY)


def test_a_damaged_blob_is_not_saved(engine: LocalEngine) -> None:
    load(engine, archives.oci_archive((APP, "docker.io/x/app:1")))
    digest = Digest(archives.digest(APP.layers[0]))
    path = engine.path / "blobs" / "sha256" / digest.encoded
    path.chmod(0o644)
    path.write_bytes(APP.layers[0][::-1])
    with pytest.raises(DigestMismatch, match=digest.encoded):
        save(engine, "x/app:1")


def test_a_name_that_an_image_has_lost_is_not_in_its_index(engine: LocalEngine) -> None:
    load(engine, archives.oci_archive((APP, "docker.io/x/app:1")))
    (image,) = engine.images.all()
    stale = {
        "io.containerd.image.name": "docker.io/x/lost:9",
        "note": "kept",
        "org.opencontainers.image.ref.name": "9",
    }
    target = msgspec.structs.replace(image.target, annotations=stale)
    untagged, renamed = Image(target.digest, target), Image("docker.io/x/new:2", target)
    names = {
        untagged.name: {"note": "kept"},
        renamed.name: {
            "io.containerd.image.name": "docker.io/x/new:2",
            "note": "kept",
            "org.opencontainers.image.ref.name": "2",
        },
    }
    for shown in (untagged, renamed):
        out = {entry.path: entry for entry in combined.layout([shown], engine.content, ANY)}
        data = out["index.json"].content
        assert isinstance(data, bytes)
        (entry,) = json.loads(data)["manifests"]
        assert list(entry["annotations"].items()) == list(names[shown.name].items())

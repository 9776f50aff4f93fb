"""Tests of `imgfs save`."""

import errno
import fcntl
import io
import json
import os
import pty
import random
import stat
import subprocess
import tarfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from imgfs.cli import save as saving
from imgfs.mounts import MountInfo
from tests import archives
from tests.archives import ImageParts
from tests.cli.command import Command, Done, names, refusal, succeeded
from tests.hostile.cases import CASES
from tests.tar import raw_tar

APP = ImageParts(layers=[archives.layer("app"), archives.layer("shared")])
NEXT = ImageParts(layers=[archives.layer("next"), archives.layer("shared")])
OTHER = ImageParts(layers=[archives.layer("other", random.Random(1).randbytes(300_000))])
BARE = ImageParts(layers=[archives.layer("bare")])
STOCK = (
    archives.docker_archive((APP, ["app:1", "app:latest"]), (NEXT, ["app:2"]), (BARE, None)),
    archives.oci_archive((OTHER, "ghcr.io/org/other:2")),
)
LAYER = archives.digest(OTHER.layers[0])
LAYOUT = ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')


@pytest.fixture(autouse=True)
def _stocked(stock: Callable[..., None]) -> None:
    stock(*STOCK)


def content(archive: bytes) -> dict[str, bytes]:
    """Return the files of an archive; verify its blobs."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        files = {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}  # type: ignore[union-attr]  # never None for a file
    for name, data in files.items():
        assert not name.startswith("blobs/") or name == f"blobs/sha256/{archives.digest(data)[7:]}"
    return files


def tags(archive: bytes) -> list[Any]:
    """Return the tags that `docker load` would set, one entry for each image."""
    return [item["RepoTags"] for item in json.loads(content(archive)["manifest.json"])]


def blob(store: Path, digest: str) -> Path:
    path = store / "blobs/sha256" / digest[7:]
    path.chmod(0o644)
    return path


def test_a_saved_archive_can_be_loaded(imgfs: Command, tmp_path: Path) -> None:
    saved = succeeded(imgfs("save", "app:1"))
    assert tags(saved.out) == [["app:1"]]
    again = Command(tmp_path / "again")
    succeeded(again("load", stdin=saved.out))
    assert names(again.store) == {"app:1": APP.id}
    assert again("save", "app:1").out == saved.out


def test_save_writes_a_file(imgfs: Command, tmp_path: Path) -> None:
    out = tmp_path / "x.tar"
    old = os.umask(0o027)
    try:
        done = succeeded(imgfs("save", "-o", out, "app:1"))
    finally:
        os.umask(old)
    assert done.out == b""
    assert out.read_bytes() == imgfs("save", "app:1").out
    assert stat.S_IMODE(out.stat().st_mode) == 0o640
    assert sorted(os.listdir(tmp_path)) == ["store", "x.tar"]


def test_a_file_system_in_user_space_gets_the_bytes_in_order(
    inside: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may not be able to store what comes out of order."""
    succeeded(inside("save", "-o", tmp_path / "x.tar", "app:1"))
    number = tmp_path.stat().st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    mount = MountInfo(1, device, "/", tmp_path, "fuse.sshfs", "rw")

    def pwrite(*_: object) -> int:
        raise AssertionError("written out of order")

    monkeypatch.setattr("imgfs.mounts.mounts", lambda: [mount])
    monkeypatch.setattr(os, "pwrite", pwrite)
    succeeded(inside("save", "-o", tmp_path / "y.tar", "app:1"))
    assert (tmp_path / "y.tar").read_bytes() == (tmp_path / "x.tar").read_bytes()


WANTED = {
    "several": (["app:1", "ghcr.io/org/other:2"], [["app:1"], ["ghcr.io/org/other:2"]]),
    "in the order asked for": (
        ["ghcr.io/org/other:2", "app:2"],
        [["ghcr.io/org/other:2"], ["app:2"]],
    ),
    "each once": (["app:1", "docker.io/library/app:1", "app:1"], [["app:1"]]),
    "two names of one image": (["app:latest", "app:1"], [["app:latest", "app:1"]]),
    "every tag": (["app"], [["app:1", "app:latest"], ["app:2"]]),
    "an ID": ([OTHER.id], [["ghcr.io/org/other:2"]]),
    "an ID without its algorithm": ([OTHER.id[7:]], [["ghcr.io/org/other:2"]]),
    "an ID's prefix": ([OTHER.id[7:19]], [["ghcr.io/org/other:2"]]),
    "an ID's prefix with its algorithm": ([OTHER.id[:19]], [["ghcr.io/org/other:2"]]),
    "all names of an ID": ([APP.id], [["app:1", "app:latest"]]),
    "without a name": ([BARE.id[7:19]], [None]),
    "by digest": ([archives.digest(OTHER.manifest())], [["ghcr.io/org/other:2"]]),
    "name and digest": (
        [f"ghcr.io/org/other@{archives.digest(OTHER.manifest())}"],
        [None],
    ),
    "name, tag and digest": (
        [f"ghcr.io/org/other:2@{archives.digest(OTHER.manifest())}"],
        [None],
    ),
}


@pytest.mark.parametrize("case", WANTED)
def test_save_selects_the_named_images(
    inside: Callable[..., Done], tmp_path: Path, case: str
) -> None:
    asked, expected = WANTED[case]
    succeeded(inside("save", "-o", tmp_path / "x.tar", *asked))
    assert tags((tmp_path / "x.tar").read_bytes()) == expected


STORED = {
    "alone": ["{app}@{digest}"],
    "with its tag": ["{app}:1@{digest}"],
    "beside a tag": ["{app}:1", "{app}@{digest}"],
    "beside a tag with its digest": ["{app}:1", "{app}:1@{digest}"],
}


@pytest.mark.parametrize("layout", ["combined", "appended"])
@pytest.mark.parametrize("case", STORED)
def test_an_image_stored_by_digest_keeps_that_name(tmp_path: Path, case: str, layout: str) -> None:
    digest = archives.digest(APP.manifest())
    stored = [name.format(app="ghcr.io/org/app", digest=digest) for name in STORED[case]]
    here, there = Command(tmp_path / "here"), Command(tmp_path / "there")
    succeeded(here("load", stdin=archives.oci_archive(*((APP, name) for name in stored))))
    out = tmp_path / "x.tar"
    out.write_bytes(archives.oci_archive((BARE, None)))
    option = "-o" if layout == "combined" else "--append"
    succeeded(here("save", option, out, stored[-1]))
    index = json.loads(content(out.read_bytes())["index.json"])
    entry = next(one for one in index["manifests"] if one["digest"] == digest)
    assert entry["annotations"]["io.containerd.image.name"] == stored[-1]
    succeeded(there("load", out))
    assert stored[-1] in names(there.store)
    assert not set(stored[:-1]) & set(names(there.store))


REFUSED = {
    "unknown": (["nope:1"], "image nope:1: not found"),
    "unknown tag": (["app:3"], "image app:3: not found"),
    "unknown repository": (["nope"], "image nope: not found"),
    "unknown ID": ([f"sha256:{'0' * 64}"], f"image sha256:{'0' * 64}: not found"),
    "unknown among good ones": (["app:1", "nope:1"], "image nope:1: not found"),
    "another image's digest": ([f"app@{archives.digest(OTHER.manifest())}"], "not found"),
    "upper-case": (["App:1"], "App:1"),
    "nonsense": (["app:1:1"], "invalid reference format: app:1:1"),
    "nothing": ([""], "invalid reference format"),
    "escapes": (["\x1b[31m\n"], r"invalid reference format: \x1b[31m\n"),
    "no such platform": (["--platform", "linux/s390x", "app:1"], "app:1"),
    "no platform": (["--platform", "!!", "app:1"], "invalid platform !!"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_errors_come_before_the_first_byte(
    inside: Callable[..., Done], tmp_path: Path, case: str
) -> None:
    asked, expected = REFUSED[case]
    (tmp_path / "x.tar").write_bytes(b"old")
    assert expected in refusal(inside("save", "-o", tmp_path / "x.tar", *asked))
    assert (tmp_path / "x.tar").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["store", "x.tar"]
    done = inside("save", *asked)
    assert refusal(done)
    assert done.out == b""


def test_an_ambiguous_id_is_refused(
    inside: Callable[..., Done], stock: Callable[..., None]
) -> None:
    twin = next(
        image
        for image in (ImageParts(extra={"author": str(i)}) for i in count())
        if image.id[7:9] == OTHER.id[7:9]
    )
    stock(archives.docker_archive((twin, None)))
    said = refusal(inside("save", OTHER.id[7:9]))
    assert "ambiguous" in said
    assert twin.id in said
    assert OTHER.id in said


def test_save_selects_one_platform(
    inside: Callable[..., Done], stock: Callable[..., None], tmp_path: Path
) -> None:
    images = [
        ImageParts(architecture=name, layers=[archives.layer(name)]) for name in ("s390x", "arm64")
    ]
    stock(archives.multi_platform("docker.io/library/multi:1", images))
    out = tmp_path / "x.tar"
    succeeded(inside("save", "-o", out, "multi:1"))
    everything = content(out.read_bytes())
    succeeded(inside("save", "--platform", "linux/s390x", "-o", out, "multi:1"))
    narrowed = content(out.read_bytes())
    absent = {f"blobs/sha256/{archives.digest(data)[7:]}" for data in images[1].blobs()}
    assert set(everything) - set(narrowed) == absent
    (item,) = json.loads(narrowed["manifest.json"])
    assert item["Config"] == f"blobs/sha256/{images[0].id[7:]}"


def test_missing_platforms_are_an_error_or_left_out_on_request(
    inside: Callable[..., Done], stock: Callable[..., None], tmp_path: Path
) -> None:
    images = [ImageParts(architecture="s390x"), ImageParts(architecture="arm64")]
    stock(archives.multi_platform("docker.io/library/multi:1", images))
    wanted = ("--platform", "linux/s390x", "--platform", "linux/riscv64")
    out = tmp_path / "x.tar"
    said = refusal(inside("save", *wanted, "-o", out, "multi:1"))
    assert said == "platform linux/riscv64 of multi:1: not found"
    done = inside("save", *wanted, "--skip-missing", "-o", out, "multi:1", "app:1")
    assert done.status == 0
    assert done.err.decode().splitlines() == [
        "imgfs: left out: linux/riscv64 of multi:1",
        "imgfs: left out: linux/s390x of app:1",
        "imgfs: left out: linux/riscv64 of app:1",
    ]
    assert tags(out.read_bytes()) == [["multi:1"]]
    nothing = inside("save", "--platform=linux/mips", "--skip-missing", "-o", out, "app:1")
    assert nothing.status == 1
    assert "no image has any" in nothing.err.decode()


def test_append_equals_one_save_of_all_images(inside: Callable[..., Done], tmp_path: Path) -> None:
    appended, whole = tmp_path / "a.tar", tmp_path / "b.tar"
    succeeded(inside("save", "-o", appended, "app:1"))
    succeeded(inside("save", "--append", appended, "app:2", "ghcr.io/org/other"))
    succeeded(inside("save", "-o", whole, "app:1", "app:2", "ghcr.io/org/other"))
    assert appended.read_bytes() == whole.read_bytes()
    succeeded(inside("save", "--append", appended, "app:1"))
    assert sorted(tags(appended.read_bytes())) == sorted(tags(whole.read_bytes()))
    assert content(appended.read_bytes()).keys() == content(whole.read_bytes()).keys()


def test_append_adds_to_the_archive_that_another_append_has_made_meanwhile(
    inside: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, flock = tmp_path / "a.tar", fcntl.flock
    succeeded(inside("save", "-o", out, "app:1"))

    def late(descriptor: int, operation: int) -> None:
        if os.path.samestat(os.fstat(descriptor), out.stat()):
            monkeypatch.undo()
            succeeded(inside("save", "--append", out, "ghcr.io/org/other"))
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    succeeded(inside("save", "--append", out, "app:2"))
    assert sorted(tags(out.read_bytes())) == [["app:1"], ["app:2"], ["ghcr.io/org/other:2"]]


def test_append_holds_the_lock_until_the_archive_is_replaced(
    inside: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, rename = tmp_path / "a.tar", os.rename
    succeeded(inside("save", "-o", out, "app:1"))
    old = os.open(out, os.O_RDONLY)
    replaced = []

    def renamed(source: str, target: str, **options: int) -> None:
        rename(source, target, **options)
        if target == out.name:
            replaced.append(target)
            with pytest.raises(BlockingIOError):
                fcntl.flock(old, fcntl.LOCK_EX | fcntl.LOCK_NB)

    monkeypatch.setattr(os, "rename", renamed)
    succeeded(inside("save", "--append", out, "app:2"))
    fcntl.flock(old, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(old)
    assert replaced == [out.name]


def test_append_goes_without_a_lock_where_the_file_system_has_none(
    inside: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, flock = tmp_path / "a.tar", fcntl.flock
    succeeded(inside("save", "-o", out, "app:1"))

    def refused(descriptor: int, operation: int) -> None:
        if os.path.samestat(os.fstat(descriptor), out.stat()):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", refused)
    succeeded(inside("save", "--append", out, "app:2"))
    assert tags(out.read_bytes()) == [["app:1"], ["app:2"]]


def test_append_refuses_a_fifo(inside: Callable[..., Done], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    said = refusal(inside("save", "--append", tmp_path / "fifo", "app:1"))
    assert said.endswith("fifo: expected a regular file")


def test_append_keeps_images_of_other_stores(inside: Callable[..., Done], tmp_path: Path) -> None:
    out = tmp_path / "a.tar"
    elsewhere = ImageParts(layers=[archives.layer("elsewhere")])
    out.write_bytes(archives.oci_archive((elsewhere, "docker.io/library/app:1")))
    succeeded(inside("save", "--append", out, "app:1"))
    files = content(out.read_bytes())
    assert f"blobs/sha256/{elsewhere.id[7:]}" in files
    names = [
        entry.get("annotations", {}).get("io.containerd.image.name")
        for entry in json.loads(files["index.json"])["manifests"]
    ]
    assert names == [None, "docker.io/library/app:1"], "the name moved, the image stayed"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"no tar", "expected an uncompressed tar"),
        (archives.compressed(archives.oci_archive((APP, None))), "expected an uncompressed tar"),
        (archives.tar([]), "index.json"),
        (archives.docker_archive((APP, ["app:1"])), "is not of an OCI layout"),
        (archives.tar([archives.link("blobs/sha256/x", "y")]), "is not of an OCI layout"),
        (archives.tar([("index.json", b"{"), LAYOUT]), "index.json"),
        (archives.tar([("index.json", b"{}")]), "oci-layout"),
    ],
)
def test_append_refuses_what_is_no_saved_archive(
    inside: Callable[..., Done], tmp_path: Path, data: bytes, words: str
) -> None:
    assert words in append_refused(inside, tmp_path / "a.tar", data)


def append_refused(inside: Callable[..., Done], out: Path, data: bytes) -> str:
    """Append to a file with this data, which is refused and leaves all as it was."""
    out.write_bytes(data)
    said = refusal(inside("save", "--append", out, "app:1"))
    assert out.read_bytes() == data
    assert sorted(os.listdir(out.parent)) == sorted([out.name, "store"])
    return said


def header_of(archive: bytes, name: str) -> int:
    """Return the offset of the header of a member."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return tar.getmember(name).offset


def damaged(archive: bytes) -> bytes:
    """Damage the header of the last blob, which is the last member."""
    at = header_of(archive, archives.members(archive)[-1][0])
    return archive[:at] + b"damaged" + archive[at + 7 :]


def with_a_zero_block(archive: bytes) -> bytes:
    at = header_of(archive, "oci-layout")
    return archive[:at] + bytes(512) + archive[at:]


SAVED = archives.oci_archive((OTHER, "docker.io/library/other:1"))
WHOLE = archives.tar(archives.members(SAVED)[::-1])
"""An archive whose documents come first, so that what is lost are the blobs."""
MORE = archives.oci_archive((BARE, "docker.io/library/more:1"))
FUTURE = ("oci-layout", b'{"imageLayoutVersion":"9.9.9"}')
BROKEN = {
    "another archive behind it": (WHOLE + MORE, "a.tar: has another archive behind its end"),
    "another archive, not at a block": (WHOLE + bytes(7) + MORE, "has another archive behind"),
    "a damaged header": (damaged(WHOLE), "a.tar: has a damaged header behind blobs/"),
    "a block of zeros": (with_a_zero_block(WHOLE), "a single block of zeros"),
    "something behind it": (WHOLE + b"x" * 700, "a.tar: has something behind its end"),
    "truncated in a blob": (WHOLE[: WHOLE.index(OTHER.layers[0]) + 5000], "is truncated: "),
    "truncated between members": (
        WHOLE[: header_of(WHOLE, archives.members(WHOLE)[-1][0])],
        "a.tar: is truncated: it has no end",
    ),
    "another version": (
        archives.tar([FUTURE, *archives.members(WHOLE)[1:]]),
        "unsupported imageLayoutVersion '9.9.9'",
    ),
    "joined by tar -A": (
        archives.extended(WHOLE, archives.members(MORE)),
        "index.json: is in the archive twice",
    ),
    "empty": (b"", "expected an uncompressed tar"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_append_refuses_an_archive_of_which_it_would_lose_a_part(
    inside: Callable[..., Done], tmp_path: Path, case: str
) -> None:
    data, words = BROKEN[case]
    assert words in append_refused(inside, tmp_path / "a.tar", data)


HOSTILE = [
    name
    for name, case in CASES.items()
    if case.error
    and name.startswith(("the size", "sparse", "PAX", "checksum"))
    and name != "the size is short"  # the member is refused before what follows it
]


@pytest.mark.parametrize("name", HOSTILE)
def test_append_refuses_a_hostile_tar(
    inside: Callable[..., Done], tmp_path: Path, name: str
) -> None:
    case = CASES[name]
    assert case.says in append_refused(inside, tmp_path / "a.tar", b"".join(case.make()))


@pytest.mark.parametrize(
    "odd",
    [
        raw_tar.header(f"blobs/sha256/{LAYER[7:]}".encode(), raw_tar.base256(-512, 12)),
        raw_tar.pax({"GNU.sparse.map": "a,b"}) + raw_tar.member(b"index.json", b"x"),
        raw_tar.pax({"GNU.sparse.map": "0,1", "GNU.sparse.size": 9, "GNU.sparse.numblocks": 1})
        + raw_tar.member(f"blobs/sha256/{LAYER[7:]}".encode(), b"x"),
        raw_tar.pax({"path": "../oci-layout"}) + raw_tar.member(b"x"),
        raw_tar.member(b"oci-layout", b"x" * 600, b"V"),
        raw_tar.member(b"blobs", b"x"),
    ],
)
def test_append_refuses_an_odd_member(
    inside: Callable[..., Done], tmp_path: Path, odd: bytes
) -> None:
    append_refused(inside, tmp_path / "a.tar", raw_tar.member(b"blobs/", flag=b"5") + odd + WHOLE)


def test_append_reads_what_tools_write(inside: Callable[..., Done], tmp_path: Path) -> None:
    """Directories, long names of GNU tar, empty blobs, records of PAX and padding are nothing to
    stumble over.
    """
    out, empty = tmp_path / "a.tar", archives.digest(b"")
    pieces = (
        raw_tar.member(b"./", flag=b"5"),
        raw_tar.member(b"./blobs/", flag=b"5"),
        raw_tar.member(b"././@LongLink", b"./blobs/sha256/%b" % empty[7:].encode(), b"L"),
        raw_tar.member(b"./blobs/sha256/"),
        raw_tar.pax({"comment": "x"}, b"g"),
        raw_tar.member(b"repositories", b"{"),
        WHOLE,
        bytes(3 << 20),
    )
    out.write_bytes(b"".join(pieces))
    succeeded(inside("save", "--append", out, "app:1"))
    files = content(out.read_bytes())
    assert content(WHOLE).keys() | {f"blobs/sha256/{empty[7:]}"} < files.keys()
    assert "repositories" not in files


@pytest.mark.parametrize("annotations", ["", ',"annotations":null', ',"annotations":{"k":"v"}'])
def test_append_of_an_image_without_a_name_keeps_others_without_one(
    inside: Callable[..., Done], tmp_path: Path, annotations: str
) -> None:
    out = tmp_path / "a.tar"
    other = ImageParts(layers=[archives.layer("other")])
    files = dict(archives.members(archives.oci_archive((other, None))))
    (entry,) = json.loads(files["index.json"])["manifests"]
    text = json.dumps({key: value for key, value in entry.items() if key != "annotations"})
    files["index.json"] = f'{{"schemaVersion":2,"manifests":[{text[:-1]}{annotations}}}]}}'.encode()
    out.write_bytes(archives.tar(list(files.items())))
    succeeded(inside("save", "--append", out, BARE.id[7:19]))
    manifests = json.loads(content(out.read_bytes())["index.json"])["manifests"]
    assert len(manifests) == 2
    assert manifests[0]["digest"] == entry["digest"]


def test_append_keeps_members_that_it_does_not_know(
    inside: Callable[..., Done], tmp_path: Path
) -> None:
    out = tmp_path / "a.tar"
    files = dict(archives.members(WHOLE))
    index = json.loads(files["index.json"])
    (other,) = index["manifests"]
    other |= {"x-desc": {"b": 1.0, "a": [None]}}
    mine = archives.descriptor(APP.manifest(), archives.OCI_MANIFEST) | {
        "x-mine": "<>",
        "annotations": {"io.containerd.image.name": "docker.io/library/app:1"},
    }
    lost = mine | {
        "digest": archives.digest(BARE.manifest()),
        "Annotations": {"z": "kept", "io.containerd.image.name": "docker.io/library/app:2"},
    }
    del lost["annotations"]
    index = {"x-top": [1e300, {"z": 0, "a": 0}], **index, "manifests": [other, mine, lost]}
    item = {"X": 1, "Config": "c", "RepoTags": ["c:1"], "Layers": [], "Parent": "p"}
    app = item | {"Config": f"blobs/sha256/{APP.id[7:]}", "RepoTags": ["app:0"]}
    stale = item | {"Config": "d", "RepoTags": ["app:2"]}
    files["index.json"] = json.dumps(index).encode()
    files["manifest.json"] = json.dumps([item, app, stale]).encode() + b"more is ignored"
    layout = files["oci-layout"] = b'{"x": 1, "imageLayoutVersion": "1.0.0"}'
    out.write_bytes(archives.tar(files.items()))
    succeeded(inside("save", "--append", out, "app:1", "app:2"))

    found = content(out.read_bytes())
    assert found["oci-layout"] == layout
    merged = json.loads(found["index.json"])
    assert merged["x-top"] == index["x-top"]
    assert merged["manifests"][0] == other
    assert merged["manifests"][1]["x-mine"] == "<>"
    assert merged["manifests"][2]["annotations"] == {"z": "kept"}
    assert merged["manifests"][2]["x-mine"] == "<>"
    assert next(iter(merged)) == "x-top", "members are where they were"
    assert b'"x-desc":{"b":1.0,"a":[null]}' in found["index.json"]
    items = json.loads(found["manifest.json"])
    assert items[0] == item
    assert items[1]["X"] == 1
    assert items[1]["RepoTags"] == ["app:0", "app:1"]
    assert items[1]["Layers"]
    assert items[2] == stale | {"RepoTags": None}


@pytest.mark.parametrize("document", [b"[]", b"null", b"", b"garbage", b"{}", b"[null]", b"[1]"])
def test_append_takes_a_manifest_json_for_absent_as_load_does(
    inside: Callable[..., Done], tmp_path: Path, document: bytes
) -> None:
    out = tmp_path / "a.tar"
    out.write_bytes(archives.extended(WHOLE, [("manifest.json", document)]))
    succeeded(inside("save", "--append", out, "app:1"))
    assert tags(out.read_bytes()) == [["app:1"]]
    assert len(json.loads(content(out.read_bytes())["index.json"])["manifests"]) == 2


def test_append_keeps_images_that_only_manifest_json_names(
    inside: Callable[..., Done], tmp_path: Path
) -> None:
    """As docker 25.0 saves an image by its ID."""
    out = tmp_path / "a.tar"
    item: dict[str, Any] = {
        "Config": f"blobs/sha256/{OTHER.id[7:]}",
        "RepoTags": None,
        "Layers": [],
    }
    index = b'{"schemaVersion": 2, "manifests": null}'
    more = [("index.json", index), ("manifest.json", json.dumps([item]).encode())]
    files = dict(archives.members(WHOLE)) | dict(more)
    out.write_bytes(archives.tar(files.items()))
    succeeded(inside("save", "--append", out, "app:1"))
    assert tags(out.read_bytes()) == [None, ["app:1"]]
    assert f"blobs/sha256/{OTHER.id[7:]}" in content(out.read_bytes())


@pytest.mark.parametrize("option", ["-o", "--append"])
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_a_file_that_is_replaced_keeps_its_mode(
    inside: Callable[..., Done], tmp_path: Path, option: str, mode: int
) -> None:
    out = tmp_path / "a.tar"
    out.write_bytes(WHOLE)
    out.chmod(mode)
    succeeded(inside("save", option, out, "app:1"))
    assert stat.S_IMODE(out.stat().st_mode) == mode


def test_a_private_file_is_private_while_it_is_replaced(
    inside: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, create, modes = tmp_path / "a.tar", os.open, []

    def opened(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        descriptor = create(path, flags, *arguments, **options)
        if str(path).startswith(".a.tar."):
            modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return descriptor

    out.write_bytes(b"old")
    out.chmod(0o600)
    monkeypatch.setattr(os, "open", opened)
    succeeded(inside("save", "-o", out, "app:1"))
    assert modes == [0o600]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize(
    ("above", "expected"),
    [(0o755, (1234, 4321, 0o664)), (0o1777, (0, 0, 0o644))],
    ids=["in a directory of mine", "in a directory of everybody"],
)
def test_a_file_of_another_user_that_is_replaced(
    inside: Callable[..., Done], tmp_path: Path, above: int, expected: tuple[int, int, int]
) -> None:
    directory = tmp_path / "above"
    directory.mkdir()
    out = directory / "a.tar"
    out.write_bytes(b"old")
    out.chmod(0o664)
    os.chown(out, 1234, 4321)
    directory.chmod(above)
    succeeded(inside("save", "-o", out, "app:1"))
    found = out.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == expected


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_group_that_cannot_be_given_gets_no_rights(
    inside: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    out = tmp_path / "a.tar"
    out.write_bytes(b"old")
    out.chmod(0o674)
    os.chown(out, -1, 4321)
    monkeypatch.setattr(os, "fchown", refused)
    succeeded(inside("save", "-o", out, "app:1"))
    assert stat.S_IMODE(out.stat().st_mode) == 0o644


def test_append_refuses_a_damaged_archive(inside: Callable[..., Done], tmp_path: Path) -> None:
    out = tmp_path / "a.tar"
    succeeded(inside("save", "-o", out, "ghcr.io/org/other"))
    data = bytearray(out.read_bytes())
    data[data.index(OTHER.layers[0][5000:6000])] ^= 1
    out.write_bytes(data)
    assert "expected digest" in refusal(inside("save", "--append", out, "app:1"))
    assert out.read_bytes() == data


def test_since_saves_only_the_new_blobs(inside: Callable[..., Done], tmp_path: Path) -> None:
    out = tmp_path / "x.tar"
    succeeded(inside("save", "-o", out, "--since", "app:1", "app:2"))
    saved = {name for name in content(out.read_bytes()) if name.startswith("blobs/")}
    shared = f"blobs/sha256/{archives.digest(NEXT.layers[1])[7:]}"
    assert f"blobs/sha256/{archives.digest(NEXT.layers[0])[7:]}" in saved
    assert shared not in saved
    old, other = tmp_path / "old", tmp_path / "other"
    succeeded(inside("save", "-o", tmp_path / "old.tar", "app:1"))
    succeeded(inside("--store", old, "load", tmp_path / "old.tar"))
    succeeded(inside("--store", old, "load", out))
    assert "app:2" in names(old)
    said = refusal(inside("--store", other, "load", out))
    assert f"{shared}: is missing from the archive and from the store" in said
    assert names(other) == {}


def test_every_missing_blob_is_named(inside: Callable[..., Done], tmp_path: Path) -> None:
    out = tmp_path / "x.tar"
    succeeded(inside("save", "-o", out, "--since", "app:1", "app:1"))
    said = refusal(inside("--store", tmp_path / "other", "load", out))
    assert "is missing from the archive" in said
    (tmp_path / "empty.tar").write_bytes(
        archives.tar(
            archives.oci_members(
                [archives.descriptor(APP.manifest(), archives.OCI_MANIFEST)], [APP.manifest()]
            )
        )
    )
    said = refusal(inside("--store", tmp_path / "other", "load", tmp_path / "empty.tar"))
    assert all(archives.digest(blob)[7:] in said for blob in APP.blobs()[1:])


def test_a_terminal_as_standard_output_is_refused(imgfs: Command) -> None:
    ours, theirs = pty.openpty()
    with imgfs.start("save", "app:1", stdout=theirs, stderr=subprocess.PIPE) as process:
        _, err = process.communicate()
    os.close(theirs)
    with pytest.raises(OSError, match="Input/output error"):  # nothing may have been written
        os.read(ours, 1)
    os.close(ours)
    assert "-o FILE" in refusal(Done(process.returncode, b"", err))


def test_a_closed_pipe_ends_save(imgfs: Command, stock: Callable[..., None]) -> None:
    longer = ImageParts(layers=[archives.layer("longer than a pipe", bytes(3 << 20))])
    stock(archives.docker_archive((longer, ["longer:1"])))
    with imgfs.start("save", "longer:1", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert len(process.stdout.read(1)) == 1
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 1


def test_a_full_disk_is_reported(imgfs: Command) -> None:
    with (
        open("/dev/full", "wb") as full,
        imgfs.start("save", "app:1", stdout=full, stderr=subprocess.PIPE) as process,
    ):
        _, err = process.communicate()
    said = refusal(Done(process.returncode, b"", err))
    assert said == "standard output: No space left on device"


@pytest.mark.parametrize("option", ["-o", "--append"])
def test_an_empty_path_is_refused(
    inside: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    said = refusal(inside("save", option, "", "app:1"), status=2)
    assert said.startswith("-o and --append: expected a file or a directory, found an empty text")
    assert os.listdir() == []


def test_save_replaces_a_file(inside: Callable[..., Done], tmp_path: Path) -> None:
    out, held = tmp_path / "x.tar", tmp_path / "held"
    out.write_bytes(b"old")
    held.hardlink_to(out)
    succeeded(inside("save", "-o", out, "app:1"))
    assert tags(out.read_bytes()) == [["app:1"]]
    assert held.read_bytes() == b"old"


def test_save_through_a_symlink_keeps_it(inside: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    out = tmp_path / "x.tar"
    out.symlink_to("elsewhere/y.tar")
    succeeded(inside("save", "-o", out, "app:1"))
    assert out.is_symlink()
    assert tags((tmp_path / "elsewhere/y.tar").read_bytes()) == [["app:1"]]


def test_save_into_a_fifo_keeps_it(inside: Callable[..., Done], tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    descriptor = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    succeeded(inside("save", "-o", fifo, BARE.id))
    with open(descriptor, "rb") as reader:
        assert tags(reader.read()) == [None]
    assert fifo.is_fifo()


@pytest.mark.parametrize("place", ["nowhere/x.tar", "store"])
def test_save_reports_an_impossible_path(
    inside: Callable[..., Done], tmp_path: Path, place: str
) -> None:
    assert refusal(inside("save", "-o", tmp_path / place, "app:1")).startswith(
        f"{tmp_path}/{place}: "
    )


DAMAGES: dict[str, Callable[[Path], object]] = {
    "changed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "truncated": lambda path: os.truncate(path, 1000),
    "empty": lambda path: os.truncate(path, 0),
    "lost": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("digest", [LAYER, OTHER.id, archives.digest(OTHER.manifest())])
def test_a_damaged_blob_is_named_and_leaves_no_file(
    inside: Callable[..., Done], store: Path, tmp_path: Path, digest: str, damage: str
) -> None:
    DAMAGES[damage](blob(store, digest))
    out = tmp_path / "x.tar"
    out.write_bytes(b"old")
    assert digest[7:] in refusal(inside("save", "-o", out, "ghcr.io/org/other:2"))
    assert out.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["store", "x.tar"]
    succeeded(inside("save", "-o", out, "app:1"))


def test_save_says_what_to_do_about_a_damaged_blob(imgfs: Command) -> None:
    DAMAGES["changed"](blob(imgfs.store, LAYER))
    refused = refusal(imgfs("save", "ghcr.io/org/other:2"))
    assert refused.endswith("; imgfs fsck shows whether the store is damaged")


def test_a_damaged_blob_leaves_a_truncated_archive_in_a_pipe(imgfs: Command) -> None:
    DAMAGES["changed"](blob(imgfs.store, LAYER))
    done = imgfs("save", "ghcr.io/org/other:2")
    assert LAYER in refusal(done)
    with pytest.raises(tarfile.ReadError):
        content(done.out)


def test_an_interrupt_leaves_the_old_file(
    inside: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> None:
        os.write(arguments[3].descriptor, b"something")
        raise KeyboardInterrupt

    monkeypatch.setattr(saving, "save", interrupted)
    (tmp_path / "x.tar").write_bytes(b"old")
    assert refusal(inside("save", "-o", tmp_path / "x.tar", "app:1"), 130) == "interrupted"
    assert (tmp_path / "x.tar").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["store", "x.tar"]


def test_the_docker_layout_equals_dockers_archive(imgfs: Command, tmp_path: Path) -> None:
    saved = succeeded(imgfs("save", "--layout", "docker", "ghcr.io/org/other:2", "app:1")).out
    found = content(saved)
    assert found["oci-layout"] == b'{"imageLayoutVersion": "1.0.0"}'
    assert tags(saved) == [["ghcr.io/org/other:2"], ["app:1"]]
    assert f"blobs/sha256/{LAYER[7:]}" in found
    (tmp_path / "x.tar").write_bytes(saved)
    loaded = succeeded(imgfs("load", "-i", tmp_path / "x.tar")).out
    assert loaded == b"Loaded image: ghcr.io/org/other:2\nLoaded image: app:1\n"


def test_the_docker_layout_refuses_an_image_of_another_system(
    imgfs: Command, stock: Callable[..., None]
) -> None:
    stock(archives.docker_archive((ImageParts(os="windows"), ["win:1"])))
    done = imgfs("save", "--layout", "docker", "win:1")
    assert refusal(done) == "image win:1: expected an image for linux, found one for windows"

"""Tests of `imgfs images`, `inspect`, `history` and `info`."""

import os
import shutil
import tarfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.image import Image
from engine.spec import rfc3339
from engine.stores.local.images import LocalImages
from imgfs import mounts
from imgfs.cli import images as listing
from imgfs.cli import info as information
from imgfs.cli.support.common import human
from tests import archives
from tests.archives import ImageParts, descriptor
from tests.cli.command import Done, refusal, succeeded
from tests.commit.configs import ODD, OddImage
from tests.local_engine import LocalEngine
from tests.waiting import wait_until

APP = ImageParts(layers=[archives.layer("app"), archives.layer("b")])
OTHER = ImageParts(layers=[archives.layer("other")], created="2023-01-02T03:04:05Z")
BARE = ImageParts(layers=[archives.layer("bare")])
APP_TAR = archives.oci_archive(
    (APP, "docker.io/library/app:1"), (APP, "docker.io/me/app:x"), (OTHER, "ghcr.io/org/other:2")
)
NOW = rfc3339.epoch_seconds("2024-02-27T00:00:00Z")
MANIFEST = archives.digest(APP.manifest())


def table(done: Done) -> list[list[str]]:
    """Return the cells of a printed table."""
    return [[cell.strip() for cell in line.split("   ") if cell] for line in done.lines]


def index(images: Sequence[ImageParts], platforms: Sequence[dict[str, Any] | None]) -> bytes:
    """Return an archive of one index that states these platforms, whatever the configs say."""
    manifests = [
        descriptor(
            image.manifest(), archives.OCI_MANIFEST, **({"platform": platform} if platform else {})
        )
        for image, platform in zip(images, platforms, strict=True)
    ]
    data = archives.to_json(
        {"schemaVersion": 2, "mediaType": archives.OCI_INDEX, "manifests": manifests}
    )
    name = {"io.containerd.image.name": "docker.io/library/multi:1"}
    entry = descriptor(data, archives.OCI_INDEX, annotations=name)
    blobs = [data, *(blob for image in images for blob in image.blobs())]
    return archives.tar(archives.oci_members([entry], blobs))


# -- images ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["images", "ls"])
def test_images_prints_a_table(
    inside: Callable[..., Done],
    stock: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    monkeypatch.setattr(listing, "time", SimpleNamespace(time=lambda: NOW))
    stock(APP_TAR, archives.docker_archive((BARE, None)))
    size = human(sum(map(len, APP.blobs())))
    less = human(sum(map(len, OTHER.blobs())))
    assert table(succeeded(inside(command))) == [
        ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "PLATFORMS"],
        ["app", "1", APP.id[7:19], "3 weeks ago", size, "linux/amd64"],
        ["me/app", "x", APP.id[7:19], "3 weeks ago", size, "linux/amd64"],
        ["<none>", "<none>", BARE.id[7:19], "3 weeks ago", less, "linux/amd64"],
        ["ghcr.io/org/other", "2", OTHER.id[7:19], "14 months ago", less, "linux/amd64"],
    ]


def test_images_prints_json(inside: Callable[..., Done], stock: Callable[..., None]) -> None:
    stock(APP_TAR, archives.docker_archive((BARE, None)))
    first, _, third, bare = succeeded(inside("images", "--format", "json")).json
    assert first == {
        "name": "app:1",
        "repository": "app",
        "tag": "1",
        "id": APP.id,
        "digest": MANIFEST,
        "media_type": archives.OCI_MANIFEST,
        "created": "2024-02-03T04:05:06Z",
        "size": sum(map(len, APP.blobs())),
        "platforms": ["linux/amd64"],
    }
    assert third["name"] == "ghcr.io/org/other:2"
    assert (bare["name"], bare["repository"], bare["tag"]) == (None, None, None)
    assert bare["id"] == BARE.id


def test_images_of_an_empty_store(inside: Callable[..., Done]) -> None:
    assert len(succeeded(inside("images")).lines) == 1
    assert succeeded(inside("images", "-q")).out == b""
    assert succeeded(inside("images", "--format", "json")).json == []


def test_images_prints_only_ids_or_full_digests_on_request(
    inside: Callable[..., Done], stock: Callable[..., None]
) -> None:
    stock(archives.oci_archive((APP, "app:1")))
    assert succeeded(inside("images", "-q")).lines == [APP.id[7:19]]
    assert succeeded(inside("images", "-q", "--no-trunc")).lines == [APP.id]
    assert APP.id in succeeded(inside("images", "--no-trunc")).lines[1]
    head, row = table(succeeded(inside("images", "--digests")))
    assert row[head.index("DIGEST")] == MANIFEST


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("app", ["app:1"]),
        ("app:1", ["app:1"]),
        ("docker.io/me/app", ["me/app:x"]),
        (APP.id[7:14], ["app:1", "me/app:x"]),
        (f"ghcr.io/org/other@{archives.digest(OTHER.manifest())}", ["ghcr.io/org/other:2"]),
    ],
)
def test_images_finds_by_name(
    inside: Callable[..., Done], stock: Callable[..., None], name: str, expected: list[str]
) -> None:
    stock(APP_TAR)
    found = succeeded(inside("images", "--format", "json", name)).json
    assert [image["name"] for image in found] == expected


def test_images_lists_the_found_and_reports_the_missing(
    inside: Callable[..., Done], stock: Callable[..., None]
) -> None:
    stock(APP_TAR)
    done = inside("images", "-q", "app:1", "nope:1", "ghcr.io/org/other:2")
    assert refusal(done) == "image nope:1: not found"
    assert done.lines == [APP.id[7:19], OTHER.id[7:19]]


def test_images_reads_no_blob(
    inside: Callable[..., Done], stock: Callable[..., None], store: Path
) -> None:
    stock(APP_TAR)
    before = succeeded(inside("images"))
    shutil.rmtree(store / "blobs")
    assert inside("images") == before


def test_images_leaves_out_one_that_is_removed_meanwhile(
    inside: Callable[..., Done], stock: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stock(APP_TAR)
    everything = LocalImages.all

    def all_and_remove(self: LocalImages, repository: str = "") -> list[Image]:
        found = everything(self, repository)
        self.delete("ghcr.io/org/other:2")
        return found

    monkeypatch.setattr(LocalImages, "all", all_and_remove)
    assert succeeded(inside("images", "-q")).lines == [APP.id[7:19]] * 2


S390X, PPC = (ImageParts(architecture=name, layers=[archives.layer(name)]) for name in "sp")


@pytest.mark.parametrize(
    ("platforms", "printed"),
    [
        ([{"os": "linux", "architecture": "s390x"}, None], "linux/s390x,linux/p"),
        (
            [
                {"os": "windows", "architecture": "amd64", "os.version": "10.0.17763.1"},
                {"os": "linux", "architecture": "arm", "variant": "v5"},
            ],
            "windows(10.0.17763.1)/amd64,linux/arm/v5",
        ),
        (
            [{"os": "\x1b[31mevil", "architecture": "a b/c/d/e"}, {"os": "*", "architecture": "*"}],
            r"\x1b[31mevil/a b/c/d/e,*/*",
        ),
        ([{"os": "", "architecture": ""}, {"os": "", "architecture": "x"}], "unknown"),
        ([{"os": "linux", "architecture": "amd64"}] * 2, "linux/amd64"),
    ],
)
def test_images_prints_the_platforms_of_an_index(
    inside: Callable[..., Done],
    stock: Callable[..., None],
    platforms: list[dict[str, Any] | None],
    printed: str,
) -> None:
    stock(index([S390X, PPC], platforms))
    _, row = table(succeeded(inside("images")))
    assert row[-1] == printed
    assert row[2] in (S390X.id[7:19], PPC.id[7:19])


def test_images_prints_no_platform_where_none_is_known(
    inside: Callable[..., Done], stock: Callable[..., None]
) -> None:
    nowhere = [ImageParts(os="", architecture="", layers=[archives.layer(n)]) for n in "ab"]
    stock(index(nowhere, [None, None]))
    _, row = table(succeeded(inside("images")))
    assert row[2] == nowhere[0].id[7:19]
    assert row[-1] == "-"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1kB"),
        (1234, "1.23kB"),
        (999_499, "999kB"),
        (999_999, "1MB"),
        (123_456_789, "123MB"),
        (999_999_999_999, "1TB"),
        (12_345 * 10**12, "12345TB"),
    ],
)
def test_sizes_are_printed_as_docker_does(size: int, text: str) -> None:
    assert human(size) == text


# -- inspect --------------------------------------------------------------------------------------


def test_inspect_prints_the_image(inside: Callable[..., Done], stock: Callable[..., None]) -> None:
    stock(APP_TAR)
    (reported,) = succeeded(inside("inspect", "app:1")).json
    layers = [archives.digest(layer) for layer in APP.layers]
    assert {key: reported[key] for key in ("Id", "RepoTags", "RepoDigests", "Created", "Size")} == {
        "Id": APP.id,
        "RepoTags": ["app:1", "me/app:x"],
        "RepoDigests": [f"app@{MANIFEST}", f"me/app@{MANIFEST}"],
        "Created": "2024-02-03T04:05:06Z",
        "Size": sum(map(len, APP.layers)),
    }
    assert (reported["Os"], reported["Architecture"], reported["Platforms"]) == (
        "linux",
        "amd64",
        ["linux/amd64"],
    )
    assert reported["Config"] == {"Cmd": ["/hello"]}
    assert reported["RootFS"] == {"Type": "layers", "Layers": layers}
    assert reported["Descriptor"]["digest"] == MANIFEST
    assert [layer["digest"] for layer in reported["Layers"]] == layers


def test_inspect_says_what_is_left_out_of_the_root(
    inside: Callable[..., Done], stock: Callable[..., None]
) -> None:
    dangling = archives.tar([archives.link("y", "nowhere", tarfile.LNKTYPE)])
    stock(archives.docker_archive((ImageParts((archives.layer(), dangling)), ["app:1"])))
    (reported,) = succeeded(inside("inspect", "--root", "app:1")).json
    (left,) = reported["Root"]["LeftOut"]
    assert left["Layer"] == reported["Layers"][1]["digest"]
    assert (left["Path"], left["Reason"]) == ("y", "is a hard link of what is not there: nowhere")


def test_layers_that_are_not_in_the_store_are_named(
    inside: Callable[..., Done], stock: Callable[..., None], store: Path
) -> None:
    stock(APP_TAR)
    layer = archives.digest(APP.layers[0])
    with LocalEngine(store) as engine:
        engine.content.delete(layer)
    (reported,) = succeeded(inside("inspect", "app:1")).json
    assert reported["Missing"] == [layer]
    assert reported["Config"] == {"Cmd": ["/hello"]}
    assert b"(the layer is not in the store)" in succeeded(inside("history", "app:1")).out
    for command in (["save", "-o", "/dev/null"], ["export", "-o", "/dev/null"], ["diff"]):
        assert layer in refusal(inside(*command, "app:1"))


@pytest.mark.parametrize("name", [OTHER.id, OTHER.id[7:15], archives.digest(OTHER.manifest())])
def test_inspect_finds_by_id(
    inside: Callable[..., Done], stock: Callable[..., None], name: str
) -> None:
    stock(APP_TAR)
    (reported,) = succeeded(inside("inspect", name)).json
    assert reported["Id"] == OTHER.id


def test_inspect_prints_the_found_and_reports_the_missing(
    inside: Callable[..., Done], stock: Callable[..., None]
) -> None:
    stock(APP_TAR)
    done = inside("inspect", "app:1", "nope:1", "ghcr.io/org/other:2")
    assert refusal(done) == "image nope:1: not found"
    assert [reported["Id"] for reported in done.json] == [APP.id, OTHER.id]


def test_inspect_without_a_tag_means_latest(
    inside: Callable[..., Done], stock: Callable[..., None]
) -> None:
    stock(APP_TAR, archives.docker_archive((BARE, ["app"])))
    (reported,) = succeeded(inside("inspect", "app")).json
    assert reported["Id"] == BARE.id


def test_inspect_selects_a_platform(
    inside: Callable[..., Done], stock: Callable[..., None]
) -> None:
    platforms = [{"os": "linux", "architecture": name} for name in ("s390x", "ppc64le")]
    stock(index([S390X, PPC], platforms))
    (reported,) = succeeded(inside("inspect", "--platform", "linux/ppc64le", "multi:1")).json
    assert reported["Id"] == PPC.id
    assert reported["Platforms"] == ["linux/s390x", "linux/ppc64le"]
    assert "multi:1" in refusal(inside("inspect", "--platform", "linux/riscv64", "multi:1"))


def test_inspect_accepts_a_config_that_is_not_utf_8(
    inside: Callable[..., Done], stock: Callable[..., None]
) -> None:
    config = APP.config.replace(b"/hello", b"/he\xffllo")
    items = [{"Config": "c.json", "RepoTags": ["app:1"], "Layers": ["a", "b"]}]
    layers = zip("ab", APP.layers, strict=True)
    stock(archives.tar([("c.json", config), *layers, ("manifest.json", archives.to_json(items))]))
    (reported,) = succeeded(inside("inspect", "app:1")).json
    assert reported["Id"] == archives.digest(config)
    assert reported["Config"] == {"Cmd": ["/he\ufffdllo"]}


@pytest.mark.parametrize("command", ["inspect", "history"])
@pytest.mark.parametrize("digest", [APP.id, MANIFEST])
@pytest.mark.parametrize("cut", [0, 1])
def test_a_damaged_document_is_named(
    inside: Callable[..., Done],
    stock: Callable[..., None],
    store: Path,
    command: str,
    digest: str,
    cut: int,
) -> None:
    stock(APP_TAR)
    path = store / "blobs/sha256" / digest[7:]
    path.chmod(0o644)
    path.write_bytes(b"x" * (path.stat().st_size - cut))
    assert digest in refusal(inside(command, "app:1"))


# -- history --------------------------------------------------------------------------------------

STEPS = ImageParts(
    layers=[archives.layer("a"), archives.layer("b"), archives.layer("c")],
    extra={
        "history": [
            {"created": "2024-01-01T00:00:00Z", "created_by": "ADD a", "comment": "first"},
            {"created": "2024-01-02T00:00:00.5Z", "created_by": "ENV x=1", "empty_layer": True},
            {"created_by": f"RUN \\\n\t{'b' * 100}"},
        ]
    },
)


@pytest.fixture
def steps(stock: Callable[..., None]) -> list[str]:
    """Load steps:1; return the digests of its layers."""
    stock(archives.oci_archive((STEPS, "docker.io/library/steps:1")))
    return [archives.digest(layer) for layer in STEPS.layers]


@pytest.mark.usefixtures("steps")
def test_history_prints_a_table(inside: Callable[..., Done]) -> None:
    assert table(succeeded(inside("history", "steps:1"))) == [
        ["CREATED", "CREATED BY", "SIZE", "COMMENT"],
        ["-", "10.2kB"],
        ["-", f"RUN \\ {'b' * 100}", "10.2kB"],
        ["2024-01-02T00:00:00", "ENV x=1", "0B"],
        ["2024-01-01T00:00:00", "ADD a", "10.2kB", "first"],
    ]


def test_history_prints_ids_or_json(inside: Callable[..., Done], steps: list[str]) -> None:
    a, b, c = steps
    assert succeeded(inside("history", "-q", "steps:1")).lines == [c, b, "<none>", a]
    reported = succeeded(inside("history", "--format", "json", "steps:1")).json
    assert reported[2:] == [
        {
            "created": "2024-01-02T00:00:00.5Z",
            "created_by": "ENV x=1",
            "comment": "",
            "layer": None,
            "size": 0,
        },
        {
            "created": "2024-01-01T00:00:00Z",
            "created_by": "ADD a",
            "comment": "first",
            "layer": a,
            "size": 10240,
        },
    ]


WORDY = ImageParts(
    extra={"history": [{"created_by": "RUN printf 'a  b\tc'\nline2 \x1b", "comment": "x\ny"}]}
)


ON_A_LINE = r"RUN printf 'a  b c'\nline2 \x1b"


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("{{.CreatedBy}}", ["RUN printf 'a  b c'", r"line2 \x1b"]),
        (r"table {{.CreatedBy}}\t{{.Comment}}", [rf"{ON_A_LINE}   x\ny"]),
        ("table", [rf"-         {ON_A_LINE}   10.2kB   x\ny"]),
    ],
)
def test_history_without_truncation_shows_commands_whole(
    inside: Callable[..., Done], stock: Callable[..., None], form: str, expected: list[str]
) -> None:
    stock(archives.docker_archive((WORDY, ["wordy:1"])))
    lines = succeeded(inside("history", "--no-trunc", "--format", form, "wordy:1")).lines
    assert lines[form.startswith("table") :] == expected
    shown = inside("history", "--no-trunc", "--format", "{{json .CreatedBy}}", "wordy:1").json
    assert shown == "RUN printf 'a  b c'\nline2 \x1b"


@pytest.mark.usefixtures("steps")
def test_history_of_a_missing_image_or_platform_is_an_error(inside: Callable[..., Done]) -> None:
    assert refusal(inside("history", "nope:1")) == "image nope:1: not found"
    assert "steps:1" in refusal(inside("history", "--platform", "linux/s390x", "steps:1"))


# -- info -----------------------------------------------------------------------------------------


def test_info_describes_the_store(
    inside: Callable[..., Done],
    stock: Callable[..., None],
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(information, "mountpoints", list)
    stock(APP_TAR)
    reported = succeeded(inside("info", "--format", "json")).json
    stored = [path.stat().st_size for path in (store / "blobs").rglob("*") if path.is_file()]
    assert (reported["store"], reported["images"], reported["mounts"]) == (str(store), 3, [])
    assert (reported["blobs"], reported["bytes"]) == (len(stored), sum(stored))
    printed = dict(line.split(maxsplit=1) for line in succeeded(inside("info")).lines)
    assert printed.keys() == {f"{key}:" for key in reported}
    assert printed["store:"] == str(store)
    assert printed["bytes:"] == human(sum(stored))
    assert printed["mounts:"] == "none"


def test_info_does_not_wait_for_mounts_that_hang(
    inside: Callable[..., Done],
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, other, stuck = (tmp_path / name for name in ("ours", "other", "stuck"))
    for path, text in (ours, f'{{"store": "{store}", "passthrough": "on"}}'), (other, "?"):
        (path / ".imgfs").mkdir(parents=True)
        (path / ".imgfs/status.json").write_text(text)
    (stuck / ".imgfs").mkdir(parents=True)
    pipe = stuck / ".imgfs/status.json"
    os.mkfifo(pipe)  # opening it waits for a writer
    monkeypatch.setattr(information, "mountpoints", lambda: [other, ours, tmp_path, stuck])
    monkeypatch.setattr(information, "_PATIENCE", 60.0)
    clock = iter((0.0, 0.0, 0.0, 0.0, 60.0)).__next__  # the last mount has no time left
    monkeypatch.setattr(information, "time", SimpleNamespace(monotonic=clock))
    before = set(threading.enumerate())
    done = inside("info", "--format", "json")

    def has_ended() -> bool:
        os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))  # this ends the wait for a writer
        return set(threading.enumerate()) <= before

    wait_until(has_ended, "nothing waits for the mount")
    assert (done.status, done.err) == (0, f"imgfs: {stuck}: does not answer\n".encode())
    assert done.json["passthrough"] == {str(ours): "on"}


def test_mounts_are_parsed_from_mountinfo() -> None:
    mountinfo = (
        b"24 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        b"90 24 0:50 / /mnt/b\xc3\xbccher\\040und\\134mehr rw shared:9 - fuse.imgfs imgfs rw\n"
        b"91 24 0:51 / /mnt/\xff rw,nosuid - fuse.imgfs /var/lib/imgfs rw\n"
        b"92 24 0:52 / /mnt/fuse.imgfs rw - fuse.sshfs x rw\n"
    )
    found = [mount.path for mount in mounts.parse(mountinfo) if mount.is_ours]
    assert found == [Path("/mnt/bücher und\\mehr"), Path("/mnt/\udcff")]
    assert [mount.device for mount in mounts.parse(mountinfo)] == ["8:1", "0:50", "0:51", "0:52"]


# -- what an image says reaches no terminal as it is -----------------------------------------------

EVIL = "\x1b]0;evil\x07\x1b[2J\r\n\x9b31m\u202e\x00"


@pytest.mark.parametrize(
    "arguments",
    [
        ["images"],
        ["images", "--format", "json"],
        ["images", "--digests", "--no-trunc"],
        ["inspect", "evil:1"],
        ["history", "evil:1"],
        ["history", "--no-trunc", "evil:1"],
        ["history", "--format", "json", "evil:1"],
        ["tag", "evil:1", "other:1"],
        ["rm", "evil:1"],
        ["images", EVIL],
        ["inspect", EVIL],
        ["history", EVIL],
        ["tag", EVIL, "x:1"],
        ["tag", "evil:1", EVIL],
        ["rm", EVIL],
        ["load", EVIL.replace("\x00", "")],
    ],
)
def test_control_characters_are_escaped_on_a_terminal(
    inside: Callable[..., Done], stock: Callable[..., None], arguments: list[str]
) -> None:
    image = ImageParts(
        architecture=EVIL,
        os=EVIL,
        extra={
            "author": EVIL,
            "variant": EVIL,
            "os.version": EVIL,
            "config": {"Cmd": [EVIL], "Labels": {EVIL: EVIL}},
            "history": [{"created_by": EVIL, "comment": EVIL, "author": EVIL}],
        },
    )
    platform = {"os": EVIL, "architecture": EVIL}
    manifest = descriptor(
        image.manifest(), archives.OCI_MANIFEST, platform=platform, annotations={EVIL: EVIL}
    )
    entries = [
        manifest | {"annotations": {EVIL: EVIL, "io.containerd.image.name": name}}
        for name in ("docker.io/library/evil:1", f"evil:2{EVIL}")
    ]
    stock(archives.tar(archives.oci_members(entries, image.blobs())))
    done = inside(*arguments)
    for line in (done.out + done.err).decode().split("\n"):
        assert line.isprintable()


def test_control_characters_of_a_member_name_are_escaped(
    inside: Callable[..., Done], tmp_path: Path, store: Path
) -> None:
    items = [{"Config": f"c{EVIL}.json", "RepoTags": [f"x:{EVIL}"], "Layers": [EVIL]}]
    (tmp_path / "x.tar").write_bytes(archives.tar([("manifest.json", archives.to_json(items))]))
    assert r"\x1b]0;evil\x07\x1b[2J\r\n" in refusal(inside("load", tmp_path / "x.tar"))
    with LocalEngine(store) as engine:
        assert engine.images.count() == 0


# -- odd configs ----------------------------------------------------------------------------------

_NOT_SHOWN = {
    "a large number": "a number in it is too large",
    "nested": "it is nested deeper than 200 levels",
}


@pytest.mark.parametrize("name", ODD)
def test_inspect_of_an_odd_config(
    inside: Callable[..., Done], stock: Callable[..., None], name: str
) -> None:
    image = OddImage(members=ODD[name])
    stock(archives.oci_archive((image, "docker.io/library/odd:1")))
    done = inside("inspect", "odd:1")
    if name in _NOT_SHOWN:
        assert refusal(done) == f"config {image.id}: {_NOT_SHOWN[name]}"
        return
    (reported,) = succeeded(done).json
    assert [entry for entry in reported["Config"]["Env"] if entry] == ["A=b"]
    assert {"config", "env"}.isdisjoint(reported["Config"])
    for form in ("{{json .Config}}", "{{range .Config.Env}}{{.}}{{end}}", "{{.Config}}"):
        assert b"A=b" in succeeded(inside("inspect", "-f", form, "odd:1")).out


@pytest.mark.parametrize(("depth", "status"), [(199, 0), (200, 1), (900, 1)])
def test_inspect_of_a_nested_config(
    inside: Callable[..., Done], stock: Callable[..., None], depth: int, status: int
) -> None:
    image = OddImage(members=b'"config":{"x":%s}' % (b"[" * depth + b"]" * depth))
    stock(archives.oci_archive((image, "docker.io/library/odd:1")))
    for form in ("json", "{{json .Config}}", "{{.Config.x}}"):
        done = inside("inspect", "-f", form, "odd:1")
        assert done.status == status
        assert not status or "nested deeper" in refusal(done)


def test_one_bad_config_does_not_break_filters(
    inside: Callable[..., Done], stock: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    labelled = b'"config":{"labels":{"k":"v"}}'
    bad = {
        "good": labelled,
        "twice": b'"config":5,"Config":{"Labels":{"k":"v"}}',
        "typed": b'"config":{"Labels":{"k":1}}',
        "other": b'"config":{"Labels":{"k":"v"},"Env":5}',
        "list": b'"config":{"Labels":["k"]}',
    }
    with monkeypatch.context() as unchecked:  # as in a store that another program has written
        unchecked.setattr("engine.spec.docker.check_config", lambda *_: None)
        for name, members in bad.items():
            image = OddImage(members=members)
            stock(archives.oci_archive((image, f"docker.io/library/{name}:1")))
    for label in ("k", "k=v"):
        done = succeeded(inside("images", "-f", f"label={label}", "--format", "{{.Repository}}"))
        assert sorted(done.lines) == ["good", "other", "twice"]
    succeeded(inside("prune", "--all", "--force", "--filter", "label!=k"))
    done = succeeded(inside("images", "--format", "{{.Repository}}"))
    assert sorted(done.lines) == sorted(bad)

"""Tests of `imgfs load`."""

import os
import pty
import random
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.cli.command import Command, Done, names, picture, refusal, succeeded
from tests.waiting import wait_until

APP = ImageParts(layers=[archives.layer("app")])
OTHER = ImageParts(layers=[archives.layer("other")])
BIG = ImageParts(
    layers=[archives.layer("app"), archives.layer("big", random.Random(1).randbytes(4 << 20))]
)
APP_TAR = archives.docker_archive((APP, ["app:1"]))
NAME = "io.containerd.image.name"
OTHER_TAR = archives.oci_archive((OTHER, "ghcr.io/org/other:2"))


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / "app.tar"
    path.write_bytes(APP_TAR)
    return path


@pytest.fixture
def other(tmp_path: Path) -> Path:
    path = tmp_path / "other.tar"
    path.write_bytes(OTHER_TAR)
    return path


def test_load_files(imgfs: Command, app: Path, other: Path) -> None:
    done = succeeded(imgfs("load", "-i", app, other))
    assert done.lines == ["Loaded image: app:1", "Loaded image: ghcr.io/org/other:2"]
    assert names(imgfs.store) == {"app:1": APP.id, "ghcr.io/org/other:2": OTHER.id}


@pytest.mark.parametrize("arguments", [[], ["-"], ["-i", "-"], ["--input", "-"]])
def test_load_standard_input(imgfs: Command, arguments: list[str]) -> None:
    done = succeeded(imgfs("load", *arguments, stdin=APP_TAR))
    assert done.lines == ["Loaded image: app:1"]
    assert names(imgfs.store) == {"app:1": APP.id}


def test_load_standard_input_and_files(
    imgfs: Command, app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-").mkdir()
    done = succeeded(imgfs("load", "-", app, stdin=OTHER_TAR))
    assert done.lines == ["Loaded image: ghcr.io/org/other:2", "Loaded image: app:1"]


def test_an_image_without_a_name_is_printed_by_its_id(imgfs: Command) -> None:
    done = succeeded(imgfs("load", stdin=archives.docker_archive((APP, None))))
    assert done.lines == [f"Loaded image ID: {APP.id}"]


def test_quiet_prints_nothing(imgfs: Command, app: Path, other: Path) -> None:
    assert succeeded(imgfs("load", "-q", app, other)).out == b""
    assert set(names(imgfs.store)) == {"app:1", "ghcr.io/org/other:2"}


def test_load_prints_json(imgfs: Command, app: Path, other: Path) -> None:
    both = imgfs("load", "--format", "json", app, other)
    first, second = succeeded(both).json
    assert first["images"][0] | {"target": ""} == {
        "names": ["docker.io/library/app:1"],
        "target": "",
        "id": APP.id,
        "platforms": ["linux/amd64"],
        "missing": [],
        "missing_platforms": [],
    }
    assert second["images"][0]["target"] == archives.digest(OTHER.manifest())
    assert second["new_blobs"] == 3
    assert second["new_bytes"] == sum(map(len, OTHER.blobs()))
    (again,) = succeeded(imgfs("load", "--format", "json", other)).json
    assert again == second | {"new_blobs": 0, "new_bytes": 0}


@pytest.mark.parametrize("form", ["table", "json"])
def test_a_bad_archive_does_not_prevent_the_others(
    imgfs: Command, app: Path, other: Path, form: str
) -> None:
    bad = app.with_name("bad.tar")
    bad.write_bytes(APP_TAR[:2000])
    done = imgfs("load", "--format", form, app, bad, other)
    assert refusal(done).startswith(f"{bad}: ")
    assert set(names(imgfs.store)) == {"app:1", "ghcr.io/org/other:2"}
    reported = len(done.json) if form == "json" else len(done.lines)
    assert reported == 2


def test_every_failure_is_reported(imgfs: Command, tmp_path: Path) -> None:
    done = imgfs("load", tmp_path / "nope.tar", tmp_path, "-")
    assert done.status == 1
    assert done.out == b""
    first, second, third = done.err.decode().splitlines()
    assert first == f"imgfs: {tmp_path}/nope.tar: No such file or directory"
    assert second.startswith(f"imgfs: {tmp_path}: directory: holds no image: expected oci-layout")
    assert third.startswith("imgfs: standard input: archive: is not an image archive: ")


BAD = {
    "truncated": APP_TAR[: len(APP_TAR) // 2],
    "no archive": b"hello\n" * 1000,
    "no images": archives.tar([("README", b"hello\n")]),
    "wrong blob": OTHER_TAR.replace(b"hello\n", b"hallo\n"),
}


def test_load_says_what_to_do_about_a_damaged_archive(imgfs: Command) -> None:
    refused = refusal(imgfs("load", stdin=BAD["wrong blob"]))
    assert ": unexpected digest: expected sha256:" in refused
    assert refused.endswith(
        "; the file is damaged: load it again, and if that fails too, get it anew from its source"
    )


@pytest.mark.parametrize("name", BAD)
def test_a_failure_leaves_the_store_as_before(
    imgfs: Command, stock: Callable[..., None], name: str
) -> None:
    stock(archives.docker_archive((BIG, ["app:1"])))
    before = picture(imgfs.store)
    refusal(imgfs("load", stdin=BAD[name]))
    assert picture(imgfs.store) == before


def test_a_blob_that_does_not_match_is_named(imgfs: Command) -> None:
    said = refusal(imgfs("load", stdin=BAD["wrong blob"]))
    assert archives.digest(OTHER.layers[0]) in said


def test_a_load_moves_a_name(imgfs: Command, stock: Callable[..., None]) -> None:
    stock(APP_TAR)
    succeeded(imgfs("load", stdin=archives.docker_archive((OTHER, ["app:1"]))))
    after = names(imgfs.store)
    assert after.pop("app:1") == OTHER.id
    assert list(after.values()) == [APP.id]


def test_max_bytes_refuses_a_larger_archive(imgfs: Command) -> None:
    limit = str(len(APP_TAR))
    assert "limit" in refusal(imgfs("load", "--max-bytes", limit, stdin=APP_TAR + b"\0"))
    succeeded(imgfs("load", "--max-bytes", limit, stdin=APP_TAR))


def test_max_bytes_is_a_number_of_up_to_18_digits(imgfs: Command) -> None:
    succeeded(imgfs("load", "--max-bytes", "9" * 18, stdin=APP_TAR))
    said = refusal(imgfs("load", "--max-bytes", "9" * 5000, stdin=APP_TAR), 2)
    assert "--max-bytes: expected a number of up to 18 digits, found 9" in said


def test_a_terminal_as_standard_input_is_refused(imgfs: Command) -> None:
    ours, theirs = pty.openpty()
    with imgfs.start("load", stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as load:
        out, err = load.communicate()
    os.close(theirs)
    os.close(ours)
    assert "terminal" in refusal(Done(load.returncode, out, err), status=2)


@pytest.mark.parametrize(("arguments", "shows"), [(["load"], True), (["load", "-q"], False)])
def test_progress_is_shown_only_on_terminals(
    imgfs: Command,
    app: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    shows: bool,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    process = imgfs.start(*arguments, app, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 4096):
            shown += data
    except OSError:  # Linux reports so that the other side is closed
        pass
    os.close(ours)
    assert process.wait() == 0
    assert (b"Loading" in shown) is shows
    assert shows or not shown


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [
        (signal.SIGINT, 130, b"imgfs: interrupted\n"),
        (signal.SIGTERM, 143, b""),
        (signal.SIGHUP, 129, b""),
    ],
)
def test_a_signal_undoes_the_load(
    imgfs: Command,
    stock: Callable[..., None],
    number: signal.Signals,
    status: int,
    said: bytes,
) -> None:
    stock(APP_TAR)
    before = picture(imgfs.store)
    endless = archives.docker_archive((BIG, ["big:1"]))[: 3 << 20]
    with imgfs.start(
        "load",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(endless)
        process.stdin.flush()
        wait_until(lambda: any((imgfs.store / "ingest").iterdir()), "the load has begun")
        process.send_signal(number)
        assert process.wait(30) == status
        assert process.stdout.read() == b""
        assert process.stderr.read() == said
    assert picture(imgfs.store) == before


def test_odd_file_names_are_escaped(imgfs: Command, tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\x1b[31m\n.tar")
    assert r"\x1b[31m\n.tar: No such file" in refusal(imgfs("load", odd))
    Path(odd).write_bytes(APP_TAR)
    assert succeeded(imgfs("load", odd)).lines == ["Loaded image: app:1"]


def test_load_sets_names(imgfs: Command, tmp_path: Path) -> None:
    archive = tmp_path / "x.tar"
    archive.write_bytes(archives.docker_archive((APP, ["app:1"]), (OTHER, None)))
    given = ("--rename", "app=ghcr.io/org/app", "--name", "other:2", "--prefix", "mirror/")
    succeeded(imgfs("load", *given, archive))
    assert sorted(names(imgfs.store)) == ["mirror/ghcr.io/org/app:1", "other:2"]


def test_base_name_completes_a_bare_tag(imgfs: Command) -> None:
    tagged = archives.descriptor(
        APP.manifest(),
        archives.OCI_MANIFEST,
        annotations={"org.opencontainers.image.ref.name": "3"},
    )
    archive = archives.tar(archives.oci_members([tagged], APP.blobs()))
    succeeded(imgfs("load", stdin=archive))
    assert list(names(imgfs.store)) == [archives.digest(APP.manifest())]
    succeeded(imgfs("load", "--base-name", "ghcr.io/org/app", stdin=archive))
    assert list(names(imgfs.store)) == ["ghcr.io/org/app:3"]


def test_load_restricts_an_image_to_a_platform(imgfs: Command) -> None:
    images = [
        ImageParts(architecture=name, layers=[archives.layer(name)]) for name in ("s390x", "arm64")
    ]
    archive = archives.multi_platform("docker.io/library/multi:1", images)
    done = imgfs("load", "--platform", "linux/arm64", "--format", "json", stdin=archive)
    (loaded,) = succeeded(done).json
    assert loaded["images"][0]["platforms"] == ["linux/arm64"]
    assert loaded["images"][0]["missing"] == [archives.digest(images[0].manifest())]
    assert loaded["images"][0]["missing_platforms"] == ["linux/s390x"]
    blobs = {f"sha256:{path.name}" for path in (imgfs.store / "blobs/sha256").iterdir()}
    assert {archives.digest(b) for b in images[1].blobs()} <= blobs
    assert not {archives.digest(b) for b in images[0].blobs()} & blobs
    again = imgfs("load", "--platform", "linux/s390x", "--format", "json", stdin=archive)
    (loaded,) = succeeded(again).json
    assert loaded["images"][0]["platforms"] == ["linux/s390x", "linux/arm64"]
    assert loaded["images"][0]["missing"] == []


@pytest.mark.parametrize("archive", [APP_TAR, OTHER_TAR])
def test_a_platform_that_is_not_in_the_archive_is_an_error(imgfs: Command, archive: bytes) -> None:
    said = refusal(imgfs("load", "--platform", "linux/s390x", stdin=archive))
    assert "platform linux/s390x of " in said
    assert names(imgfs.store) == {}


def test_missing_platforms_are_printed(imgfs: Command) -> None:
    here, absent = ImageParts(), ImageParts(architecture="s390x")
    archive = archives.multi_platform("docker.io/library/multi:1", [here], [absent])
    assert succeeded(imgfs("load", stdin=archive)).lines == [
        "Loaded image: multi:1 (missing: linux/s390x)"
    ]


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_uncompressed_layers_are_compressed(imgfs: Command, kind: str, tmp_path: Path) -> None:
    big = ImageParts(layers=[archives.layer("big", b"x" * 300_000), archives.layer("app")])
    archive = archives.docker_archive((big, ["big:1"]), (APP, ["app:1"]))
    succeeded(imgfs("load", "--compress", kind, stdin=archive))
    (found,) = imgfs("inspect", "big:1").json
    assert found["Id"] == big.id
    assert [layer["mediaType"].rpartition("+")[2] for layer in found["Layers"]] == [kind] * 2
    before = sorted((imgfs.store / "blobs/sha256").iterdir())
    succeeded(imgfs("load", "--compress", kind, stdin=archive))
    assert sorted((imgfs.store / "blobs/sha256").iterdir()) == before, "known by their diff IDs"
    out = tmp_path / "x.tar"
    succeeded(imgfs("save", "-o", out, "big:1"))
    assert out.stat().st_size < 20_000
    assert not list((imgfs.store / "ingest").iterdir())


# -- what an archive names and cannot give --------------------------------------------------------


def test_images_that_are_left_out_are_warnings(imgfs: Command) -> None:
    entries = [
        archives.descriptor(parts.manifest(), archives.OCI_MANIFEST, annotations={NAME: name})
        for parts, name in ((APP, "docker.io/library/app:1"), (OTHER, "docker.io/library/other:1"))
    ]
    members = archives.oci_members(entries, [*APP.blobs(), OTHER.manifest(), OTHER.config])
    archive = archives.tar(members)
    done = imgfs("load", stdin=archive)
    assert (done.status, done.out.decode()) == (0, "Loaded image: app:1\n")
    (warning,) = done.err.decode().splitlines()
    assert warning.startswith("imgfs: warning: standard input: left out: docker.io/library/other:1")
    assert archives.digest(OTHER.layers[0])[7:] in warning
    (loaded,) = imgfs("load", "--format", "json", stdin=archive).json
    (left_out,) = loaded["left_out"]
    assert left_out["name"] == "docker.io/library/other:1"


def test_one_missing_blob_is_counted_in_the_singular(imgfs: Command) -> None:
    manifest = ImageParts(architecture="", os="").manifest()
    lacking = archives.descriptor(manifest, archives.OCI_MANIFEST)
    whole = archives.descriptor(APP.manifest(), archives.OCI_MANIFEST)
    index = archives.to_json({"schemaVersion": 2, "manifests": [whole, lacking]})
    entry = archives.descriptor(index, archives.OCI_INDEX, annotations={NAME: "docker.io/a/b:1"})
    archive = archives.tar(archives.oci_members([entry], [index, *APP.blobs()]))
    assert succeeded(imgfs("load", stdin=archive)).lines == [
        "Loaded image: a/b:1 (missing: 1 blob)"
    ]

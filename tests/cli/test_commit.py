"""Tests of `imgfs commit`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.spec import docker
from tests import archives
from tests.archives import ImageParts
from tests.cli.command import Command, Done, names, refusal, succeeded
from tests.commit.configs import ODD, OddImage


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    (path / "hello").write_text("hello\n")
    return path


def test_commit_prints_the_digest(inside: Callable[..., Done], root: Path, store: Path) -> None:
    (digest,) = succeeded(inside("commit", root, "app:1,app:2")).lines
    assert digest.startswith("sha256:")
    assert sorted(names(store)) == ["app:1", "app:2"]
    (found, _) = inside("images", "--format", "json").json
    assert found["digest"] == digest


def test_an_image_without_a_name_is_untagged(
    inside: Callable[..., Done], root: Path, store: Path
) -> None:
    (digest,) = succeeded(inside("commit", root)).lines
    assert list(names(store)) == [digest]


def test_the_files_that_build_tools_expect_are_written(
    inside: Callable[..., Done], root: Path, tmp_path: Path
) -> None:
    files = ("--iidfile", tmp_path / "iid", "--metadata-file", tmp_path / "meta.json")
    (digest,) = succeeded(inside("commit", *files, root, "app:1")).lines
    reported = json.loads((tmp_path / "meta.json").read_bytes())
    assert reported["containerimage.digest"] == digest
    assert reported["containerimage.config.digest"] == (tmp_path / "iid").read_text()
    assert reported["image.name"] == "docker.io/library/app:1"


def test_options_set_the_config_and_the_history(inside: Callable[..., Done], root: Path) -> None:
    options = (
        "-c",
        'CMD ["/hello"]',
        "-c",
        "ENV A=1",
        "-m",
        "said",
        "-a",
        "me",
        "--annotation",
        "k=v",
    )
    succeeded(inside("commit", *options, root, "app:1"))
    (found,) = inside("inspect", "app:1").json
    assert found["Config"]["Cmd"] == ["/hello"]
    assert found["Author"] == "me"
    assert "said" in inside("history", "app:1").out.decode()


def test_the_history_names_imgfs(
    inside: Callable[..., Done], stock: Callable[..., None], root: Path
) -> None:
    stock(archives.docker_archive((ImageParts(extra={"history": []}), ["base:1"])))
    succeeded(inside("commit", root, "app:1"))
    succeeded(inside("commit", "--base", "base:1", root, "app:2"))
    (found,) = inside("inspect", "app:1").json
    assert found["Comment"] == "imgfs"
    reported = [
        [(step["created_by"], step["comment"]) for step in steps.json]
        for steps in (inside("history", "--format", "json", f"app:{n}") for n in (1, 2))
    ]
    assert reported == [[("imgfs commit", "imgfs")], [("imgfs commit", "imgfs"), ("", "imgfs")]]


def test_the_config_can_come_from_a_file(
    inside: Callable[..., Done], root: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"os":"linux","architecture":"riscv64","config":{"User":"me"}}')
    succeeded(inside("commit", "--config", config, root, "app:1"))
    (found,) = inside("inspect", "app:1").json
    assert (found["Architecture"], found["Config"]["User"]) == ("riscv64", "me")


def test_several_platforms_make_an_index(inside: Callable[..., Done], root: Path) -> None:
    wanted = [f"--platform=linux/{arch}={root}" for arch in ("amd64", "arm64")]
    succeeded(inside("commit", *wanted, "multi:1"))
    (found,) = inside("images", "--format", "json").json
    assert found["platforms"] == ["linux/amd64", "linux/arm64"]


def test_source_date_epoch_sets_the_time(imgfs: Command, root: Path) -> None:
    succeeded(imgfs("commit", root, "app:1", SOURCE_DATE_EPOCH="86400"))
    (found,) = imgfs("inspect", "app:1").json
    assert found["Created"] == "1970-01-02T00:00:00Z"
    said = refusal(imgfs("commit", root, "app:1", SOURCE_DATE_EPOCH="soon"))
    assert said == "SOURCE_DATE_EPOCH: expected seconds since 1970, found soon"


@pytest.mark.parametrize("epoch", ["253402300800", "1" * 5000])
def test_a_source_date_epoch_that_no_text_can_give_is_refused(
    imgfs: Command, root: Path, epoch: str
) -> None:
    said = refusal(imgfs("commit", root, "app:1", SOURCE_DATE_EPOCH=epoch))
    assert said.startswith("SOURCE_DATE_EPOCH: expected a time up to the year 9999, found ")
    succeeded(imgfs("commit", root, "app:1", SOURCE_DATE_EPOCH="253402300799"))


def test_reproducible_images_are_equal(inside: Callable[..., Done], root: Path) -> None:
    found = {succeeded(inside("commit", "--reproducible", root, "app:1")).out for _ in range(2)}
    assert len(found) == 1
    (image,) = inside("inspect", "app:1").json
    assert image["Created"] == "1970-01-01T00:00:00Z"


def test_docker_media_types_and_zstd(inside: Callable[..., Done], root: Path) -> None:
    succeeded(inside("commit", "--docker", "--compression", "zstd:5", root, "app:1"))
    (found,) = inside("inspect", "app:1").json
    assert found["Manifest"]["mediaType"].startswith("application/vnd.docker.")
    assert found["Layers"][0]["mediaType"].endswith(".zstd")


def test_annotations_and_attestations_are_added(
    inside: Callable[..., Done], root: Path, store: Path, tmp_path: Path
) -> None:
    statement, cache = tmp_path / "statement.json", tmp_path / "cache"
    statement.write_text(
        '{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://spdx.dev/Document"}'
    )
    cache.write_bytes(b"cached")
    wanted = [f"--platform=linux/{arch}={root}" for arch in ("amd64", "arm64")]
    options = (
        f"--attestation=linux/arm64={statement}",
        f"--inline-cache=linux/amd64={cache}",
        "--annotation=index,manifest[linux/amd64]:k=v",
    )
    (digest,) = succeeded(inside("commit", *wanted, *options, "multi:1")).lines

    def document(digest: str) -> Any:
        return json.loads((store / "blobs" / digest.replace(":", "/")).read_bytes())

    index = document(digest)
    first, second, _ = (document(entry["digest"]) for entry in index["manifests"])
    assert first["annotations"] == {"k": "v"}
    assert "annotations" not in second
    assert document(first["config"]["digest"])["moby.buildkit.cache.v0"] == "Y2FjaGVk"
    assert index["annotations"] == {"k": "v"}
    assert [m["platform"]["architecture"] for m in index["manifests"]] == [
        "amd64",
        "arm64",
        "unknown",
    ]


def test_a_commit_can_change_only_the_config(inside: Callable[..., Done], root: Path) -> None:
    succeeded(inside("commit", root, "app:1"))
    succeeded(inside("commit", "--base", "app:1", "--config-only", "-c", "USER me", "app:2"))
    (before,), (after,) = (inside("inspect", name).json for name in ("app:1", "app:2"))
    assert after["Config"]["User"] == "me"
    assert after["Layers"] == before["Layers"]


def test_a_change_of_the_config_is_in_the_history(imgfs: Command, root: Path) -> None:
    succeeded(imgfs("commit", root, "app:1", SOURCE_DATE_EPOCH="86400"))
    change = ("commit", "--base", "app:1", "--config-only", "-c", "USER me")
    options = ("-m", "said", "-a", "me", "app:2")
    succeeded(imgfs(*change, *options, SOURCE_DATE_EPOCH="172800"))
    (found,) = imgfs("inspect", "app:2").json
    assert (found["Created"], found["Author"]) == ("1970-01-03T00:00:00Z", "me")
    above, below = imgfs("history", "--format", "json", "app:2").json
    assert above == {
        "created": "1970-01-03T00:00:00Z",
        "created_by": "imgfs commit",
        "comment": "said",
        "layer": None,
        "size": 0,
    }
    assert below["created"] == "1970-01-02T00:00:00Z"
    succeeded(imgfs(*change, "app:3"))
    assert imgfs("history", "--format", "json", "app:3").json == [below]


def test_options_of_build_tools_are_accepted(
    inside: Callable[..., Done], root: Path, store: Path
) -> None:
    options = '"name=app:2,app:3",compression=zstd,oci-mediatypes=false,push=true'
    done = inside("commit", "-o", options, root, "app:1")
    assert done.status == 0
    assert done.err.decode() == "imgfs: warning: unknown option push\n"
    assert sorted(names(store)) == ["app:1", "app:2", "app:3"]
    (found,) = inside("inspect", "app:1").json
    assert found["Layers"][0]["mediaType"] == "application/vnd.docker.image.rootfs.diff.tar.zstd"


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ((), 2, "expected DIR and NAME"),
        (("{root}", "a:1", "b:1"), 2, "expected DIR and NAME"),
        (("--platform=linux/amd64={root}", "--platform=linux/arm64", "a:1"), 2, "each of several"),
        (("--platform=a", "--platform=b", "{root}", "a:1"), 2, "each of several"),
        (("--annotation", "x", "{root}", "a:1"), 2, "KEY=VALUE"),
        (("--annotation", "indx:x=y", "{root}", "a:1"), 2, "found indx"),
        (("-o", "compression", "{root}", "a:1"), 2, "KEY=VALUE"),
        (("-o", "type=oci", "{root}", "a:1"), 2, "type=image"),
        (("-o", "oci-mediatypes=maybe", "{root}", "a:1"), 1, "expected true or false"),
        (("--attestation", "{root}/hello", "{root}", "a:1"), 1, "in-toto statement"),
        (
            ("--platform=linux/amd64={root}", "--platform=linux/amd64={root}", "a:1"),
            2,
            "given twice",
        ),
        (
            (
                "--platform=linux/amd64={root}",
                "--platform=linux/arm64={root}",
                "--config={root}/hello",
                "a:1",
            ),
            2,
            "expected P=FILE with one of linux/amd64, linux/arm64",
        ),
        (("--config-only", "a:1"), 2, "needs --base"),
        (("--config-only", "--base=a:1", "--upper", "a:1"), 2, "no --upper"),
        (("--config-only", "--base=a:1", "{root}", "a:1"), 2, "expected NAME"),
        (("{root}/nowhere", "a:1"), 1, "nowhere"),
        (("{root}/hello", "a:1"), 1, "Not a directory"),
        (("{root}", "UPPER:1"), 1, "UPPER"),
        (("--base", "nope:1", "{root}", "a:1"), 1, "nope:1"),
        (("--compression", "xz", "{root}", "a:1"), 1, "expected uncompressed or gzip or zstd"),
        (("-c", "RUN x", "{root}", "a:1"), 1, "RUN x"),
        (("--config", "{root}/hello", "{root}", "a:1"), 1, "invalid json"),
        (("--config", "{root}/nowhere", "{root}", "a:1"), 1, "nowhere"),
        (("--platform", "linux/!!", "{root}", "a:1"), 1, "linux/!!"),
    ],
)
def test_invalid_arguments_are_refused(
    inside: Callable[..., Done],
    root: Path,
    store: Path,
    arguments: tuple[str, ...],
    status: int,
    words: str,
) -> None:
    asked = [argument.format(root=root) for argument in arguments]
    assert words in refusal(inside("commit", *asked), status)
    assert names(store) == {}


ODD_CONFIGS: dict[str, dict[str, Any]] = {
    "User": {"config": {"User": 1234}},
    "Cmd": {"config": {"Cmd": "sh"}},
    "Env": {"config": {"Env": "A=b"}},
    "Labels": {"config": {"Labels": {"a": 1}}},
    "ExposedPorts": {"config": {"ExposedPorts": ["80"]}},
    "history[0].created": {"history": [{"created": "x"}]},
    "created": {"created": ""},
}
CHANGES = ("--change", "ENV C=d", "--change", "LABEL c=d", "--change", "EXPOSE 1")


@pytest.mark.parametrize("culprit", [*ODD_CONFIGS, "config"])
def test_a_config_that_gos_types_cannot_hold_is_refused(
    inside: Callable[..., Done], root: Path, tmp_path: Path, culprit: str
) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(ImageParts(extra=ODD_CONFIGS.get(culprit, {"config": []})).config)
    said = refusal(inside("commit", "--config", file, *CHANGES, root, "a:1"))
    assert said.startswith("image config: invalid image config: ")
    assert culprit in said
    assert inside("images", "-q").lines == []


@pytest.mark.parametrize("culprit", ODD_CONFIGS)
def test_a_base_whose_config_gos_types_cannot_hold_is_refused(
    inside: Callable[..., Done],
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    culprit: str,
) -> None:
    parts = ImageParts(extra=ODD_CONFIGS[culprit])
    archive = tmp_path / "odd.tar"
    archive.write_bytes(archives.oci_archive((parts, "docker.io/library/odd:1")))
    with monkeypatch.context() as unchecked:  # as in a store that another program has written
        unchecked.setattr(docker, "check_config", lambda _data, _subject: None)
        succeeded(inside("load", archive))
    assert culprit in refusal(inside("commit", "--base", "odd:1", *CHANGES, root, "a:1"))
    assert len(inside("images", "-q").lines) == 1


def test_a_base_with_an_encrypted_layer_is_refused(
    inside: Callable[..., Done], root: Path, tmp_path: Path
) -> None:
    parts = ImageParts()
    noise = bytes(range(256))
    manifest = archives.to_json(
        {
            "schemaVersion": 2,
            "config": archives.descriptor(parts.config, archives.OCI_CONFIG),
            "layers": [archives.descriptor(noise, f"{archives.OCI_LAYER}+gzip+encrypted")],
        }
    )
    entry = archives.descriptor(
        manifest,
        archives.OCI_MANIFEST,
        annotations={"io.containerd.image.name": "docker.io/library/secret:1"},
    )
    archive = tmp_path / "secret.tar"
    archive.write_bytes(
        archives.tar(archives.oci_members([entry], [manifest, parts.config, noise]))
    )
    succeeded(inside("load", archive))
    said = refusal(inside("commit", "--base", "secret:1", root, "a:1"))
    assert "is encrypted" in said
    assert archives.digest(noise) in said
    assert "is encrypted" in refusal(inside("save", "--layout", "docker", "secret:1"))
    assert "is encrypted" in succeeded(inside("history", "secret:1")).lines[-1]
    reported = succeeded(inside("fsck", "--deep")).lines
    assert reported[-1] == "nothing is wrong"
    assert "is encrypted" in reported[0]


@pytest.mark.parametrize(
    ("options", "status", "reason"),
    [
        (("--compression", "gzip:" + "9" * 5000), 1, "compression gzip:999"),
        (("-o", "compression-level=" + "9" * 5000), 1, "option compression-level: expected"),
        (("-o", f"source-date-epoch={'9' * 15}"), 1, "option source-date-epoch: expected a time"),
        (("-o", "annotation.a=b\nc"), 2, "--output annotation.a=b\\nc: expected K=V"),
        (("-o", "annotation.a=" + "x" * 200_000), 2, "--output annotation.a=xxx"),
    ],
)
def test_values_of_options_that_are_none(
    inside: Callable[..., Done], root: Path, options: tuple[str, str], status: int, reason: str
) -> None:
    done = inside("commit", *options, root, "app:1")
    assert done.status == status
    assert done.err.decode().startswith(f"imgfs: {reason}")


@pytest.mark.parametrize("name", ODD)
def test_a_change_of_an_odd_config(
    inside: Callable[..., Done], stock: Callable[..., None], name: str
) -> None:
    stock(archives.oci_archive((OddImage(members=ODD[name]), "docker.io/library/odd:1")))
    options = ("--base", "odd:1", "--config-only", "-c", "ENV X=1")
    done = inside("commit", "-q", *options, "made:1")
    assert (done.status, done.err) == (0, b"")

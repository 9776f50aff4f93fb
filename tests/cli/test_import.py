"""`imgfs import`."""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cli.command import Command, Done, refusal, succeeded
from tests.filetree.layers import file, layer

ROOT = layer(file("etc/motd", "hello"), file("bin/sh", "x" * 5000))
PLAIN_DIFF_ID = f"sha256:{hashlib.sha256(ROOT).hexdigest()}"
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}


@pytest.mark.parametrize("compress", COMPRESSORS.values(), ids=COMPRESSORS)
def test_a_tar_becomes_the_only_layer_byte_for_byte(
    imgfs: Command, tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "root.tar").write_bytes(compress(ROOT))
    options = ("-c", 'CMD ["/bin/sh"]', "-m", "mine", "--platform", "linux/arm64")
    (digest,) = succeeded(imgfs("import", *options, tmp_path / "root.tar", "app:1")).lines
    (found,) = imgfs("inspect", "app:1").json
    assert found["RootFS"]["Layers"] == [PLAIN_DIFF_ID]
    assert found["Config"]["Cmd"] == ["/bin/sh"]
    assert found["Architecture"] == "arm64"
    assert digest.startswith("sha256:")
    (step,) = imgfs("history", "--format", "json", "app:1").json
    assert (step["created_by"], step["comment"]) == ("imgfs import", "mine")
    with tarfile.open(fileobj=io.BytesIO(imgfs("export", "app:1").out)) as exported:
        assert exported.extractfile("etc/motd").read() == b"hello"  # type: ignore[union-attr]


def test_standard_input_is_imported_the_same_each_time(
    imgfs: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000")
    digests = {imgfs("import", "-", stdin=ROOT).out for _ in range(2)}
    assert len(digests) == 1
    assert "Imported from -" in imgfs("history", digests.pop().decode().strip()).out.decode()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is not a tar archive"),
        (b"hello\n", "is not a tar archive"),
        (b"hello\n" * 200, "is not a tar archive"),
        (ROOT[:3000], "bin/sh: is truncated"),
        (gzip.compress(ROOT)[:-20], "is a truncated gzip stream"),
    ],
)
def test_bad_input_is_refused_and_leaves_nothing(
    imgfs: Command, store: Path, tmp_path: Path, data: bytes, reason: str
) -> None:
    (tmp_path / "bad.tar").write_bytes(data)
    said = refusal(imgfs("import", tmp_path / "bad.tar", "app:1"))
    assert said.startswith(f"{tmp_path}/bad.tar: ")
    assert reason in said
    assert imgfs("images", "--format", "json").json == []
    assert not list((store / "blobs").glob("*/*"))


@given(st.dictionaries(st.from_regex(r"[a-z]{1,9}", fullmatch=True), st.text(max_size=3000)))
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_imported_is_exported(imgfs: Command, files: dict[str, str]) -> None:
    tar = layer(*(file(name, text) for name, text in files.items()))
    digest = succeeded(imgfs("import", "-", stdin=tar)).out.decode().strip()
    with tarfile.open(fileobj=io.BytesIO(imgfs("export", digest).out)) as exported:
        found = {one.name: exported.extractfile(one).read() for one in exported}  # type: ignore[union-attr]
    assert found == {name: text.encode() for name, text in files.items()}


def test_the_help_says_what_load_is_for(inside: Callable[..., Done]) -> None:
    assert "imgfs load" in json.dumps(inside("import", "--help").out.decode())

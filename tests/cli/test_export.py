"""`imgfs export`."""

import io
import json
import os
import pty
import random
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.cli.command import Command, refusal, succeeded
from tests.filetree.layers import directory, file, hardlink, layer, symlink

BASE = layer(
    directory("etc"),
    file("etc/passwd", "root"),
    file("usr/lib/x", "one"),
    symlink("lib", "usr/lib"),
    file("gone"),
)
UPPER = layer(file("etc/passwd", "root and more"), file(".wh.gone"), hardlink("z", "etc/passwd"))
APP = ImageParts(layers=[BASE, UPPER])
BROKEN = ImageParts(layers=[BASE, layer(hardlink("a", "no"), hardlink("b", "no"), file("c"))])
NOISE = random.Random(1).randbytes(2_000_000).decode("latin-1")
LARGE = ImageParts(layers=[layer(file("noise", NOISE))])


@pytest.fixture(autouse=True)
def _stocked(stock: Callable[..., None]) -> None:
    stock(
        archives.docker_archive((APP, ["app:1"]), (BROKEN, ["broken:1"])),
        archives.oci_archive((LARGE, "large:1"), gzipped=True),
    )


def sealed(name: str, layers: list[bytes]) -> bytes:
    """Return an archive of an image whose last layer is encrypted."""
    image = ImageParts(layers=layers)
    kinds = [archives.OCI_LAYER] * (len(layers) - 1) + [f"{archives.OCI_LAYER}+gzip+encrypted"]
    manifest = archives.to_json(
        {
            "schemaVersion": 2,
            "mediaType": archives.OCI_MANIFEST,
            "config": archives.descriptor(image.config, archives.OCI_CONFIG),
            "layers": [*map(archives.descriptor, layers, kinds)],
        }
    )
    annotations = {"io.containerd.image.name": name}
    entry = archives.descriptor(manifest, archives.OCI_MANIFEST, annotations=annotations)
    return archives.tar(archives.oci_members([entry], [manifest, image.config, *layers]))


def names(archive: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return tar.getnames()


def test_the_whole_root(imgfs: Command, tmp_path: Path) -> None:
    exported = succeeded(imgfs("export", "app:1")).out
    assert names(exported) == ["etc", "etc/passwd", "lib", "usr", "usr/lib", "usr/lib/x", "z"]
    (tmp_path / "root").mkdir()
    subprocess.run(["tar", "-C", tmp_path / "root", "-x"], input=exported, check=True)
    assert (tmp_path / "root/z").read_text() == "root and more"
    assert (tmp_path / "root/lib/x").read_text() == "one"


def test_the_same_bytes_from_another_store(imgfs: Command, tmp_path: Path) -> None:
    other = Command(tmp_path / "other")
    succeeded(other("load", stdin=imgfs("save", "large:1").out))
    assert other("export", "large:1").out == imgfs("export", "large:1").out


def test_parts(imgfs: Command) -> None:
    exported = succeeded(imgfs("export", "app:1", "/lib/x", "z", "etc/")).out
    assert names(exported) == ["etc", "etc/passwd", "usr/lib/x", "z"]


def test_into_a_file_whole_or_not_at_all(imgfs: Command, tmp_path: Path) -> None:
    out = tmp_path / "x.tar"
    assert succeeded(imgfs("export", "app:1", "-o", out)).out == b""
    assert out.read_bytes() == imgfs("export", "app:1").out
    out.unlink()
    assert refusal(imgfs("export", "app:1", "no", "-o", out)) == "path no: not found"
    assert sorted(os.listdir(tmp_path)) == ["store"]


def test_a_damaged_layer(imgfs: Command, store: Path, tmp_path: Path) -> None:
    succeeded(imgfs("export", "large:1"))
    largest = max((store / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    largest.chmod(0o600)
    data = bytearray(largest.read_bytes())
    data[1_000_000] ^= 1
    largest.write_bytes(data)
    said = refusal(imgfs("export", "large:1", "-o", tmp_path / "x.tar"))
    assert said.startswith(f"layer sha256:{largest.name}: is damaged in the store")
    assert sorted(os.listdir(tmp_path)) == ["store"]


def test_entries_that_are_left_out(imgfs: Command) -> None:
    done = imgfs("export", "broken:1")
    assert done.status == 0
    assert done.err.decode() == (
        "imgfs: left out: a: is a hard link of what is not there: no, and 1 more"
        " (see imgfs inspect)\n"
    )
    assert "c" in names(done.out)


def test_inspect_lists_what_is_left_out(imgfs: Command) -> None:
    (found,) = succeeded(imgfs("inspect", "--root", "broken:1")).json
    digest = archives.digest(BROKEN.layers[1])
    reason = "is a hard link of what is not there: no"
    assert found["Root"]["LeftOut"] == [
        {"Layer": digest, "Path": path, "Reason": reason} for path in ("a", "b")
    ]
    (found,) = succeeded(imgfs("inspect", "--root", "app:1")).json
    assert found["Root"] == {"Entries": 8, "LeftOut": []}


def test_inspect_without_a_root_says_it_too_and_reads_no_layer(imgfs: Command, store: Path) -> None:
    (found,) = succeeded(imgfs("inspect", "broken:1")).json
    assert "Root" not in found
    assert [left["Path"] for left in found["LeftOut"]] == ["a", "b"]
    assert imgfs("inspect", "-f", "{{len .LeftOut}}", "broken:1").lines == ["2"]
    digest = archives.digest(BROKEN.layers[1])
    (store / "layers/sha256" / digest.removeprefix("sha256:")).unlink()
    (left,) = succeeded(imgfs("inspect", "broken:1")).json[0]["LeftOut"]
    assert left == {"Layer": digest, "Path": "", "Reason": "has not been read yet"}
    (found,) = succeeded(imgfs("inspect", "--root", "broken:1")).json
    assert [left["Path"] for left in found["LeftOut"]] == ["a", "b"]


def test_an_encrypted_layer(imgfs: Command, stock: Callable[..., None]) -> None:
    layers = [BASE, b"sealed" * 100]
    stock(sealed("docker.io/library/sealed:1", layers))
    reason = f"layer {archives.digest(layers[1])}: is encrypted"
    assert refusal(imgfs("export", "sealed:1")) == reason
    assert refusal(imgfs("diff", "app:1", "sealed:1")) == reason
    (found,) = succeeded(imgfs("inspect", "--root", "sealed:1")).json
    (left,) = found["Root"]["LeftOut"]
    assert (left["Path"], left["Reason"]) == ("", "is encrypted")
    assert succeeded(imgfs("inspect", "sealed:1")).json[0]["LeftOut"] == [left]


def test_a_layer_that_cannot_be_read(imgfs: Command, stock: Callable[..., None]) -> None:
    layers = [BASE, layer(file("x"))[:600]]
    stock(archives.oci_archive((ImageParts(layers=layers), "bad:1")))
    digest = archives.digest(layers[1])
    said = f"layer {digest}: is truncated: it ends within a header behind x"
    assert refusal(imgfs("export", "bad:1")) == said


def test_not_to_a_terminal(imgfs: Command) -> None:
    terminal, other = pty.openpty()
    process = imgfs.start("export", "app:1", stdout=other, stderr=subprocess.PIPE)
    _, said = process.communicate()
    os.close(terminal)
    os.close(other)
    assert process.returncode == 1
    assert b"an archive is not for a terminal: use -o FILE or a redirection" in said


def test_progress(imgfs: Command) -> None:
    done = imgfs("export", "--progress", "json", "large:1")
    last = json.loads(done.err.decode().splitlines()[-1])
    size = len(NOISE.encode())
    assert (last["action"], last["bytes"], last["total"]) == ("exporting", size, size)


def test_an_image_that_is_not_there(imgfs: Command) -> None:
    assert "not found" in refusal(imgfs("export", "none:1"))
    assert "too few arguments" in refusal(imgfs("export"), 2)

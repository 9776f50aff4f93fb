"""Images whose layers hold the files of this machine's Debian packages.

Each has a directory below the cache's root:

    root-SIZE-COMPRESSION/   store/ and oci/: one image in a store, and as an OCI layout

A layer is one stream of gzip -6 or zstd, or plain. The packages that a shell needs are in the first
layer; the others follow by priority and name, until the files have the size.
"""

import hashlib
import json
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.lib.bench.images import NAME, SIZES, Images
from scripts.lib.bench.mounting import IMGFS
from scripts.lib.bench.running import call, read_all

COMPRESSIONS: Mapping[str, Sequence[str]] = {
    "gzip": ("gzip", "-6", "-n"),
    "zstd": ("zstd", "-3", "-q"),
    "none": ("cat",),
}
PROGRAM = ("/usr/bin/cat", "/usr/lib/os-release")
"""A program of the first layer, with a file that it prints."""
_LAYERS = 4
_FIRST = ("base-files", "coreutils", "dash", "libc6")
_PRIORITIES = ("required", "important", "standard")
_MERGED = ("/bin", "/lib", "/lib64", "/sbin")
_MEDIA_TYPE = "application/vnd.oci.image"
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class RootImage:
    """One image, called NAME, in a store and as an OCI layout."""

    root: Path

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def layout(self) -> Path:
        return self.root / "oci"

    @property
    def layers(self) -> list[Path]:
        """The files of the layers in the layout, lowest first."""
        index = _read(self.layout / "index.json")
        manifest = _read(_blob(self.layout, index["manifests"][0]["digest"]))
        return [_blob(self.layout, layer["digest"]) for layer in manifest["layers"]]

    @property
    def size(self) -> int:
        """The bytes of the layers, as they are stored."""
        return sum(layer.stat().st_size for layer in self.layers)

    def warm(self) -> None:
        """Read the blobs, so that the page cache holds them."""
        for root in (self.store, self.layout):
            for file in root.rglob("blobs/*/*"):
                read_all(file)


def root_image(images: Images, size: str, compression: str) -> RootImage:
    def make(place: Path) -> None:
        made = RootImage(place)
        make_layout(made.layout, _layers(SIZES[size]), compression)
        call(*IMGFS, "--store", made.store, "load", "-q", made.layout)

    return RootImage(images.made(f"root-{size}-{compression}", make))


def with_other_digests(image: RootImage, layout: Path, number: int) -> None:
    """Make a layout of the same image whose gzip layers have other digests, and other tables."""
    empty = b"\x1f\x8b\x08\0" + number.to_bytes(4, "little") + b"\0\xff\x03\0" + bytes(8)
    index = _read(image.layout / "index.json")
    manifest = _read(_blob(image.layout, index["manifests"][0]["digest"]))
    config = _blob(image.layout, manifest["config"]["digest"]).read_bytes()
    layers = []
    for path in image.layers:
        copy = _new_blob(layout)
        shutil.copyfile(path, copy)
        with copy.open("ab") as file:
            file.write(empty)
        layers.append(_named(layout, copy, manifest["layers"][0]["mediaType"]))
    _finish(layout, json.loads(config), layers, f"bench:{number}")


def _layers(size: int) -> Iterator[list[str]]:
    """Yield the paths of each layer: those of packages, and the links of the merged /usr first."""
    packages = list(_packages())
    each = size // _LAYERS
    for number in range(_LAYERS):
        paths: dict[str, None] = {} if number else dict.fromkeys(filter(os.path.islink, _MERGED))
        found = 0
        while packages and found < each:
            new = [path for path in _files(packages.pop(0)) if path not in paths]
            paths.update(dict.fromkeys(new))
            found += sum(os.lstat(path).st_size for path in new)
        yield sorted(paths, key=_parts)


def _parts(path: str) -> list[str]:
    """Return the names in a path, to sort as a walk does, and so as builders write layers."""
    return path.split("/")


def _packages() -> Iterator[str]:
    """Yield the names of the installed packages, in the order of the layers."""
    form = "${Package}\t${Priority}\t${Pre-Depends}, ${Depends}\n"
    rows = [line.split("\t") for line in call("dpkg-query", "-W", "-f", form).splitlines()]
    needs = {name: _names(depends) for name, _, depends in rows}
    first = list(_FIRST)
    for name in first:  # which grows meanwhile
        first += [need for need in needs.get(name, ()) if need in needs and need not in first]
    yield from first
    order = {name: rank for rank, name in enumerate(_PRIORITIES)}
    for name, _, _ in sorted(rows, key=lambda row: (order.get(row[1], len(order)), row[0])):
        if name not in first:
            yield name


def _names(depends: str) -> list[str]:
    """Return the first alternative of each dependency."""
    return [part.split()[0].partition(":")[0] for part in depends.split(",") if part.strip()]


def _files(package: str) -> Iterable[str]:
    """Return the paths of a package that are there and readable, without symlinks on the way."""
    found: dict[str, None] = {}
    for line in call("dpkg-query", "-L", package).splitlines():
        path = Path(line)
        real = f"{os.path.realpath(path.parent)}/{path.name}".replace("//", "/")
        if os.path.lexists(real) and real != "/" and _is_plain(real):
            found[real] = None
    return found


def _is_plain(path: str) -> bool:
    mode = os.lstat(path).st_mode
    is_read = stat.S_ISREG(mode) or stat.S_ISDIR(mode)
    return stat.S_ISLNK(mode) or (is_read and os.access(path, os.R_OK))


# --- The layout ---


def make_layout(layout: Path, layers: Iterable[list[str]], compression: str) -> None:
    """Make a layout of an image called NAME, whose layers hold the files at absolute paths."""
    suffix = "" if compression == "none" else f"+{compression}"
    descriptors, diff_ids = [], []
    for paths in layers:
        blob = _new_blob(layout)
        diff_ids.append(_write_layer(paths, blob, COMPRESSIONS[compression]))
        descriptors.append(_named(layout, blob, f"{_MEDIA_TYPE}.layer.v1.tar{suffix}"))
    architecture = call("dpkg", "--print-architecture").strip()
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Cmd": list(PROGRAM)},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    _finish(layout, config, descriptors, NAME)


def _write_layer(paths: list[str], blob: Path, compress: Sequence[str]) -> str:
    """Write a layer with the files at these paths, and return its diff ID."""
    listed = b"".join(path.encode("utf-8", "surrogateescape")[1:] + b"\0" for path in paths)
    words = ["tar", "-C", "/", "--no-recursion", "--null", "--files-from=-", "-c"]
    with tempfile.TemporaryFile() as names:  # a pipe could fill up before the archive is read
        names.write(listed)
        names.seek(0)
        tar = subprocess.Popen(words, stdin=names, stdout=subprocess.PIPE)
    assert tar.stdout is not None
    with blob.open("wb") as out:
        compressor = subprocess.Popen(compress, stdin=subprocess.PIPE, stdout=out)
    assert compressor.stdin is not None
    digest = hashlib.sha256()
    while data := tar.stdout.read(_PIECE):
        digest.update(data)
        compressor.stdin.write(data)
    tar.stdout.close()
    compressor.stdin.close()
    for process in (tar, compressor):
        if process.wait():
            raise subprocess.CalledProcessError(process.returncode, process.args)
    return f"sha256:{digest.hexdigest()}"


def _finish(layout: Path, config: Any, layers: list[dict[str, Any]], name: str) -> None:
    """Write the documents of a layout, whose image is called `name`."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_MEDIA_TYPE}.manifest.v1+json",
        "config": _document(layout, config, f"{_MEDIA_TYPE}.config.v1+json"),
        "layers": layers,
    }
    described = _document(layout, manifest, f"{_MEDIA_TYPE}.manifest.v1+json")
    described["annotations"] = {
        "org.opencontainers.image.ref.name": name.partition(":")[2],
        "io.containerd.image.name": f"docker.io/library/{name}",
    }
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))
    (layout / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))


def _document(layout: Path, value: Any, media_type: str) -> dict[str, Any]:
    blob = _new_blob(layout)
    blob.write_text(json.dumps(value))
    return _named(layout, blob, media_type)


def _new_blob(layout: Path) -> Path:
    directory = layout / "blobs" / "sha256"
    directory.mkdir(parents=True, exist_ok=True)
    return directory / "new"


def _named(layout: Path, blob: Path, media_type: str) -> dict[str, Any]:
    """Give a new blob its name, and return its descriptor."""
    with blob.open("rb") as file:
        digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    blob = blob.rename(_blob(layout, digest))
    return {"mediaType": media_type, "digest": digest, "size": blob.stat().st_size}


def _blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / Path(*digest.split(":"))


def _read(path: Path) -> Any:
    return json.loads(path.read_bytes())

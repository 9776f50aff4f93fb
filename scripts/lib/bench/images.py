"""The material of all measurements: trees, images and stores, generated from a seed and kept.

Each has a directory below the cache's root, which appears when it is complete:

    tree-SIZE/               files as in a root file system
    image-SIZE-N-layers/     the same with N gzip layers of equal size
    image-SIZE-COMPRESSION/  store/, archive.tar and oci/: one image in a store, as an archive (the
                             combined layout, which every peer reads), and as that archive unpacked
    images-N/                a store of N images that share their layers
    directories-N/           N empty directories with the same names
"""

import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from unittest import mock

import msgspec

from engine import graph as walk
from engine.content.blobs import read_blob
from engine.image import Image, ManifestSummary, Summary
from engine.spec import go_json, oci
from engine.spec.digest import of_bytes
from engine.spec.oci import Descriptor
from engine.stores.local.store import LocalStore
from scripts.lib.bench.mounting import IMGFS
from scripts.lib.bench.running import call, read_all
from scripts.lib.bench.turns import say

NAME = "bench:1"
SIZES = {"small": 5 << 20, "medium": 150 << 20, "large": 2 << 30}
_LAYERS = {"small": 3, "medium": 8, "large": 12}
_SEED = 6
_TIME = 1_700_000_000


@dataclass(frozen=True, slots=True)
class StoredImage:
    """One image, called NAME, in three forms."""

    root: Path

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def archive(self) -> Path:
        return self.root / "archive.tar"

    @property
    def layout(self) -> Path:
        """The OCI layout on disk."""
        return self.root / "oci"

    @property
    def size(self) -> int:
        return self.archive.stat().st_size

    @property
    def largest_blob(self) -> Path:
        """The path of the largest blob below `layout`, or below the image's mounted directory."""
        files = (self.layout / "blobs").glob("*/*")
        return max(files, key=lambda file: file.stat().st_size).relative_to(self.layout)

    def warm(self) -> None:
        """Read store and layout, so that the page cache holds their bytes."""
        for root in (self.store / "blobs", self.layout):
            for file in root.rglob("*"):
                if file.is_file():
                    read_all(file)


def gzip_layers(image: StoredImage) -> list[Path]:
    """Return the gzip blobs below the layout of an image."""
    return [file for file in (image.layout / "blobs").glob("*/*") if _is_gzip(file)]


def _is_gzip(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(2) == b"\x1f\x8b"


class Images:
    """The cache of images below `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def image(self, size: str, compression: str = "uncompressed") -> StoredImage:
        shares = _shares(_LAYERS[size])
        return self._image(f"image-{size}-{compression}", size, shares, compression)

    def layered(self, size: str, layers: int) -> StoredImage:
        """Return an image of gzip layers that are equal in size."""
        shares = [1 / layers] * layers
        return self._image(f"image-{size}-{layers}-layers", size, shares, "gzip")

    def _image(
        self, name: str, size: str, shares: Sequence[float], compression: str
    ) -> StoredImage:
        def make(place: Path) -> None:
            made = StoredImage(place)
            self._commit(made.store, size, shares, compression)
            call(*IMGFS, "--store", made.store, "save", "-q", "-o", made.archive, NAME)
            made.layout.mkdir()
            call("tar", "-C", made.layout, "-xf", made.archive)

        return StoredImage(self.made(name, make))

    def tree(self, size: str) -> Path:
        def make(place: Path) -> None:
            for number, share in enumerate(_shares(_LAYERS[size])):
                make_files(place, number, int(SIZES[size] * share))

        return self.made(f"tree-{size}", make)

    def many(self, count: int) -> Path:
        """Return a store of `count` images, called `name_of(0)` and so on."""

        def make(place: Path) -> None:
            place.chmod(0o700)
            self._commit(place, "small", _shares(_LAYERS["small"]), "gzip")
            with LocalStore.open(place) as store:
                _multiply(store, count)
            os.sync()

        return self.made(f"images-{count}", make)

    def directories(self, count: int) -> Path:
        def make(place: Path) -> None:
            for number in range(count):
                (place / name_of(number)).mkdir()

        return self.made(f"directories-{count}", make)

    def _commit(self, store: Path, size: str, shares: Sequence[float], compression: str) -> None:
        """Make an image with one layer for each share of the tree, each from an upper directory."""
        layer = store.parent / f"{store.name}.layer"
        below: list[str] = []
        for number, share in enumerate(shares):
            layer.mkdir()
            make_files(layer, number, int(SIZES[size] * share))
            base = ["--base", below[-1], "--upper"] if below else []
            options = ["-q", "--reproducible", "--compression", compression, *base]
            below.append(NAME if number == len(shares) - 1 else f"below:{number}")
            call(*IMGFS, "--store", store, "commit", *options, layer, below[-1])
            shutil.rmtree(layer)
        if below[:-1]:
            call(*IMGFS, "--store", store, "rm", *below[:-1])
        call(*IMGFS, "--store", store, "gc")

    def made(self, name: str, make: Callable[[Path], None]) -> Path:
        """Return the directory `name` of the cache, which `make` fills the first time."""
        done = self._root / name
        if not done.exists():
            say(f"making {name}, once")
            place = self._root / f"{name}.new"
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            make(place)
            place.rename(done)
        return done


def name_of(number: int) -> str:
    return f"app-{number:06}:1"


def make_files(root: Path, number: int, size: int) -> None:
    """Make about `size` bytes of files, in directories of their own for each `number`.

    Most files are small, and most bytes are in large files. Half of the bytes are words; the others
    cannot be compressed.
    """
    random = Random(f"{_SEED} {number}")
    words = _words(random)
    made = count = 0
    while made < size:
        folder = root / "usr" / f"lib-{number}" / f"package-{count // 40}"
        folder.mkdir(parents=True, exist_ok=True)
        length = min(int(random.lognormvariate(math.log(8 << 10), 2)) + 1, 16 << 20, size - made)
        file = folder / f"file-{count}"
        with file.open("wb") as out:
            out.writelines(_pieces(random, words, length))
        os.utime(file, (_TIME, _TIME))
        made += length
        count += 1
    for directory, _, _ in os.walk(root, topdown=False):
        os.utime(directory, (_TIME, _TIME))


def _words(random: Random) -> bytes:
    letters = "etaoinshrdlucmfw"
    known = ["".join(random.choices(letters, k=random.randint(2, 10))) for _ in range(4000)]
    weights = [1 / (rank + 1) for rank in range(len(known))]
    return " ".join(random.choices(known, weights, k=400_000)).encode()


def _pieces(random: Random, words: bytes, length: int) -> Iterator[bytes]:
    is_text = random.random() < 0.5
    while length > 0:
        size = min(length, 64 << 10)
        start = random.randrange(len(words) - size)
        yield words[start : start + size] if is_text else random.randbytes(size)
        length -= size


def _shares(layers: int) -> list[float]:
    """Return each layer's share of a tree: a large layer first, small ones last."""
    weights = [1 / (number + 1) for number in range(layers)]
    return [weight / sum(weights) for weight in weights]


def _multiply(store: LocalStore, count: int) -> None:
    """Make `count` images from the stored one, each with its own config and manifest.

    Their files are written without an ingest and synced together, since a store that is not
    complete is made again.
    """
    (original,) = store.images.all()
    data = read_blob(store.content, original.target.digest)
    manifest = go_json.decode(data, oci.Manifest, "manifest")
    config = msgspec.json.decode(read_blob(store.content, manifest.config.digest))
    summary = store.images.summary(original.target.digest)
    layers = [layer.digest for layer in manifest.layers]
    with mock.patch("os.fsync"), store.transaction():
        for number in range(count):
            changed = msgspec.json.encode({**config, "author": name_of(number)})
            described = _stored(store, changed, manifest.config)
            document = go_json.dumps(msgspec.structs.replace(manifest, config=described))
            target = _stored(store, document, original.target)
            store.content.update(target.digest, walk.gc_labels((described, *manifest.layers)))
            below = ManifestSummary(
                target.digest,
                described.digest,
                summary.manifests[0].platform,
                target.size + described.size + sum(layer.size for layer in manifest.layers),
            )
            blobs = (*layers, described.digest, target.digest)
            store.images.record(target.digest, Summary(summary.created, blobs, (below,)))
            store.images.create(Image(f"docker.io/library/{name_of(number)}", target))
            if number % 1000 == 0:
                say(f"making images-{count}: {number}")
        store.images.delete(original.name)
    for _ in store.collect():
        pass


def _stored(store: LocalStore, data: bytes, like: Descriptor) -> Descriptor:
    """Store a blob and return its descriptor."""
    digest = of_bytes(data)
    store.content.path(digest).write_bytes(data)
    store.content.adopt(digest)
    return msgspec.structs.replace(like, digest=digest, size=len(data))

"""Names change at random, by commands and through two mounts, and every mount shows it at once."""

import json
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from imgfs.fuse.name_cache import KEPT
from tests import archives
from tests.archives import ImageParts
from tests.crash.cases import ROUNDS
from tests.local_engine import LocalEngine
from tests.mounts import IMGFS, Mounted, lacking, mounts
from tests.waiting import wait_until

STEPS = 40
"""Changes in a round; after each of them both mounts are checked."""
SLOW = 0.3
"""Seconds after which a mount may have released the names of a listing that its reader, without a
processor, has not taken in yet; the kernel then keeps them longer (docs/architecture.md).
"""
IMAGES = [ImageParts(layers=[archives.layer(name)]) for name in ("one", "two", "three")]
DIGESTS = [archives.digest(image.manifest()) for image in IMAGES]
PATHS = ["app:1", "app:2", "app:prod", "ghcr.io/org/app:1", "ghcr.io/org/app:2", "reg:5000/x:1"]

pytestmark = pytest.mark.timeout(300 + 100 * ROUNDS)


class Model(msgspec.Struct):
    """The expected content: the image at each path, and the images without a name."""

    names: dict[str, int] = {}
    untagged: set[int] = set()

    @property
    def stored(self) -> set[int]:
        return {*self.names.values(), *self.untagged}

    def put(self, path: str, image: int) -> None:
        old = self.names.get(path)
        self.names[path] = image
        self.untagged.discard(image)
        if old is not None and old not in self.names.values():
            self.untagged.add(old)

    def untag(self, path: str) -> None:
        image = self.names.pop(path)
        if image not in self.names.values():
            self.untagged.add(image)

    def tags(self, repository: str) -> dict[str, str]:
        """Return the digest of each tag of a repository."""
        prefix = f"{repository}:"
        return {
            path.removeprefix(prefix): DIGESTS[image]
            for path, image in self.names.items()
            if path.startswith(prefix)
        }

    def listed(self, prefix: str) -> set[str]:
        """Return the directories that are listed below a prefix, "" or one that ends in a slash."""
        paths = [*self.names, *(DIGESTS[image] for image in self.untagged)]
        return {p.removeprefix(prefix).split("/")[0] for p in paths if p.startswith(prefix)}


class Changes:
    """The ways to change names, chosen at random, applied to the store and to the model."""

    def __init__(self, room: Path, chance: random.Random, mounted: list[Mounted]) -> None:
        self.model = Model()
        self._room = room
        self._chance = chance
        self._mounts = mounted
        self._engine = LocalEngine(mounted[0].store)

    def close(self) -> None:
        self._engine.close()

    def make_one(self) -> str:
        """Make one change; return its description."""
        ways = [self._load_by_command, self._load_by_mount, self._load_by_engine]
        if self.model.names:
            ways += [self._tag_by_command, self._tag_by_engine, self._tag_by_engine]
            ways += [self._remove_by_command, self._remove_by_engine, self._rmdir, self._rmdir]
            if len(self.model.names) < len(PATHS):
                ways += [self._link, self._rename, self._link, self._rename]
        if self.model.untagged:
            ways += [self._rmdir_untagged]
        return self._chance.choice(ways)()

    def _path(self) -> str:
        return self._chance.choice(PATHS)

    def _taken(self) -> str:
        return self._chance.choice(sorted(self.model.names))

    def _free(self) -> str:
        return self._chance.choice(sorted(set(PATHS) - self.model.names.keys()))

    def _mount(self) -> Mounted:
        return self._chance.choice(self._mounts)

    def _archive(self) -> tuple[str, int, bytes]:
        path, image = self._path(), self._chance.randrange(len(IMAGES))
        name = path if "." in path or path.startswith("reg:") else f"docker.io/library/{path}"
        return path, image, archives.oci_archive((IMAGES[image], name))

    def _command(self, *words: str) -> None:
        subprocess.run([*IMGFS, "--store", self._mounts[0].store, *words], check=True)

    def _load_by_command(self) -> str:
        path, image, data = self._archive()
        archive = self._room / "x.tar"
        archive.write_bytes(data)
        self._command("load", "-q", "-i", str(archive))
        self.model.put(path, image)
        return f"load {path} = {image}"

    def _load_by_mount(self) -> str:
        path, image, data = self._archive()
        mount = self._mount()
        mount.load(data)
        os.unlink(mount.drop / "x.tar")
        self.model.put(path, image)
        return f"copy {path} = {image} into {mount.path.name}"

    def _load_by_engine(self) -> str:
        path, image, data = self._archive()
        with self._engine.begin_import() as archive:
            archive.feed(data)
            archive.finish()
        self.model.put(path, image)
        return f"import {path} = {image}"

    def _tag(self, tag: Callable[[str, str], object]) -> str:
        source, path = self._taken(), self._path()
        tag(source, path)
        self.model.put(path, self.model.names[source])
        return f"tag {source} {path}"

    def _tag_by_command(self) -> str:
        return self._tag(lambda source, path: self._command("tag", source, path))

    def _tag_by_engine(self) -> str:
        return self._tag(self._engine.tag)

    def _remove_by_command(self) -> str:
        path = self._taken()
        self._command("rm", path)
        del self.model.names[path]
        return f"rm {path}"

    def _remove_by_engine(self) -> str:
        path = self._taken()
        self._engine.remove(path)
        del self.model.names[path]
        return f"remove {path}"

    def _rmdir(self) -> str:
        path, mount = self._taken(), self._mount()
        os.rmdir(mount / path)
        self.model.untag(path)
        return f"rmdir {mount.path.name}/{path}"

    def _rmdir_untagged(self) -> str:
        image, mount = self._chance.choice(sorted(self.model.untagged)), self._mount()
        os.rmdir(mount / DIGESTS[image])
        self.model.untagged.remove(image)
        return f"rmdir {mount.path.name}/{DIGESTS[image]}"

    def _link(self) -> str:
        source, path, mount = self._taken(), self._linkable(), self._mount()
        if path is None:
            return self._rmdir()
        os.symlink(mount / source, mount / path)
        self.model.put(path, self.model.names[source])
        return f"ln -s {source} {mount.path.name}/{path}"

    def _rename(self) -> str:
        source, path, mount = self._taken(), self._linkable(), self._mount()
        if path is None:
            return self._rmdir()
        os.rename(mount / source, mount / path)
        self.model.names[path] = self.model.names.pop(source)
        return f"mv {source} {mount.path.name}/{path}"

    def _linkable(self) -> str | None:
        """Return a free path whose parent directory exists."""
        parents = {name.rpartition("/")[0] for name in self.model.names} | {""}
        free = sorted(set(PATHS) - self.model.names.keys())
        there = [path for path in free if path.rpartition("/")[0] in parents]
        return self._chance.choice(there) if there else None


def shown_tags(directory: Path) -> dict[str, str]:
    """Return the tags of the OCI layout in a directory; {} if there is none."""
    try:
        index = json.loads((directory / "index.json").read_bytes())
    except FileNotFoundError:
        return {}
    key = "org.opencontainers.image.ref.name"
    return {entry["annotations"][key]: entry["digest"] for entry in index["manifests"]}


def check_image(directory: Path, model: Model, image: int) -> None:
    (digest,) = {
        m["digest"] for m in json.loads((directory / "index.json").read_bytes())["manifests"]
    }
    assert digest == DIGESTS[image]
    assert os.getxattr(directory, "user.oci.digest").decode() == DIGESTS[image]
    links = max(1, [*model.names.values()].count(image))
    assert (directory / "blobs" / DIGESTS[image].replace(":", "/")).stat().st_nlink == links


class Slow:
    """The listings that were too slow for a mount to hold its lock until their names expire."""

    def __init__(self) -> None:
        self._ended = 0.0

    @contextmanager
    def timed(self) -> Iterator[None]:
        """List a directory in the block."""
        began = time.monotonic()
        yield
        ended = time.monotonic()
        if ended - began >= SLOW:
            self._ended = ended

    def wait(self) -> None:
        """Wait until the kernel keeps no names of such a listing."""
        wait_until(lambda: time.monotonic() - self._ended > 2 * KEPT, "the kernel forgets names")


def check(
    mount: Mounted,
    model: Model,
    chance: random.Random,
    held_directories: Mapping[str, int],
    slow: Slow,
) -> None:
    """Check everything in a mount, in random order, also through descriptors opened before the
    change.
    """

    def names() -> None:
        for path in PATHS:
            if path in model.names:
                check_image(mount / path, model, model.names[path])
            else:
                assert not os.path.lexists(mount / path)

    def digests() -> None:
        for image, digest in enumerate(DIGESTS):
            assert os.path.isdir(mount / digest) == (image in model.stored)
            if image in model.stored:
                check_image(mount / digest, model, image)

    def repositories() -> None:
        for repository in ("app", "ghcr.io/org/app"):
            assert shown_tags(mount / repository) == model.tags(repository)

    def listings() -> None:
        for prefix, others in (("", {"import"}), ("ghcr.io/", set()), ("ghcr.io/org/", set())):
            if prefix and not model.listed(prefix):
                assert not os.path.lexists(mount / prefix)
            else:
                with slow.timed():
                    found = set(os.listdir(mount / prefix))
                assert found == model.listed(prefix) | others

    def held() -> None:
        for prefix, directory in held_directories.items():
            with slow.timed():
                found = {os.fsdecode(name) for name in os.listdir(directory)}
            assert found == model.listed(prefix) | ({"import"} if not prefix else set())

    def attributes() -> None:
        with slow.timed(), os.scandir(mount.path) as entries:
            found = {entry.name: entry.stat() for entry in entries}
        assert found.keys() == model.listed("") | {"import"}

    looks = [names, digests, repositories, listings, held, attributes]
    for look in chance.sample(looks, len(looks)):
        look()


@pytest.fixture
def two(room: Path) -> Iterator[list[Mounted]]:
    """Mount one store twice."""
    if reason := lacking():
        pytest.skip(reason)
    with mounts(room) as start:
        yield [start(at="one"), start(at="two", options=("--no-passthrough",))]


def test_every_mount_shows_every_change_at_once(room: Path, two: list[Mounted]) -> None:
    chance = random.Random(14)
    held = {mount.path: {"": os.open(mount.path, os.O_RDONLY)} for mount in two}
    changes, slow = Changes(room, chance, two), Slow()
    done: list[str] = []
    try:
        for _ in range(STEPS * ROUNDS):
            slow.wait()
            done.append(changes.make_one())
            for mount in chance.sample(two, 2):
                check(mount, changes.model, chance, held[mount.path], slow)
    except BaseException as error:
        error.add_note(f"the last changes: {done[-5:]}; {changes.model}")
        raise
    finally:
        changes.close()
        for directories in held.values():
            os.close(directories[""])

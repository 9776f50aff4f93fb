"""The names of a namespace as images of the engine.

A name in containerd is any text. One that is a reference with a tag or digest stands for the image
of its full name. These have no name of their own, and stand for the untagged image of their target:
the target's digest, docker's `moby-dangling@DIGEST`, and the image ID that Kubernetes adds to the
names of each image. Any other text is not shown.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import Final

from msgspec.structs import replace

from engine.errors import InvalidDigest, InvalidReference
from engine.image import Image, check_name, path_of
from engine.spec import reference
from engine.spec.digest import ALGORITHMS
from engine.stores.containerd.location import DOCKER

_DANGLING: Final = "moby-dangling@"


class Names:
    """The images of a namespace at one moment. Their names here are full names."""

    def __init__(self, stored: Mapping[str, Image]) -> None:
        """`stored` holds the images by their names in containerd."""
        self._stored: dict[str, list[str]] = {}
        by_name: dict[str, Image] = {}
        for name in sorted(stored, key=lambda name: (_full_name(stored[name]) == name, name)):
            image = stored[name]
            if (full := _full_name(image)) is not None:
                by_name[full] = replace(image, name=full)  # one that is written in full comes last
                self._stored.setdefault(full, []).append(name)
        self._by_name = by_name
        tagged = [image for image in by_name.values() if not image.is_untagged]
        self._named: dict[str, list[Image]] = {}
        for image in sorted(tagged, key=lambda image: image.name):
            self._named.setdefault(image.target.digest, []).append(image)
        listed = [image for image in by_name.values() if self._is_listed(image)]
        self.listed = sorted(listed, key=lambda image: image.name)
        paths = [(path_of(image.name), image) for image in self.listed]
        registries = {path.partition("/")[0] for path, _ in paths if "/" in path}
        self._by_path = {image.name if path in registries else path: image for path, image in paths}
        self._paths = sorted(self._by_path)

    def find(self, name: str) -> Image | None:
        """Return the image of a full name; of a digest only if its target has no other name."""
        image = self._by_name.get(name)
        return None if image and image.is_untagged and self._named.get(name) else image

    def of(self, target: str) -> list[Image]:
        """Return the listed images with a target, sorted by name."""
        found = [image for image in self._named.get(target, ()) if self._is_listed(image)]
        untagged = self.find(target)
        return found or ([untagged] if untagged and untagged.is_untagged else [])

    def target(self, digest: str) -> Image | None:
        """Return any image with a target."""
        return next(iter(self._named.get(digest, ())), None) or self._by_name.get(digest)

    def stored(self, name: str) -> list[str]:
        """Return the names in containerd that stand for a full name."""
        return self._stored.get(name, [])

    def at(self, path: str) -> Image | None:
        """Return the image that is listed at a path."""
        return self._by_path.get(path)

    def below(self, prefix: str) -> Iterator[tuple[str, Image]]:
        """Yield the listed images whose path begins with a prefix, in the order of their paths."""
        for path in self._paths[bisect_left(self._paths, prefix) :]:
            if not path.startswith(prefix):
                return
            yield path, self._by_path[path]

    def _is_listed(self, image: Image) -> bool:
        """Return whether an image is listed: one by digest only if no tag of its repository is."""
        if image.is_untagged:
            return image.target.digest not in self._named
        repository, at, _ = image.name.partition("@")
        others = self._named[image.target.digest]
        return not at or not any(other.name.startswith(f"{repository}:") for other in others)


def untagged_name(target: str, namespace: str) -> str:
    """Return the name in containerd of an image without a name."""
    return f"{_DANGLING}{target}" if namespace == DOCKER else target


def own_names(target: str) -> set[str]:
    """Return all names in containerd that `untagged_name` makes for a target."""
    return {target, f"{_DANGLING}{target}"}


def _full_name(image: Image) -> str | None:
    """Return the full name of an image by its name in containerd; None if it is not shown."""
    name, target = image.name, image.target.digest
    if name.startswith(_DANGLING) or name.partition(":")[0] in ALGORITHMS:
        return target
    try:
        full = str(reference.parse_normalized(name))
        check_name(full, target)
    except (InvalidReference, InvalidDigest):
        return None
    return full

"""The names of a namespace as images of the engine.

A name in containerd is any text. One that is a reference with a tag or digest stands for the image
of its full name; of several forms of one name, the one that is written in full counts. These have
no name of their own, and stand for the untagged image of their target: the target's digest,
docker's `moby-dangling@DIGEST`, and the image ID that Kubernetes adds to the names of each image.
Any other text is not shown.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final

from msgspec.structs import replace

from engine.errors import InvalidDigest, InvalidReference
from engine.image import Image, check_name, path_of
from engine.spec import reference
from engine.spec.digest import ALGORITHMS
from engine.stores.containerd.location import DOCKER

_DANGLING: Final = "moby-dangling@"
_REMEMBERED: Final = 1 << 17


class Reading:
    """The meanings of names, remembered, since the same names are read again after each change."""

    def __init__(self) -> None:
        self.full_name = lru_cache(_REMEMBERED)(_full_name)
        self.path = lru_cache(_REMEMBERED)(path_of)


class Names:
    """The images of a namespace. Their names here are full names.

    It can be changed by the one who has made it, and is for everybody once it has been handed on.
    """

    def __init__(self, reading: Reading, stored: Iterable[Image] = ()) -> None:
        """`stored` are images with their names in containerd."""
        self._reading = reading
        self._images: dict[str, Image] = {}
        """By their names in containerd."""
        self._stored: dict[str, tuple[str, ...]] = {}
        """The names in containerd by full names; one that is written in full is last."""
        self._of: dict[str, tuple[str, ...]] = {}
        """The full names that stand for each target, sorted."""
        self._tree: _Tree | None = None
        for image in stored:
            self.put(image)

    def copy(self) -> Names:
        """Return the same images, to be changed."""
        other = Names(self._reading)
        other._images = dict(self._images)
        other._stored = dict(self._stored)
        other._of = dict(self._of)
        return other

    def put(self, image: Image) -> None:
        """Add a name of containerd, in the place of what it named before."""
        self.remove(image.name)
        full = self._reading.full_name(image.name, image.target.digest)
        if full is None:
            return
        self._detach(full)
        self._images[image.name] = replace(image, name=full)
        names = {*self._stored.get(full, ()), image.name}
        self._stored[full] = tuple(sorted(names, key=lambda name: (name == full, name)))
        self._attach(full)

    def remove(self, name: str) -> None:
        """Remove a name of containerd, if it is there."""
        self._tree = None
        if name not in self._images:
            return
        full = self._images[name].name
        self._detach(full)
        del self._images[name]
        rest = tuple(each for each in self._stored.pop(full) if each != name)
        if rest:
            self._stored[full] = rest
            self._attach(full)

    def _attach(self, full: str) -> None:
        """Add a full name to the names of its target."""
        target = self._images[self._stored[full][-1]].target.digest
        self._of[target] = tuple(sorted({*self._of.get(target, ()), full}))

    def _detach(self, full: str) -> None:
        """Remove a full name, if it is there, from the names of its target."""
        stored = self._stored.get(full)
        if not stored:
            return
        target = self._images[stored[-1]].target.digest
        rest = tuple(each for each in self._of.pop(target) if each != full)
        if rest:
            self._of[target] = rest

    def find(self, name: str) -> Image | None:
        """Return the image of a full name; of a digest only if its target has no other name."""
        stored = self._stored.get(name)
        if not stored or (name in self._of and self._of[name] != (name,)):
            return None
        return self._images[stored[-1]]

    def of(self, target: str) -> list[Image]:
        """Return the listed images with a target, sorted by name."""
        found = (self.find(name) for name in self._of.get(target, ()))
        return [image for image in found if image and self._is_listed(image)]

    def behind(self, name: str) -> list[str]:
        """Return the names of an image that are not listed only because this one is: by digest if
        it is the last tag of its repository, and all if it is the last name.
        """
        image = self.find(name)
        if image is None:
            return []
        target = image.target.digest
        others = [each for each in self._of[target] if each != name]
        if [each.name for each in self.of(target)] == [name]:
            return others
        return [each for each in others if self._repository_tags(each, target) == [name]]

    def target(self, digest: str) -> Image | None:
        """Return any image with a target."""
        return next(iter(self.of(digest)), None)

    def stored(self, name: str) -> tuple[str, ...]:
        """Return the names in containerd that stand for a full name."""
        return self._stored.get(name, ())

    def forms(self, name: str) -> list[Image]:
        """Return the images of all names in containerd that stand for a full name."""
        return [self._images[each] for each in self.stored(name)]

    @property
    def listed(self) -> list[Image]:
        """The images that are listed, sorted by name."""
        return self._sorted.images

    def at(self, path: str) -> Image | None:
        """Return the image that is listed at a path."""
        return self._sorted.by_path.get(path)

    def below(self, prefix: str) -> Iterator[tuple[str, Image]]:
        """Yield the listed images whose path begins with a prefix, in the order of their paths."""
        tree = self._sorted
        for path in tree.paths[bisect_left(tree.paths, prefix) :]:
            if not path.startswith(prefix):
                return
            yield path, tree.by_path[path]

    @property
    def _sorted(self) -> _Tree:
        tree = self._tree
        if tree is None:
            found = (self.find(name) for name in sorted(self._stored))
            images = [image for image in found if image and self._is_listed(image)]
            tree = self._tree = _Tree(images, self._reading)
        return tree

    def _is_listed(self, image: Image) -> bool:
        """Return whether an image is listed: one by digest only if no tag of its repository is."""
        return "@" not in image.name or not self._repository_tags(image.name, image.target.digest)

    def _repository_tags(self, name: str, target: str) -> list[str]:
        """Return the names of a target that are tags in the repository of a name by digest."""
        repository, at, _ = name.partition("@")
        if not at:
            return []
        return [each for each in self._of[target] if each.startswith(f"{repository}:")]


class _Tree:
    """Images in order, by name and by path."""

    def __init__(self, images: list[Image], reading: Reading) -> None:
        self.images = images
        paths = [(reading.path(image.name), image) for image in images]
        registries = {path.partition("/")[0] for path, _ in paths if "/" in path}
        self.by_path = {image.name if path in registries else path: image for path, image in paths}
        self.paths = sorted(self.by_path)


def untagged_name(target: str, namespace: str) -> str:
    """Return the name in containerd of an image without a name."""
    return f"{_DANGLING}{target}" if namespace == DOCKER else target


def own_names(target: str) -> set[str]:
    """Return all names in containerd that `untagged_name` makes for a target."""
    return {target, f"{_DANGLING}{target}"}


def _full_name(name: str, target: str) -> str | None:
    """Return the full name of an image by its name in containerd; None if it is not shown."""
    if name.startswith(_DANGLING) or name.partition(":")[0] in ALGORITHMS:
        return target
    try:
        full = str(reference.parse_normalized(name))
        check_name(full, target)
    except (InvalidReference, InvalidDigest):
        return None
    return full

"""Changes of the names of images: renames, links, removals, and namespaces that are made."""

import errno
from collections.abc import Iterable

from engine.errors import InvalidDigest, InvalidReference
from engine.image import Image, TreeEntry, path_of
from engine.spec import reference
from engine.stores.protocols import Store
from imgfs.vfs.image_paths import resolve
from imgfs.vfs.namespaces import Namespaces
from imgfs.vfs.removals import ImageEntries, Removals


class NameChanges:
    """Changes the names in a store. Paths are those of images, without encoding.

    `removals` are the hidden entries of image directories, `namespaces` those without an image.
    """

    def __init__(self, store: Store) -> None:
        self.removals = Removals()
        self.namespaces = Namespaces()
        self._store = store

    def rename(self, old: str, new: str) -> None:
        """Rename the image at path `old`; OSError if it has none or `new` cannot be given."""
        self._store.check_changes()
        if self._store.images.is_remote:
            self._store.images.place_at(old)  # is fetched, which needs the lock of a transaction
        with self._store.transaction():
            image = self._image_at(old)  # the name may have moved while the lock was waited for
            self._add(image, new)
            if not image.is_untagged:
                self._store.images.delete(image.name)
        self.namespaces.filled(new)

    def link(self, sources: Iterable[str], new: str) -> None:
        """Add a name to the image at the first of these paths that has one, or raise OSError."""
        self._store.check_changes()
        found = (resolve(self._store.images, path) for path in sources)
        image = next(filter(None, found), None)
        if image is None:
            raise OSError(errno.ENOENT, "no such image")
        with self._store.transaction():
            self._add(image, new)
        self.namespaces.filled(new)

    def make_namespace(self, path: str) -> None:
        """Make a directory that images can be moved into; OSError if no image's path can contain
        it.
        """
        self._store.check_changes()
        if not can_contain_images(path):
            raise OSError(errno.EINVAL, f"{path}: expected a part of an image's name")
        self.namespaces.make(f"{path}/")

    def remove(self, path: str) -> None:
        """Remove the name of the image at a path, or the image itself if it is untagged, or the
        empty namespace at that path; otherwise raise OSError.
        """
        self._store.check_changes()
        place = self._store.images.place_at(path)
        if place is None:
            self._remove_namespace(path)
            return
        if place.image.is_untagged:
            self._store.images.delete(place.name)
        else:
            self._store.images.untag(place.name)
        if self.removals.end(place):
            self.namespaces.emptied(path)

    def entries(self, place: TreeEntry, path: str) -> ImageEntries:
        """Return the entries of a directory in an image directory, as `ImageEntries` names it."""
        return ImageEntries(self.removals, self.hide, place, path)

    def hide(self, place: TreeEntry, path: str) -> None:
        """Hide an entry of an image directory as `Removals` does; raise OSError if the image is not
        listed at that place, because then the directory cannot be removed either.
        """
        self._store.check_changes()
        if self._store.images.place_at(place.path) != place:
            raise OSError(errno.EPERM, "the image is not removed here, but where it is listed")
        self.removals.add(place, path)

    def _image_at(self, path: str) -> Image:
        place = self._store.images.place_at(path)
        if place is None:
            raise OSError(errno.EPERM, "only an image directory can be renamed or removed")
        return place.image

    def _remove_namespace(self, path: str) -> None:
        images, prefix = self._store.images, f"{path}/"
        if (
            images.has_paths(prefix)
            or images.has_paths(f"{path}:")
            or self.namespaces.below(prefix)
        ):
            raise OSError(errno.ENOTEMPTY, "there are images in it")
        if not self.namespaces.exists(prefix):
            raise OSError(errno.EPERM, "only an image or an empty namespace can be removed")
        self.namespaces.remove(prefix)

    def _add(self, image: Image, path: str) -> None:
        try:
            ref = reference.parse_normalized(path)
        except (InvalidReference, InvalidDigest) as error:
            raise OSError(errno.EINVAL, str(error)) from error
        name = str(reference.tag_name_only(ref))
        if ref.is_name_only or ref.digest is not None or path_of(name) != path:
            raise OSError(errno.EINVAL, f"expected NAME:TAG as docker prints it, found {path}")
        if self._store.images.find(name) is not None:
            raise OSError(errno.EEXIST, "there is an image of that name")
        try:
            self._store.images.put(Image(name, image.target))
        except InvalidReference as error:
            raise OSError(errno.EINVAL, str(error)) from error


def can_contain_images(path: str) -> bool:
    """Return whether an image's path can begin with this one and a slash."""
    host, colon, _ = path.partition(":")
    if colon and "." not in host and host != "localhost":
        return False
    try:
        return path_of(str(reference.parse_normalized(f"{path}/x:1"))) == f"{path}/x:1"
    except (InvalidReference, InvalidDigest):
        return False

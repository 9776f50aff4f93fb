"""The tree of names: root, namespaces, repositories and image directories.

Each lookup queries the image store, so a change by another process is visible as soon as the kernel
looks the name up again. The contents of an image directory depend on the image's name, its target
and which of its blobs are stored; the key of each node in it contains all three.
"""

import errno
import os
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import ClassVar

import msgspec
from msgspec.structs import replace

from engine.image import ARCHIVE_FILES, TreeEntry
from engine.layers.layer import Layers
from engine.spec import rfc3339
from engine.stores.protocols import Store
from engine.units import NS_PER_SECOND
from imgfs.vfs.additional_layers import ADDITIONAL_LAYERS, AdditionalLayers, LayerStore
from imgfs.vfs.archive_nodes import ArchiveNodes
from imgfs.vfs.image_paths import resolve
from imgfs.vfs.name_changes import NameChanges, can_contain_images
from imgfs.vfs.names import FAMILIAR, Names, can_be_listed
from imgfs.vfs.newest import Newest
from imgfs.vfs.nodes import (
    FOREVER,
    NEVER,
    READ_ONLY_DIRECTORY,
    Attributes,
    Directory,
    Node,
    ReadOnlyDirectory,
    Symlink,
)
from imgfs.vfs.removals import EntriesDirectory, ImageEntries
from imgfs.vfs.root_names import UNLISTED, NamedRoots, RootNames
from imgfs.vfs.rootfs import Owners
from imgfs.vfs.roots import LAYERS, ROOTFS, Roots
from imgfs.vfs.views import View

_OWNERS_DIRECTORY = 0o040755


class ImageTree:
    """Every image of a store, by path."""

    def __init__(
        self, store: Store, view: View, fixed: Mapping[str, Node], names: Names = FAMILIAR
    ) -> None:
        """`fixed` holds the children of the root that are not images. All paths here are those of
        images; `names` converts their parts to and from the names that directories show.
        """
        self.names = names
        self._store = store
        layers = Layers(store.content, store.tables, store.directory)
        self.changes = NameChanges(store)
        self.archives = ArchiveNodes(store, view, layers, self.changes)
        self.fixed = dict(fixed)
        self.is_remote = store.images.is_remote
        self.newest = Newest(store.images, store.version)
        self.root = NameDirectory(self, "")
        self.roots = Roots(store, layers, view.wanted, Owners(os.getuid() == 0))
        for kind in (ROOTFS, LAYERS):
            named = NamedRoots(kind, store, self.roots, names, self.newest)
            self.fixed[kind] = RootNames(named, "")
        layer_store = LayerStore(store, self.roots, self.archives.blobs)
        self.fixed[ADDITIONAL_LAYERS] = AdditionalLayers(layer_store)

    def find(self, path: str) -> Directory | None:
        """Return the directory at a path below the root, even if it is not listed, or None."""
        images = self._store.images
        place = images.place_at(path)
        if place is not None:
            return ImageDirectory(self, place)
        if images.has_paths(f"{path}/"):
            self.changes.namespaces.filled(f"{path}/")
            return NameDirectory(self, f"{path}/")
        if (
            images.has_paths(f"{path}:")
            or self.changes.namespaces.exists(f"{path}/")
            or (not images.supports_listing and can_contain_images(path))
        ):
            return NameDirectory(self, f"{path}/")
        image = resolve(images, path)
        return ImageDirectory(self, images.place(image, path)) if image else None

    def entries(self, prefix: str) -> list[tuple[str, Node]]:
        """Return the name and node of each child of the directory "" or, for example,
        "ghcr.io/org/", sorted by name.
        """
        found: dict[str, Node] = {}
        for name, place in self._store.images.listed(prefix):
            if place is not None:
                found[name] = ImageDirectory(self, place)
            elif name not in found:
                found[name] = NameDirectory(self, f"{prefix}{name}/")
        for name in self.changes.namespaces.below(prefix):
            found.setdefault(name, NameDirectory(self, f"{prefix}{name}/"))
        if prefix:
            found.update(self.repository(prefix[:-1]))
        else:
            found.update(item for item in self.fixed.items() if item[0] not in UNLISTED)
        shown = ((self.names.shown(name), node) for name, node in found.items())
        return sorted((item for item in shown if can_be_listed(item[0])), key=itemgetter(0))

    def repository(self, path: str) -> Mapping[str, Node]:
        """Return the OCI layout of all images whose path continues `path` with a colon, named in
        its index by what follows the colon: a tag, or with a registry's port the rest of the path.
        Return an empty mapping if there are no such images.
        """
        return self.archives.of_repository(path) if self.is_repository(path) else {}

    def is_repository(self, path: str) -> bool:
        """Return whether `repository` has files for a path."""
        return bool(path) and self._store.images.has_paths(f"{path}:")

    def rooted(self, kind: str) -> Directory:
        """Return the root of a mount that shows images as `kind`, "", ROOTFS, LAYERS or
        ADDITIONAL_LAYERS, only.
        """
        shown = self.fixed.get(kind)
        if isinstance(shown, RootNames | AdditionalLayers):
            others = {name: node for name, node in self.fixed.items() if name != kind}
            return replace(shown, fixed=others)
        return self.root

    def version(self) -> int:
        """Return a number that differs once anything in the store has changed."""
        return self._store.version()

    def places(self) -> dict[str, TreeEntry]:
        """Return the listed images by path."""
        return {place.path: place for place in self._store.images.places()}

    def image_xattrs(self, place: TreeEntry) -> Mapping[str, bytes]:
        """Return the extended attributes of an image directory."""
        image = place.image
        target = image.target.digest
        manifests = self._store.images.manifests(target)
        missing = () if manifests else self._store.images.summary(target).missing
        values = {
            "user.oci.digest": target,
            "user.oci.mediatype": image.target.media_type,
            "user.oci.name": "" if image.is_untagged else image.name,
            "user.oci.platform": ",".join(
                dict.fromkeys(m.platform for m in manifests if m.platform)
            ),
            "user.oci.missing": ",".join(missing),
            "user.oci.created": rfc3339.text(place.created),
        }
        return {name: value.encode() for name, value in values.items() if value}


class NameDirectory(ReadOnlyDirectory, msgspec.Struct, frozen=True):
    """The root, a namespace, a repository, or a namespace that is also a repository.

    `prefix` is its path with a slash at the end, or "" for the root.
    """

    tree: ImageTree
    prefix: str
    refusal: ClassVar[int] = errno.EPERM
    changes_block: ClassVar[bool] = True

    @property
    def key(self) -> str:
        return f"names:{self.prefix}"

    @property
    def is_remote(self) -> bool:
        return self.tree.is_remote

    def attributes(self) -> Attributes:
        if not self.prefix:
            return Attributes(_OWNERS_DIRECTORY)
        created = self.tree.newest.below(self.prefix[:-1])
        return Attributes(_OWNERS_DIRECTORY, mtime=created * NS_PER_SECOND, timeout=0)

    def lookup(self, name: str, /) -> Node | None:
        if not self.prefix and name in self.tree.fixed:
            return self.tree.fixed[name]
        if self.prefix and name in ARCHIVE_FILES:
            of_repository = self.tree.repository(self.prefix[:-1]).get(name)
            if of_repository is not None:
                return of_repository
        found = (self.tree.find(f"{self.prefix}{n}") for n in self.tree.names.meanings(name))
        return next(filter(None, found), None)

    def children(self) -> Iterable[tuple[str, Node]]:
        return self.tree.entries(self.prefix)

    def may_block(self, name: str | None, /) -> bool:
        if self.tree.is_remote:
            return bool(self.prefix) or name not in self.tree.fixed
        is_layout = name is None or name in ARCHIVE_FILES
        return is_layout and self.tree.is_repository(self.prefix[:-1])

    def entry_timeout(self, child: Node, /) -> float:
        is_fixed = not self.prefix and any(child is one for one in self.tree.fixed.values())
        return FOREVER if is_fixed else NEVER

    def version(self) -> int:
        return self.tree.version()

    def image_path(self, name: str, /) -> str:
        meanings = self.tree.names.meanings(name)
        if not meanings:
            raise OSError(errno.EINVAL, "no image can have such a name")
        return f"{self.prefix}{meanings[0]}"

    def mkdir(self, name: str, _mode: int, _uid: int, _gid: int, /) -> "NameDirectory":
        path = self.image_path(name)
        self.tree.changes.make_namespace(path)
        return NameDirectory(self.tree, f"{path}/")

    def rename(self, name: str, target: Directory, new_name: str, /) -> None:
        self.tree.changes.rename(self.image_path(name), target.image_path(new_name))

    def rmdir(self, name: str, _child: Directory, /) -> None:
        self.tree.changes.remove(self.image_path(name))

    def symlink(self, name: str, target: str, mountpoint: str, /) -> Symlink:
        """Add a name to the image at `target`; the link is a directory when next looked up."""
        path = self.image_path(name)
        self.tree.changes.link(self._image_paths(target, mountpoint), path)
        return Symlink(f"link:{path}", os.fsencode(target))

    def _image_paths(self, target: str, mountpoint: str) -> Sequence[str]:
        """Return the paths that a symlink's target can mean: relative to this directory as for any
        symlink, or else an image's name, relative to the root.
        """
        if target.startswith("/"):
            base = f"{mountpoint}/"
            if not target.startswith(base):
                raise OSError(errno.EXDEV, "the target is not in this mount")
            return [posixpath.normpath(self._meaning(target[len(base) :]))]
        path = self._meaning(target)
        return [posixpath.normpath(f"{self.prefix}{path}"), posixpath.normpath(path)]

    def _meaning(self, path: str) -> str:
        if not path.isascii():
            raise OSError(errno.ENOENT, "no image can have such a path")
        return "/".join(self.tree.names.meanings(part)[0] for part in path.split("/"))


class ImageDirectory(EntriesDirectory, msgspec.Struct, frozen=True, gc=False):
    """One image as a valid archive."""

    tree: ImageTree
    place: TreeEntry

    @property
    def key(self) -> TreeEntry:
        return self.place

    @property
    def is_remote(self) -> bool:
        return self.tree.is_remote

    def attributes(self) -> Attributes:
        return Attributes(READ_ONLY_DIRECTORY, mtime=self.place.created * NS_PER_SECOND)

    def xattrs(self) -> Mapping[str, bytes]:
        return self.tree.image_xattrs(self.place)

    def may_block(self, _name: str | None, /) -> bool:
        return not self.tree.archives.has(self.place)

    @property
    def nodes(self) -> Mapping[str, Node]:
        return self.tree.archives.of_image(self.place)

    @property
    def entries(self) -> ImageEntries:
        return self.tree.changes.entries(self.place, "")

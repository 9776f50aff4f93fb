"""The tree of names: root, namespaces, repositories and image directories.

Each lookup queries the image store, so a change by another process is visible as soon as the kernel
looks the name up again. The contents of an image directory depend on the image's name, its target
and which of its blobs are stored; the key of each node in it contains all three.
"""

import errno
import mmap
import os
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import ClassVar

import msgspec
from msgspec.structs import replace

from engine.errors import InvalidDigest, InvalidReference
from engine.image import ARCHIVE_FILES, Image, TreeEntry, path_of
from engine.layers.layer import Layers
from engine.layers.reader import UncompressedBlobs
from engine.layouts.entry import Decompressed, Entry
from engine.spec import reference, rfc3339
from engine.spec.digest import Digest, of_bytes
from engine.stores.protocols import Store
from engine.units import NS_PER_SECOND
from imgfs.vfs.additional_layers import ADDITIONAL_LAYERS, AdditionalLayers, LayerStore
from imgfs.vfs.blob_files import BlobFile, BlobSource, LayoutFile
from imgfs.vfs.image_paths import resolve
from imgfs.vfs.lru_cache import LRUCache
from imgfs.vfs.names import FAMILIAR, Names
from imgfs.vfs.namespaces import Namespaces
from imgfs.vfs.newest import Newest
from imgfs.vfs.nodes import (
    FOREVER,
    NEVER,
    READ_ONLY_DIRECTORY,
    Attributes,
    BytesFile,
    Directory,
    FixedDirectory,
    Node,
    ReadOnlyDirectory,
    Symlink,
)
from imgfs.vfs.removals import EntriesDirectory, ImageEntries, RemovableDirectory, Removals
from imgfs.vfs.root_names import UNLISTED, NamedRoots, RootNames
from imgfs.vfs.rootfs import Owners
from imgfs.vfs.roots import LAYERS, ROOTFS, Roots
from imgfs.vfs.views import View

_LAYOUTS_KEPT = 128
_Places = tuple[str, tuple[TreeEntry, ...]]
_WINDOW = 1 << 20
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
        self._view = view
        layers = Layers(store.content, store.tables, store.directory)
        self._uncompressed = UncompressedBlobs(store.content, layers)
        self.fixed = dict(fixed)
        self.is_remote = store.images.is_remote
        self.removals = Removals()
        self.namespaces = Namespaces()
        self.newest = Newest(store.images, store.version)
        self.root = NameDirectory(self, "")
        self.roots = Roots(store, layers, view.wanted, Owners(os.getuid() == 0))
        self._archives = LRUCache[_Places, Mapping[str, Node]](_LAYOUTS_KEPT)
        for kind in (ROOTFS, LAYERS):
            named = NamedRoots(kind, store, self.roots, names, self.newest)
            self.fixed[kind] = RootNames(named, "")
        self._blobs = BlobSource(store.content, self._links, memoryview(mmap.mmap(-1, _WINDOW)))
        layer_store = LayerStore(store, self.roots, self._blobs)
        self.fixed[ADDITIONAL_LAYERS] = AdditionalLayers(layer_store)

    # -- lookup -----------------------------------------------------------------------------------

    def find(self, path: str) -> Directory | None:
        """Return the directory at a path below the root, even if it is not listed, or None."""
        images = self._store.images
        place = images.place_at(path)
        if place is not None:
            return ImageDirectory(self, place)
        if images.has_paths(f"{path}/"):
            self.namespaces.filled(f"{path}/")
            return NameDirectory(self, f"{path}/")
        if (
            images.has_paths(f"{path}:")
            or self.namespaces.exists(f"{path}/")
            or (not images.supports_listing and _can_contain_images(path))
        ):
            return NameDirectory(self, f"{path}/")
        image = self.resolve(path)
        return ImageDirectory(self, images.place(image, path)) if image else None

    def resolve(self, path: str) -> Image | None:
        """Return the image that is listed at a path, or that the path names as DIGEST or
        NAME@DIGEST, or None.
        """
        return resolve(self._store.images, path)

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
        for name in self.namespaces.below(prefix):
            found.setdefault(name, NameDirectory(self, f"{prefix}{name}/"))
        if prefix:
            found.update(self.repository(prefix[:-1]))
        else:
            found.update(item for item in self.fixed.items() if item[0] not in UNLISTED)
        shown = self.names.shown
        return sorted(((shown(name), node) for name, node in found.items()), key=itemgetter(0))

    def repository(self, path: str) -> Mapping[str, Node]:
        """Return the OCI layout of all images whose path continues `path` with a colon, named in
        its index by what follows the colon: a tag, or with a registry's port the rest of the path.
        Return an empty mapping if there are no such images.
        """
        if not self.is_repository(path):
            return {}
        places = tuple(self._store.images.places(f"{path}:"))
        return self._archive(f"repository:{path}", places, f"{path}:")

    def is_repository(self, path: str) -> bool:
        """Return whether `repository` has files for a path."""
        return bool(path) and self._store.images.has_paths(f"{path}:")

    def rooted(self, kind: str) -> Directory:
        """Return the root of a mount that shows images as `kind`, "", ROOTFS, LAYERS or
        ADDITIONAL_LAYERS, only.
        """
        shown = self.fixed.get(kind)
        if isinstance(shown, RootNames | AdditionalLayers):
            return replace(shown, fixed=self.fixed)
        return self.root

    def version(self) -> int:
        """Return a number that differs once anything in the store has changed."""
        return self._store.version()

    def places(self) -> dict[str, TreeEntry]:
        """Return the listed images by path."""
        return {place.path: place for place in self._store.images.places()}

    # -- changes ----------------------------------------------------------------------------------

    def rename(self, old: str, new: str) -> None:
        """Rename the image at path `old`; OSError if it has none or `new` cannot be given."""
        self._store.check_changes()
        place = self._store.images.place_at(old)
        if place is None:
            raise OSError(errno.EPERM, "only an image directory can be renamed or removed")
        image = place.image
        with self._store.transaction():
            self._add(image, new)
            if not image.is_untagged:
                self._store.images.delete(image.name)
        self.namespaces.filled(new)

    def link(self, sources: Iterable[str], new: str) -> None:
        """Add a name to the image at the first of these paths that has one, or raise OSError."""
        self._store.check_changes()
        image = next(filter(None, map(self.resolve, sources)), None)
        if image is None:
            raise OSError(errno.ENOENT, "no such image")
        with self._store.transaction():
            self._add(image, new)
        self.namespaces.filled(new)

    def make_namespace(self, path: str) -> "NameDirectory":
        """Make a directory that images can be moved into; OSError if no image's path can contain
        it.
        """
        self._store.check_changes()
        if not _can_contain_images(path):
            raise OSError(errno.EINVAL, f"{path}: expected a part of an image's name")
        self.namespaces.make(f"{path}/")
        return NameDirectory(self, f"{path}/")

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

    def hide(self, place: TreeEntry, path: str) -> None:
        """Hide an entry of an image directory as `Removals` does; raise OSError if the image is not
        listed at that place, because then the directory cannot be removed either.
        """
        self._store.check_changes()
        if self._store.images.place_at(place.path) != place:
            raise OSError(errno.EPERM, "the image is not removed here, but where it is listed")
        self.removals.add(place, path)

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

    # -- contents of image directories ------------------------------------------------------------

    def image_nodes(self, place: TreeEntry) -> Mapping[str, Node]:
        """Return the children of an image directory, with those that are hidden."""
        if not place.target:  # it was listed, and never looked up
            found = self._store.images.place_at(place.path)
            if found is None:
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
            place = found
        return self._archive(f"image:{place.path}", (place,), "")

    def has_nodes_of(self, place: TreeEntry) -> bool:
        """Return whether `image_nodes` need not read the image's manifests."""
        return self._archives.get((f"image:{place.path}", (place,))) is not None

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

    def _archive(self, key: str, places: tuple[TreeEntry, ...], prefix: str) -> Mapping[str, Node]:
        nodes = self._archives.get((key, places))
        if nodes is None:
            nodes = self._make_archive(key, places, prefix)
            self._archives.put((key, places), nodes)
        return nodes

    def _make_archive(
        self, key: str, places: tuple[TreeEntry, ...], prefix: str
    ) -> Mapping[str, Node]:
        images = [place.image for place in places]
        mtime = max(place.created for place in places)
        entries = self._view.entries(self._store, images, mtime, prefix)
        version = "".join(f"\n{place.key}" for place in places)
        return self._nodes(f"{key}{version}", entries, None if prefix else places[0])

    def _nodes(
        self, key: str, entries: Iterable[Entry], image: TreeEntry | None
    ) -> Mapping[str, Node]:
        """Return the nodes of a layout's entries, in which a directory precedes its contents. With
        an `image` they can be removed.
        """
        tree: dict[str, dict[str, Node]] = {"": {}}
        for entry in entries:
            parent, _, name = entry.path.rpartition("/")
            if entry.is_directory:
                tree[entry.path] = {}
            tree[parent][name] = self._node(f"{key}/{entry.path}", entry, tree, image)
        return tree[""]

    def _node(
        self,
        key: str,
        entry: Entry,
        tree: Mapping[str, Mapping[str, Node]],
        image: TreeEntry | None,
    ) -> Node:
        mtime = entry.mtime * NS_PER_SECOND
        match entry.content:
            case None if image is not None:
                entries = ImageEntries(self.removals, self.hide, image, f"{entry.path}/")
                return RemovableDirectory(key, entries, tree[entry.path], mtime)
            case None:
                return FixedDirectory(key, tree[entry.path], mtime)
            case Digest() as digest if not entry.mtime:
                return BlobFile(self._blobs, digest, entry.size, entry.media_type)
            case Digest() as digest:
                return LayoutFile(key, self._store.content, digest, entry.size, mtime)
            case Decompressed(digest, _):
                return LayoutFile(key, self._uncompressed, digest, entry.size, mtime)
            case data if entry.media_type:
                return _made_document(data, entry.media_type)
            case data:
                return BytesFile(key, data, mtime)

    def _links(self, digest: Digest) -> int:
        return self._store.images.links([digest])[digest]


def _can_contain_images(path: str) -> bool:
    """Return whether an image's path can begin with this one and a slash."""
    host, colon, _ = path.partition(":")
    if colon and "." not in host and host != "localhost":
        return False
    try:
        return path_of(str(reference.parse_normalized(f"{path}/x:1"))) == f"{path}/x:1"
    except (InvalidReference, InvalidDigest):
        return False


def _made_document(data: bytes, media_type: str) -> BytesFile:
    """Return a manifest or index that is not stored: one inode in all directories."""
    digest = of_bytes(data)
    extra = {"user.oci.digest": digest.encode(), "user.oci.mediatype": media_type.encode()}
    return BytesFile(f"document:{digest}", data, extra=extra)


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
        return f"{self.prefix}{self.tree.names.meanings(name)[0]}"

    def mkdir(self, name: str, _mode: int, _uid: int, _gid: int, /) -> "NameDirectory":
        return self.tree.make_namespace(self.image_path(name))

    def rename(self, name: str, target: Directory, new_name: str, /) -> None:
        self.tree.rename(self.image_path(name), target.image_path(new_name))

    def rmdir(self, name: str, _child: Directory, /) -> None:
        self.tree.remove(self.image_path(name))

    def symlink(self, name: str, target: str, mountpoint: str, /) -> Symlink:
        """Add a name to the image at `target`; the link is a directory when next looked up."""
        path = self.image_path(name)
        self.tree.link(self._image_paths(target, mountpoint), path)
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
        return "/".join(self.tree.names.meanings(part)[0] for part in path.split("/"))


class ImageDirectory(EntriesDirectory, msgspec.Struct, frozen=True, gc=False):
    """One image as a valid archive."""

    tree: ImageTree
    place: TreeEntry

    @property
    def key(self) -> TreeEntry:
        return self.place

    def attributes(self) -> Attributes:
        return Attributes(READ_ONLY_DIRECTORY, mtime=self.place.created * NS_PER_SECOND)

    def xattrs(self) -> Mapping[str, bytes]:
        return self.tree.image_xattrs(self.place)

    def may_block(self, _name: str | None, /) -> bool:
        return not self.tree.has_nodes_of(self.place)

    @property
    def nodes(self) -> Mapping[str, Node]:
        return self.tree.image_nodes(self.place)

    @property
    def entries(self) -> ImageEntries:
        return ImageEntries(self.tree.removals, self.tree.hide, self.place, "")

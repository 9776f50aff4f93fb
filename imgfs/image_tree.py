"""The tree of names: root, namespaces, repositories and image directories, made from engine layouts
when looked at.

Names are asked of the image store each time, so a change by another process shows as soon as the
kernel asks again. What is below an image is fixed by the image's name, target and what the store
holds of it; those three are in every key.
"""

import errno
import mmap
import os
from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import ClassVar

import msgspec

from engine import reference, rfc3339
from engine.content import Provider, ReaderAt
from engine.content.uncompressed import UncompressedBlobs
from engine.digest import Digest, of_bytes, parse
from engine.engine import Engine
from engine.errors import InvalidDigest, InvalidReference, NotFound
from engine.images import ARCHIVE_FILES, Image, Place, path_of
from engine.layouts import Decompressed, Entry
from imgfs.names import FAMILIAR, Names
from imgfs.namespaces import Namespaces
from imgfs.newest import Newest
from imgfs.nodes import (
    NEVER,
    READ_ONLY_FILE,
    Attributes,
    BytesFile,
    Directory,
    FixedDirectory,
    Node,
    Reader,
)
from imgfs.recent import Recent
from imgfs.removals import RemovableDirectory, Removals, name_timeout, shown
from imgfs.views import View

_LAYOUTS_KEPT = 128
_WINDOW = 1 << 20
_OWNERS_DIRECTORY = 0o040755


class ImageTree:
    """Every image of a store, by path."""

    def __init__(
        self, engine: Engine, view: View, fixed: Mapping[str, Node], names: Names = FAMILIAR
    ) -> None:
        """`fixed` are the children of the root that are not images. Paths are true ones everywhere;
        `names` says how a directory shows and reads their parts.
        """
        self.names = names
        self._engine = engine
        self._view = view
        self._uncompressed = UncompressedBlobs(engine.content)
        self.fixed = fixed
        self.removals = Removals()
        self.namespaces = Namespaces()
        self.newest = Newest(engine.images, engine.database.data_version)
        self.root = NameDirectory(self, "")
        self._archives = Recent[tuple[str, tuple[Place, ...]], Mapping[str, Node]](_LAYOUTS_KEPT)
        self._window = memoryview(mmap.mmap(-1, _WINDOW))

    # -- looking ----------------------------------------------------------------------------------

    def find(self, path: str) -> Directory | None:
        """The directory at a path below the root, listed or not."""
        images = self._engine.images
        place = images.place_at(path)
        if place is not None:
            return ImageDirectory(self, place)
        if images.has_paths(f"{path}/"):
            self.namespaces.filled(f"{path}/")
            return NameDirectory(self, f"{path}/")
        if images.has_paths(f"{path}:") or self.namespaces.exists(f"{path}/"):
            return NameDirectory(self, f"{path}/")
        image = self.resolve(path)
        return ImageDirectory(self, images.place(image, path)) if image else None

    def resolve(self, path: str) -> Image | None:
        """The image that a path names: by its place in the tree, or without a name by digest or
        NAME@DIGEST.
        """
        images = self._engine.images
        image = images.at(path)
        if image is not None or ("@" not in path and ":" not in path):
            return image
        try:
            if "/" not in path and "@" not in path:
                named = images.names_of(parse(path))
            else:
                ref = reference.parse_normalized(path)
                return self._engine.find_to_save(path)[0] if ref.digest else None
        except (InvalidDigest, InvalidReference, NotFound):
            return None
        return Image(named[0].target.digest, named[0].target) if named else None

    def entries(self, prefix: str) -> list[tuple[str, Node]]:
        """(name, node) of all that is listed directly below a prefix ("" or "ghcr.io/org/")."""
        found: dict[str, Node] = {}
        for place in self._engine.images.places(prefix):
            name = place.path[len(prefix) :]
            if "/" not in name:
                found[name] = ImageDirectory(self, place)
            elif (name := name[: name.index("/")]) not in found:
                found[name] = NameDirectory(self, f"{prefix}{name}/")
        for name in self.namespaces.below(prefix):
            found.setdefault(name, NameDirectory(self, f"{prefix}{name}/"))
        if prefix:
            found.update(self.repository(prefix[:-1]))
        else:
            found.update(item for item in self.fixed.items() if not item[0].startswith("."))
        shown = self.names.shown
        return sorted(((shown(name), node) for name, node in found.items()), key=itemgetter(0))

    def repository(self, path: str) -> Mapping[str, Node]:
        """The files of the OCI layout of every image whose path goes on with a colon, each by what
        follows: the tags of a repository, or the repositories of a registry with a port. Nothing if
        there are none.
        """
        places = tuple(self._engine.images.places(f"{path}:"))
        if not places:
            return {}
        return self._archive(f"repository:{path}", places, f"{path}:")

    def is_repository(self, path: str) -> bool:
        """Whether `repository` has files for a path."""
        return bool(path) and self._engine.images.has_paths(f"{path}:")

    def version(self) -> int:
        """Return a number that is another one once anything in the store has changed."""
        return self._engine.database.data_version()

    def places(self) -> dict[str, Place]:
        """Return every image that is listed, by its path."""
        return {place.path: place for place in self._engine.images.places()}

    # -- changing ---------------------------------------------------------------------------------

    def rename(self, old: str, new: str) -> None:
        """Give an image another name in the place of one it has."""
        image = self._listed(old)
        with self._engine.database.transaction():
            self._add(image, new)
            if not image.is_untagged:
                self._engine.images.delete(image.name)
        self.namespaces.filled(new)

    def link(self, sources: Iterable[str], new: str) -> None:
        """Give the image at the first of these paths that has one another name."""
        image = next(filter(None, map(self.resolve, sources)), None)
        if image is None:
            raise OSError(errno.ENOENT, "no such image")
        with self._engine.database.transaction():
            self._add(image, new)
        self.namespaces.filled(new)

    def make_namespace(self, path: str) -> "NameDirectory":
        """Make a directory that images can be moved into; OSError unless it could hold one."""
        host, colon, _ = path.partition(":")
        try:
            ref = reference.parse_normalized(f"{path}/x:1")
            fits = path_of(str(ref)) == f"{path}/x:1"
        except (InvalidReference, InvalidDigest):
            fits = False
        if not fits or (colon and "." not in host and host != "localhost"):
            raise OSError(errno.EINVAL, f"{path}: expected a part of an image's name")
        self.namespaces.make(f"{path}/")
        return NameDirectory(self, f"{path}/")

    def remove(self, path: str) -> None:
        """Take a name away; a directory of an untagged image goes for good. A namespace goes if
        nothing is in it.
        """
        place = self._engine.images.place_at(path)
        if place is None:
            self._remove_namespace(path)
            return
        if place.image.is_untagged:
            self._engine.images.delete(place.name)
        else:
            self._engine.images.untag(place.name)
        if self.removals.end(place):
            self.namespaces.emptied(path)

    def hide(self, place: Place, path: str) -> None:
        """Show an entry of an image directory no more, for as long as `Removals` says; OSError if
        the directory itself cannot be removed.
        """
        if self._engine.images.place_at(place.path) != place:
            raise OSError(errno.EPERM, "the image is not removed here, but where it is listed")
        self.removals.add(place, path)

    def _remove_namespace(self, path: str) -> None:
        images, prefix = self._engine.images, f"{path}/"
        if (
            images.has_paths(prefix)
            or images.has_paths(f"{path}:")
            or self.namespaces.below(prefix)
        ):
            raise OSError(errno.ENOTEMPTY, "there are images in it")
        if not self.namespaces.exists(prefix):
            raise OSError(errno.EPERM, "only an image or an empty namespace can be removed")
        self.namespaces.remove(prefix)

    def _listed(self, path: str) -> Image:
        image = self._engine.images.at(path)
        if image is None:
            raise OSError(errno.EPERM, "only an image directory can be renamed or removed")
        return image

    def _add(self, image: Image, path: str) -> None:
        try:
            ref = reference.parse_normalized(path)
        except (InvalidReference, InvalidDigest) as error:
            raise OSError(errno.EINVAL, str(error)) from error
        name = str(reference.tag_name_only(ref))
        if ref.is_name_only or ref.digest is not None or path_of(name) != path:
            raise OSError(errno.EINVAL, f"expected NAME:TAG as docker prints it, found {path}")
        if self._engine.images.find(name) is not None:
            raise OSError(errno.EEXIST, "there is an image of that name")
        try:
            self._engine.images.put(Image(name, image.target))
        except InvalidReference as error:
            raise OSError(errno.EINVAL, str(error)) from error

    # -- what is below an image -------------------------------------------------------------------

    def image_nodes(self, place: Place) -> Mapping[str, Node]:
        """What is in an image directory."""
        return self._archive(f"image:{place.path}", (place,), "")

    def has_nodes_of(self, place: Place) -> bool:
        """Whether `image_nodes` can be told without reading the image's manifests."""
        return self._archives.get((f"image:{place.path}", (place,))) is not None

    def image_xattrs(self, place: Place) -> Mapping[str, bytes]:
        """What is told of an image directory by extended attributes."""
        image = place.image
        manifests = self._engine.images.manifests(image.target.digest)
        told = {
            "user.oci.digest": image.target.digest,
            "user.oci.mediatype": image.target.media_type,
            "user.oci.name": "" if image.is_untagged else image.name,
            "user.oci.platform": ",".join(
                dict.fromkeys(m.platform for m in manifests if m.platform)
            ),
            "user.oci.created": rfc3339.text(place.created),
        }
        return {name: value.encode() for name, value in told.items() if value}

    def _archive(self, key: str, places: tuple[Place, ...], prefix: str) -> Mapping[str, Node]:
        nodes = self._archives.get((key, places))
        if nodes is None:
            nodes = self._make_archive(key, places, prefix)
            self._archives.put((key, places), nodes)
        return nodes

    def _make_archive(self, key: str, places: tuple[Place, ...], prefix: str) -> Mapping[str, Node]:
        images = [place.image for place in places]
        mtime = max(place.created for place in places)
        entries = self._view.entries(self._engine, images, mtime, prefix)
        version = "".join(f"\n{place.key}" for place in places)
        return self._nodes(f"{key}{version}", entries, None if prefix else places[0])

    def _nodes(self, key: str, entries: Iterable[Entry], image: Place | None) -> Mapping[str, Node]:
        """The nodes of a layout's entries, which come sorted, so that a directory comes before what
        is in it. Those of one `image` can be removed.
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
        image: Place | None,
    ) -> Node:
        mtime = entry.mtime * 10**9
        match entry.content:
            case None if image is not None:
                nodes, path = tree[entry.path], f"{entry.path}/"
                return RemovableDirectory(key, self.removals, image, path, nodes, mtime)
            case None:
                return FixedDirectory(key, tree[entry.path], mtime)
            case Digest() as digest if not entry.mtime:
                return BlobFile(self._engine, digest, entry.size, entry.media_type, self._window)
            case Digest() as digest:
                return LayoutFile(key, self._engine.content, digest, entry.size, mtime)
            case Decompressed(digest, _):
                return LayoutFile(key, self._uncompressed, digest, entry.size, mtime)
            case data if entry.media_type:
                return _made_document(data, entry.media_type)
            case data:
                return BytesFile(key, data, mtime)


def _made_document(data: bytes, media_type: str) -> BytesFile:
    """A manifest or index that is stored nowhere: one inode wherever it is shown."""
    digest = of_bytes(data)
    told = {"user.oci.digest": digest.encode(), "user.oci.mediatype": media_type.encode()}
    return BytesFile(f"document:{digest}", data, extra=told)


class NameDirectory(msgspec.Struct, frozen=True):
    """The root, a namespace, a repository, or the last two in one."""

    tree: ImageTree
    prefix: str

    @property
    def key(self) -> str:
        return f"names:{self.prefix}"

    def attributes(self) -> Attributes:
        if not self.prefix:
            return Attributes(_OWNERS_DIRECTORY)
        created = self.tree.newest.below(self.prefix[:-1])
        return Attributes(_OWNERS_DIRECTORY, mtime=created * 10**9, timeout=0)

    def xattrs(self) -> Mapping[str, bytes]:
        return {}

    def lookup(self, name: str) -> Node | None:
        if not self.prefix and name in self.tree.fixed:
            return self.tree.fixed[name]
        if self.prefix and name in ARCHIVE_FILES:
            of_repository = self.tree.repository(self.prefix[:-1]).get(name)
            if of_repository is not None:
                return of_repository
        found = (self.tree.find(f"{self.prefix}{n}") for n in self.tree.names.meanings(name))
        return next(filter(None, found), None)

    def path(self, name: str) -> str:
        """Return the path that a child would have which is called `name` here."""
        return f"{self.prefix}{self.tree.names.meanings(name)[0]}"

    def children(self) -> Iterable[tuple[str, Node]]:
        return self.tree.entries(self.prefix)

    def keeps(self, child: Node) -> float:  # noqa: ARG002 (a `Directory`)
        return NEVER

    def waits(self, name: str | None) -> bool:
        is_layout = name is None or name in ARCHIVE_FILES
        return is_layout and self.tree.is_repository(self.prefix[:-1])

    def version(self) -> int:
        return self.tree.version()


class ImageDirectory(msgspec.Struct, frozen=True, gc=False):
    """One image: one valid archive."""

    tree: ImageTree
    place: Place
    path: ClassVar[str] = ""

    @property
    def key(self) -> Place:
        return self.place

    def attributes(self) -> Attributes:
        return Attributes(0o040555, mtime=self.place.created * 10**9)

    def xattrs(self) -> Mapping[str, bytes]:
        return self.tree.image_xattrs(self.place)

    def lookup(self, name: str) -> Node | None:
        return self._nodes().get(name)

    def children(self) -> Iterable[tuple[str, Node]]:
        return self._nodes().items()

    def keeps(self, child: Node) -> float:  # noqa: ARG002 (a `Directory`)
        return name_timeout(self.tree.removals, self.place)

    def waits(self, name: str | None) -> bool:  # noqa: ARG002 (a `Directory`)
        return not self.tree.has_nodes_of(self.place)

    def version(self) -> None:
        """The names are fixed."""

    def _nodes(self) -> Mapping[str, Node]:
        nodes = self.tree.image_nodes(self.place)
        return shown(self.tree.removals, self.place, "", nodes)


class BlobFile(msgspec.Struct, frozen=True):
    """A blob: one inode wherever it stands, with as many links as images that show it."""

    engine: Engine
    digest: Digest
    size: int
    media_type: str
    window: memoryview
    waits: ClassVar[bool] = True

    @property
    def key(self) -> str:
        return f"blob:{self.digest}"

    def attributes(self) -> Attributes:
        links = self.engine.images.links([self.digest])[self.digest]
        return Attributes(
            READ_ONLY_FILE, self.size, links=max(1, links), block_size=1 << 20, timeout=NEVER
        )

    def xattrs(self) -> Mapping[str, bytes]:
        told = {"user.oci.digest": self.digest, "user.oci.mediatype": self.media_type}
        return {name: value.encode() for name, value in told.items() if value}

    def open(self) -> Reader:
        return _BlobReader(self.engine.content.open(self.digest), self.window)


class LayoutFile(msgspec.Struct, frozen=True):
    """A blob as one image's archive has it, with the image's time."""

    key: str
    provider: Provider
    digest: Digest
    size: int
    mtime: int
    waits: ClassVar[bool] = True

    def attributes(self) -> Attributes:
        return Attributes(READ_ONLY_FILE, self.size, self.mtime, block_size=1 << 20)

    def xattrs(self) -> Mapping[str, bytes]:
        return {}

    def open(self) -> Reader:
        return _LayerReader(self.provider.open(self.digest))


class _LayerReader:
    """An open file that takes its time: what is read may have to be decompressed."""

    def __init__(self, reader: ReaderAt) -> None:
        self._reader = reader

    def read(self, offset: int, size: int) -> bytes:
        return self._reader.pread(size, offset)

    def read_at_once(self, offset: int, size: int) -> None:
        """It never can."""

    def fileno(self) -> None:
        """What is read may not be what is stored."""

    def close(self) -> None:
        self._reader.close()


class _BlobReader:
    """An open blob; readable to the end even if the blob is deleted.

    What the page cache holds is read at once, into a window that all readers share.
    """

    def __init__(self, reader: ReaderAt, window: memoryview) -> None:
        self._reader = reader
        self._window = window
        self._can_ask = True

    def read(self, offset: int, size: int) -> bytes:
        return self._reader.pread(size, offset)

    def read_at_once(self, offset: int, size: int) -> memoryview | None:
        wanted = max(0, min(size, self._reader.size - offset))
        if not self._can_ask or wanted > len(self._window):
            return None
        view = self._window[:wanted]
        try:
            read = os.preadv(self._reader.fileno(), [view], offset, os.RWF_NOWAIT)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            self._can_ask = False
            return None
        return view if read == wanted else None

    def fileno(self) -> int:
        return self._reader.fileno()

    def close(self) -> None:
        self._reader.close()

"""The directories below `import/`, with the files, links and stored blobs in them.

`blobs/ALGORITHM/HEX` exists in every directory if the store holds that blob. All three parts are
implied: they are not listed, and can be made by a writer that has not looked first, such as tar.
Methods that change something may be called from any thread, one at a time for each upload.
"""

import errno
import os
import posixpath
import stat
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar

from engine.archive.members import blob_at
from engine.spec.digest import ALGORITHMS, Digest
from imgfs.imports.file_names import check_length
from imgfs.imports.receipt import Receipt
from imgfs.imports.seen_directory import SeenDirectory
from imgfs.imports.stored_blob import StoredBlob
from imgfs.imports.uploaded_file import UploadedFile
from imgfs.imports.uploaded_link import UploadedLink
from imgfs.imports.uploaded_node import UploadedNode
from imgfs.vfs.nodes import (
    Attributes,
    Call,
    Directory,
    Node,
    ReadOnlyDirectory,
    refusal_of,
)

if TYPE_CHECKING:
    from imgfs.imports.directory_upload import DirectoryUpload

MAX_DEPTH = 64
"""The number of nested directories in one upload."""
MAX_DIRECTORIES = 20_000
"""The number of all directories in one upload."""
_BLOBS = "blobs"


class UploadedDirectory(UploadedNode, ReadOnlyDirectory):
    """One directory."""

    is_directory: ClassVar[bool] = True
    changes_block: ClassVar[bool] = True

    def __init__(
        self,
        upload: "DirectoryUpload",
        parent: "UploadedDirectory | None",
        name: str,
        receipt: Receipt,
    ) -> None:
        super().__init__(upload, parent, name, receipt)
        upload.directories[self.key] = self
        self._children: dict[str, UploadedNode] = {}
        self._implied: dict[str, UploadedDirectory] = {}
        self._shown: set[Digest] = set()
        self._removed: set[Digest] = set()
        """Stored blobs that have been removed here, so that they are not listed."""

    @property
    def depth(self) -> int:
        """The number of directories above this one in the upload."""
        return 0 if self.parent is None else self.parent.depth + 1

    @property
    def height(self) -> int:
        children = self._children.copy()  # other threads change it
        return 1 + max((child.height for child in children.values()), default=0)

    def check_depth(self, height: int) -> None:
        """Raise OSError (EMLINK) if a directory of this height is too deep here."""
        if self.depth + height >= MAX_DEPTH:
            raise OSError(errno.EMLINK, f"expected at most {MAX_DEPTH} directories in each other")

    @property
    def is_implied(self) -> bool:
        """Whether nobody has made this directory."""
        return self.parent is not None and self.parent.child(self.name) is not self

    @property
    def is_empty(self) -> bool:
        return not self._children

    def child(self, name: str) -> UploadedNode | None:
        """Return what has been made under a name."""
        return self._children.get(name)

    def path_of(self, name: str) -> str:
        """Return the path of a child in the upload."""
        return f"{self.path}/{name}".lstrip("/")

    # -- node -------------------------------------------------------------------------------------

    def attributes(self) -> Attributes:
        shown = self.receipt.attributes(0)
        return Attributes(
            stat.S_IFDIR | self.receipt.mode,
            0,
            shown.mtime,
            uid=shown.uid,
            gid=shown.gid,
            timeout=0,
        )

    def xattrs(self) -> Mapping[str, bytes]:
        own = self.upload.xattrs() if self.upload.root is self else {}
        return {**self.receipt.xattrs, **own}

    # -- lookup -----------------------------------------------------------------------------------

    def may_block(self, name: str | None, /) -> bool:
        return self._is_for_blobs and (name is None or name not in self._children)

    def depends_on_call(self, name: str, /) -> bool:
        return name not in self._children

    def seen_by(self, call: Call, /) -> SeenDirectory:
        return SeenDirectory(self, call)

    def lookup(self, name: str, /) -> Node | None:
        return self.find(name, Call.OTHER)

    def find(self, name: str, call: Call) -> Node | None:
        """Return what a system call finds under a name."""
        child = self._children.get(name)
        if child is not None and not child.is_refused:
            return child if name in self._left([name]) else None
        if name == _BLOBS or (self.name == _BLOBS and name in ALGORITHMS):
            is_there = call in (Call.OTHER, Call.MAKE_FILE, Call.WRITE_FILE)
            return self._implied_directory(name) if is_there else None
        digest = self._blob(name)
        size = self.upload.load.held(digest) if digest else None
        if digest is None or size is None:
            return None
        makes_it = call in (Call.MAKE_FILE, Call.UNKNOWN_OF_COPIER)
        if makes_it and digest not in self._shown:
            return None
        self._shown.add(digest)
        blob = StoredBlob(self, digest, size)
        return blob.writable() if call is Call.WRITE_FILE else blob

    def children(self) -> Iterable[tuple[str, Node]]:
        """Return what has been made here, and the stored blobs that the images refer to."""
        made = self._children.copy()  # other threads change it
        children = {name: child for name, child in made.items() if not child.is_refused}
        found: dict[str, Node] = {name: children[name] for name in self._left(children)}
        for name in self._referred_directories():
            if name not in found:
                found[name] = self._implied_directory(name)
        if self._is_for_blobs:
            for digest, size in self.upload.blobs(self._layout, self.name).items():
                if digest not in self._removed:
                    found.setdefault(digest.encoded, StoredBlob(self, digest, size))
        return sorted(found.items(), key=lambda item: item[0])

    # -- changes ----------------------------------------------------------------------------------
    # OSError (ENAMETOOLONG) for a name that is too long

    def create(self, name: str, mode: int, uid: int, gid: int, /) -> UploadedFile:
        """Make an empty file, or one that holds a stored blob already."""
        check_length(name)
        receipt = Receipt.new(mode, uid, gid)
        if (digest := self._blob(name)) and (size := self.upload.load.sizes([digest]).get(digest)):
            return self.adopt(StoredBlob(self, digest, size), receipt)
        file = UploadedFile(self, name, receipt)
        self._add(name, file)
        return file

    def mkdir(self, name: str, mode: int, uid: int, gid: int, /) -> "UploadedDirectory":
        """Make a directory; raise OSError (EMLINK) for one that is too deep or one too many."""
        check_length(name)
        self.check_depth(1)
        if len(self.upload.directories) >= MAX_DIRECTORIES:
            raise OSError(errno.EMLINK, f"expected at most {MAX_DIRECTORIES} directories")
        made = self._implied.pop(name, None)
        if made is None:
            made = UploadedDirectory(self.upload, self, name, Receipt.new(mode, uid, gid))
        made.receipt = Receipt.new(mode, uid, gid)
        self._add(name, made)
        return made

    def symlink(self, name: str, target: str, _mountpoint: str, /) -> UploadedLink:
        """Make a symlink; raise OSError (EPERM) if it leads out of the upload."""
        check_length(name)
        resolved = posixpath.normpath(posixpath.join(self.path, target))
        if target.startswith("/") or resolved.split("/")[0] == "..":
            raise OSError(errno.EPERM, "the link leads out of the directory")
        link = UploadedLink(self, name, os.fsencode(target), self.receipt.of_new(0o777))
        path = self.path_of(name)
        self.upload.load.link(path, resolved)
        self._add(name, link)
        self.upload.publish([(path, None)])
        return link

    def link(self, name: str, child: Node, /) -> UploadedFile:
        """Give a file that is closed a second name, as a file of its own."""
        check_length(name)
        source = self.upload.files.get(str(child.key))
        if source is None:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        if source.is_removed or source.digest is None:
            raise refusal_of(self)
        self.upload.load.copy_name(source.path, self.path_of(name))
        made = UploadedFile(self, name, source.receipt.copy())
        made.digest, made.size = source.digest, source.size
        self._add(name, made)
        self.upload.publish([(self.path_of(name), made.digest)])
        return made

    def rename(self, name: str, target: Directory, new_name: str, /) -> None:
        """Move a child within the upload, over a file or an empty directory."""
        check_length(new_name)
        child = self._children.get(name)
        if child is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        place = self.upload.directories.get(str(target.key))
        if place is None:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        replaced = place.child(new_name)
        if replaced is child:
            return
        _check_replacement(child, replaced)
        place.check_depth(child.height)
        if replaced is not None:
            replaced.keep()
        with self.upload.naming:
            new = place.path_of(new_name)
            try:
                arrived = self.upload.load.rename(child.path, new)
            except Exception as error:
                self.upload.refuse(new, error)
                raise
            if child.digest is None and not (child.is_arriving or child.is_directory):
                self.upload.load.remove(new)
            del self._children[name]
            child.move(place, new_name)
            place.place(new_name, child)
        self._changed()
        self.upload.publish(arrived)

    def unlink(self, name: str, _child: Node, /) -> None:
        """Remove a file or link. Images stay, and so does a stored blob that nobody has written."""
        child = self._children.pop(name, None)
        if child is not None:
            child.keep()
            with self.upload.naming:
                self.upload.load.remove(self.path_of(name))
                child.is_removed = True
        if digest := self._blob(name):
            self._shown.discard(digest)
            self._removed.add(digest)
        self._changed()
        self.upload.removed()

    def rmdir(self, name: str, _child: Directory, /) -> None:
        """Remove a directory in which nothing has been made."""
        made = self._children.get(name)
        if made is not None:
            if not made.is_empty:
                raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
            del self._children[name]
            made.is_removed = True
        self._changed()
        self.upload.removed()

    def adopt(self, blob: StoredBlob, receipt: Receipt) -> UploadedFile:
        """Return the file with a stored blob, which is listed from now on."""
        name = blob.digest.encoded
        if (child := self._children.get(name)) is not None:
            return self.upload.files[child.key]
        file = UploadedFile(self, name, receipt)
        file.digest, file.size = blob.digest, blob.size
        self.place(name, file)
        return file

    def lose(self, file: UploadedFile) -> None:
        """Remove a file whose bytes are lost or refused."""
        if self._children.get(file.name) is file:
            del self._children[file.name]
        file.is_removed = True

    # -- helpers ----------------------------------------------------------------------------------

    def _implied_directory(self, name: str) -> "UploadedDirectory":
        if name not in self._implied:
            receipt = self.receipt.of_new(0o755)
            self._implied[name] = UploadedDirectory(self.upload, self, name, receipt)
        return self._implied[name]

    def _blob(self, name: str) -> Digest | None:
        return blob_at(self.path_of(name)) if self._is_for_blobs else None

    @property
    def _layout(self) -> str:
        """The layout that this directory of blobs, or its parent, belongs to: "" or "PATH/"."""
        path = self.path if self._is_for_blobs else f"{self.path}/"
        return path.rpartition(f"{_BLOBS}/")[0]

    def _referred_directories(self) -> Iterable[str]:
        """Return the directories for blobs that images of a layout refer to."""
        blobs = self.upload.load.blobs
        if self.name == _BLOBS and self.parent is not None:
            return {digest.partition(":")[0] for digest in blobs(self._layout)}
        return [_BLOBS] if blobs(f"{self.path}/".lstrip("/")) else []

    @property
    def _is_for_blobs(self) -> bool:
        is_below_blobs = self.parent is not None and self.parent.name == _BLOBS
        return is_below_blobs and self.name in ALGORITHMS

    def _left(self, names: Iterable[str]) -> Collection[str]:
        """Return the names without those of blobs that have been removed from the store."""
        names = tuple(names)
        children = (self._children.get(name) for name in names) if self._is_for_blobs else ()
        stored = [child.stored for child in children if child is not None and child.stored]
        if not stored:
            return names
        gone = set(stored) - self.upload.load.sizes(stored).keys()
        return [name for name in names if f"{self.name}:{name}" not in gone]

    def _add(self, name: str, child: UploadedNode) -> None:
        existing = self._children.get(name)
        if existing is not None and not existing.is_refused and self._left([name]):
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        self.place(name, child)
        self._changed()

    def place(self, name: str, child: UploadedNode) -> None:
        """Put a child here, and make this directory if it is only implied."""
        if self.is_removed or self.upload.root.is_removed:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        if (replaced := self._children.get(name)) is not None and replaced is not child:
            replaced.is_removed = True
        self._children[name] = child
        self._implied.pop(name, None)
        if self.parent is not None and self.is_implied:
            self.parent.place(self.name, self)

    def _changed(self) -> None:
        self.receipt.touch()
        self.upload.changed()


def _check_replacement(
    child: UploadedNode,
    replaced: UploadedNode | None,
) -> None:
    """Raise OSError as rename(2) does for a child that cannot be replaced by another."""
    if replaced is None:
        return
    if replaced.is_directory:
        if not child.is_directory:
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not replaced.is_empty:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
    elif child.is_directory:
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))

"""A base for the files, links and directories of an upload."""

import errno
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from engine.spec.digest import Digest
from imgfs.imports.receipt import Receipt
from imgfs.vfs.nodes import AttributeChange, Attributes, ReadOnlyNode

if TYPE_CHECKING:
    from imgfs.imports.directory_upload import DirectoryUpload
    from imgfs.imports.uploaded_directory import UploadedDirectory


class UploadedNode(ReadOnlyNode, ABC):
    """A node with a place in an upload; `parent` is None for the root.

    `height` is the number of directories in each other, from this node down. `digest` is that of
    the bytes as the load has taken them, `stored` the same if they are a blob of the store.
    `is_refused` tells that the bytes are no good, so that the name is free, and `is_arriving` that
    the load is about to take them.
    """

    refusal: ClassVar[int] = errno.EPERM
    is_refused: bool = False
    is_arriving: bool = False
    digest: Digest | None = None

    def __init__(
        self,
        upload: "DirectoryUpload",
        parent: "UploadedDirectory | None",
        name: str,
        receipt: Receipt,
    ) -> None:
        self.key = upload.new_key()
        self.upload = upload
        self.parent = parent
        self.name = name
        self.receipt = receipt
        self.is_removed = False

    @property
    def path(self) -> str:
        """The path in the upload, "" for its root."""
        return "" if self.parent is None else self.parent.path_of(self.name)

    @property
    def height(self) -> int:
        return 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been made in it."""
        return True

    @property
    def stored(self) -> Digest | None:
        return None

    def move(self, parent: "UploadedDirectory", name: str) -> None:
        """Note that the node is in another place."""
        self.parent, self.name = parent, name

    def keep(self) -> None:
        """Keep the bytes for those who read them, before they are removed from the load."""

    @abstractmethod
    def attributes(self) -> Attributes: ...

    async def set_attributes(self, change: AttributeChange, /) -> None:
        self.receipt.change(change)

    def xattrs(self) -> Mapping[str, bytes]:
        return self.receipt.xattrs

    def set_xattr(self, name: str, value: bytes, /) -> None:
        self.receipt.set_xattr(name, value)

    def remove_xattr(self, name: str, /) -> None:
        self.receipt.remove_xattr(name)

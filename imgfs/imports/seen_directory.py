"""A directory below `import/` as one system call finds it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from imgfs.vfs.nodes import Attributes, Call, Node, ReadOnlyDirectory

if TYPE_CHECKING:
    from imgfs.imports.uploaded_directory import UploadedDirectory


class SeenDirectory(ReadOnlyDirectory):
    """The directory; what is looked up in it depends on the call."""

    def __init__(self, directory: "UploadedDirectory", call: Call) -> None:
        self.key = directory.key
        self._directory = directory
        self._call = call

    def attributes(self) -> Attributes:
        return self._directory.attributes()

    def may_block(self, name: str | None, /) -> bool:
        return self._directory.may_block(name)

    def lookup(self, name: str, /) -> Node | None:
        return self._directory.find(name, self._call)

    def children(self) -> Iterable[tuple[str, Node]]:
        return self._directory.children()

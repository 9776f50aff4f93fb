"""The images of a namespace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from engine.errors import NotFound, Unreachable
from engine.image import Image, Summary, TreeEntry
from engine.stores.containerd.location import KUBERNETES
from engine.stores.containerd.mirror import Remembered
from engine.stores.containerd.names import Names, own_names, untagged_name
from engine.stores.containerd.summaries import Summaries
from engine.stores.containerd.transactions import Transactions
from engine.stores.images import ImageStore

if TYPE_CHECKING:
    from engine.spec.descriptor import Descriptor
    from engine.stores.protocols import EventLog

_MANAGED = {"io.cri-containerd.image": "managed"}
"""The label by which Kubernetes knows the images that it shows."""


class _Look(msgspec.Struct, frozen=True):
    """The names when they were last looked at; `sent` is when, as `Transactions.sent`."""

    names: Names
    sent: int


class ContainerdImages(ImageStore):
    """The images whose names are references, and those without a name."""

    is_remote = True

    def __init__(
        self,
        namespace: str,
        names: Remembered[Names],
        summaries: Summaries,
        transactions: Transactions,
        events: EventLog,
    ) -> None:
        super().__init__(events)
        self._namespace = namespace
        self._remembered = names
        self._summaries = summaries
        self._transactions = transactions
        self._last_look: _Look | None = None
        self._counted: tuple[Names, Counter[str]] | None = None

    def _transaction(self) -> AbstractContextManager[object]:
        return self._transactions.begin()

    @property
    def _names(self) -> Names:
        """The names as the calling thread sees them, with the changes of its transaction."""
        pending, sent = self._transactions.pending, self._transactions.sent
        if pending and pending.names:
            return pending.names
        names = self._remembered.get()
        self._last_look = _Look(names, sent)
        return names

    # Names

    def find(self, name: str) -> Image | None:
        return self._names.find(name)

    def all(self, repository: str = "") -> list[Image]:
        listed = self._names.listed
        starts = (f"{repository}:", f"{repository}@")
        return [each for each in listed if not repository or each.name.startswith(starts)]

    def names_of(self, target: str) -> list[Image]:
        return self._names.of(target)

    def count(self) -> int:
        """Return how many images there are, or were when containerd last answered."""
        try:
            return len(self._names.listed)
        except Unreachable:
            latest = self._remembered.latest
            return len(latest.listed) if latest else 0

    def descriptor(self, target: str) -> Descriptor | None:
        """Return the descriptor of a target, None if no image has it."""
        image = self._names.target(target)
        return image.target if image else None

    # The tree of directories

    def places(self, prefix: str = "") -> Iterator[TreeEntry]:
        for path, image in self._names.below(prefix):
            yield self.place(image, path)

    def place_at(self, path: str) -> TreeEntry | None:
        image = self._names.at(path)
        return self.place(image, path) if image else None

    def has_paths(self, prefix: str) -> bool:
        return any(True for _ in self._names.below(prefix))

    # Targets

    def record(self, target: str, summary: Summary) -> None:
        self._summaries.put(target, summary)

    def summary(self, target: str) -> Summary:
        return self._summaries.get(target)

    def links(self, blobs: Iterable[str]) -> dict[str, int]:
        """As `ImageStore.links`; it learns of changes by others once names are looked at, so that
        the attributes of an open file can be asked for while containerd is away.
        """
        look, names = self._last_look, None
        if look and look.sent == self._transactions.sent and not self._transactions.pending:
            names = look.names
        uses = self._uses(names or self._names)
        return {blob: uses[blob] for blob in blobs}

    def _uses(self, names: Names) -> Counter[str]:
        """Return how often the listed images use each blob."""
        counted = self._counted
        if counted is not None and counted[0] is names:
            return counted[1]
        uses = Counter[str]()
        for target, count in Counter(image.target.digest for image in names.listed).items():
            with suppress(NotFound):  # it has been removed since
                uses.update(dict.fromkeys(self.summary(target).blobs, count))
        if self._transactions.pending is None:
            self._counted = names, uses
        return uses

    # Changes

    def create(self, image: Image) -> Image:
        return self._as_stored(super().create(image))

    def put(self, image: Image) -> Image:
        with self._keeping(image.name):
            image = super().put(image)
        return self._as_stored(image)

    def untag(self, name: str) -> Image:
        with self._keeping(name):
            return super().untag(name)

    @contextmanager
    def _keeping(self, name: str) -> Iterator[None]:
        """Keep all images that forms of a name stand for, untagged if they have no other name."""
        with self._transaction():
            before = self._names.forms(name)
            yield
            for image in before:
                if not image.is_untagged:
                    self._keep(image)

    def _as_stored(self, image: Image) -> Image:
        """Return an image with the times that containerd has given it."""
        return self.find(image.name) or image

    def delete(self, name: str) -> Image:
        """As `ImageStore.delete`; what is not listed only because of this name goes with it."""
        with self._transaction():
            for other in self._names.behind(name):
                self._remove(self._names.stored(other))
            return super().delete(name)

    def _write(self, image: Image) -> None:
        """Store an image by its full name, and by the other forms of it that are there."""
        name, stored = image.name, self._names.stored(image.name)
        if image.is_untagged:
            if stored:
                return
            name = untagged_name(name, self._namespace)
        labels = dict(image.labels) | (_MANAGED if self._namespace == KUBERNETES else {})
        with self._transactions.begin() as pending:
            for form in sorted({name, *stored}):
                pending.put(form, replace(image, name=form, labels=labels), self._names)

    def _erase(self, name: str) -> None:
        """Remove all forms of a full name. Of the untagged names of an image that has others, only
        those go that we made, as Kubernetes needs its own.
        """
        stored = self._names.stored(name)
        if self._names.find(name) is None:
            stored = tuple(own_names(name).intersection(stored))
        self._remove(stored)

    def _remove(self, stored: Iterable[str]) -> None:
        with self._transactions.begin() as pending:
            for name in stored:
                pending.put(name, None, self._names)

    def _erase_record(self, target: str) -> None:
        self._summaries.drop(target)

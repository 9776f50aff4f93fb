"""The graphs below the entries of an index, kept while the blobs of an archive arrive."""

import msgspec

from engine import graph
from engine.archive.archive_image import check_image
from engine.archive.members import Members
from engine.errors import ContentMismatch, EngineError
from engine.graph import Graph
from engine.spec import oci, platforms
from engine.spec.digest import Digest
from engine.spec.oci import Descriptor

Key = tuple[str, str, int, bool]


def key_of(target: Descriptor) -> Key:
    """Return the properties of a descriptor on which the graph below it depends."""
    return target.digest, target.media_type, target.size, oci.is_attestation(target)


class Arrival(msgspec.Struct, frozen=True):
    """The change by a blob: the graphs that lacked it, and those of them in which an image or an
    artifact has become complete.

    `is_certain` is False if there may be more: no graph is known to have lacked the blob, or one
    can no longer be read.
    """

    changed: tuple[Key, ...] = ()
    completed: tuple[Key, ...] = ()
    is_certain: bool = True


class ArchiveGraphs:
    """The graphs of one archive on the platforms that match; a graph is walked again only when a
    blob that it lacked has arrived.
    """

    def __init__(self, members: Members, matcher: platforms.Matcher = platforms.ALL) -> None:
        self._members = members
        self._matcher = matcher
        self._graphs: dict[Key, Graph] = {}
        self._checked: set[str] = set()
        self._lacking: dict[str, dict[Key, None]] = {}
        """The keys of the graphs that lack a blob, by its digest."""
        self._changes: set[str] = set()

    def graph(self, target: Descriptor) -> Graph:
        """Return the graph below a target; raise the errors of `graph.graph`."""
        key = key_of(target)
        found = self._graphs.get(key)
        if found is None:
            found = self._graphs[key] = self._walked(target, self._matcher)
            for missing in found.missing:
                self._lacking.setdefault(missing.digest, {})[key] = None
                self._changes.add(missing.digest)
        return found

    def whole(self, target: Descriptor) -> Graph:
        """Return the graph below a target for all platforms."""
        if self._matcher is platforms.ALL:
            return self.graph(target)
        return self._walked(target, platforms.ALL)

    def usable(self, target: Descriptor, subject: str) -> Graph | EngineError:
        """Return the graph below a target if it is usable and its complete images are valid, or
        the error for what it lacks.

        Raise ContentMismatch or InvalidDocument for content that is present and wrong; `subject`
        names the document that needs the target.
        """
        found = self.graph(target)
        error = self.absence(found, subject)
        if isinstance(error, ContentMismatch):
            raise error
        if error:
            return error
        for image in found.complete_images:
            if image.descriptor.digest not in self._checked:
                check_image(self._members, image)
                self._checked.add(image.descriptor.digest)
        return found

    def arrived(self, digest: Digest) -> Arrival:
        """Walk the graphs again that lacked a blob; return what has changed."""
        changed = tuple(self._lacking.get(digest, ()))
        completed = []
        for key in changed:
            before = self._forget(key)
            try:
                after = self.graph(before.root)
            except EngineError:  # reading the archive raises it
                return Arrival(is_certain=False)
            if _complete(after) > _complete(before) or not after.missing:
                completed.append(key)
        return Arrival(changed, tuple(completed), bool(changed))

    @property
    def missing(self) -> tuple[str, ...]:
        """The digests of the blobs that the graphs lack. Any thread may ask for them."""
        return tuple(self._lacking.copy())

    def lacks(self, digest: str) -> bool:
        """Return whether a graph lacks a blob."""
        return digest in self._lacking

    def take_changes(self) -> set[str]:
        """Return the digests for which the answer of `lacks` may have changed since the last
        call.
        """
        taken, self._changes = self._changes, set()
        return taken

    def forget(self) -> None:
        """Walk every graph again: blobs have been removed. What was read of them is dropped."""
        for key in list(self._graphs):
            self._forget(key)
        self._members.forget_documents()

    def _forget(self, key: Key) -> Graph:
        found = self._graphs.pop(key)
        for missing in found.missing:
            others = self._lacking[missing.digest]
            del others[key]
            if not others:
                del self._lacking[missing.digest]
            self._changes.add(missing.digest)
        return found

    def _walked(self, target: Descriptor, matcher: platforms.Matcher) -> Graph:
        return graph.graph(self._members, target, matcher, self._members.documents)

    def absence(self, found: Graph, subject: str) -> EngineError | None:
        """Return the error for the absent content of a graph, or None if it is usable without
        it.
        """
        target = found.root.digest
        if not any(blob.digest == target for blob in found.blobs):
            return self._members.absence(target, subject)
        gaps = [missing.digest for missing in found.missing]
        if found.is_usable or not gaps:
            return None
        return self._members.absence(gaps[0], target, gaps[1:])


def _complete(found: Graph) -> int:
    return len(found.complete_images) + len(found.artifacts)

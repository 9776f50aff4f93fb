"""The graphs below the entries of an index, kept while the blobs of an archive arrive."""

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


class ArchiveGraphs:
    """The graphs of one archive on the platforms that match; a graph is walked again only when a
    blob that it lacked has arrived.
    """

    def __init__(self, members: Members, matcher: platforms.Matcher = platforms.ALL) -> None:
        self._members = members
        self._matcher = matcher
        self._graphs: dict[Key, Graph] = {}
        self._checked: set[str] = set()

    def graph(self, target: Descriptor) -> Graph:
        """Return the graph below a target; raise the errors of `graph.graph`."""
        key = key_of(target)
        if key not in self._graphs:
            self._graphs[key] = graph.graph(self._members, target, self._matcher)
        return self._graphs[key]

    def whole(self, target: Descriptor) -> Graph:
        """Return the graph below a target for all platforms."""
        if self._matcher is platforms.ALL:
            return self.graph(target)
        return graph.graph(self._members, target)

    def usable(self, target: Descriptor, subject: str) -> Graph | EngineError:
        """Return the graph below a target if it is usable and its complete images are valid, or
        the error for what it lacks.

        Raise ContentMismatch or InvalidDocument for content that is present and wrong; `subject`
        names the document that needs the target.
        """
        found = self.graph(target)
        error = self._absence(found, subject)
        if isinstance(error, ContentMismatch):
            raise error
        if error:
            return error
        for image in found.complete_images:
            if image.descriptor.digest not in self._checked:
                check_image(self._members, image)
                self._checked.add(image.descriptor.digest)
        return found

    def arrived(self, digest: Digest) -> bool:
        """Walk the graphs again that lacked a blob; return whether an image or an artifact of them
        has become complete, or can no longer be read. Return True also if no graph is known to have
        lacked it, as after `forget`.
        """
        lacking = [
            (key, found)
            for key, found in self._graphs.items()
            if any(missing.digest == digest for missing in found.missing)
        ]
        is_progress = not lacking
        for key, before in lacking:
            del self._graphs[key]
            try:
                after = self.graph(before.root)
            except EngineError:
                return True  # reading the archive raises it
            is_progress |= _complete(after) > _complete(before) or not after.missing
        return is_progress

    @property
    def missing(self) -> tuple[str, ...]:
        """The digests of the blobs that the graphs lack."""
        lacking = (missing.digest for found in self._graphs.values() for missing in found.missing)
        return tuple(dict.fromkeys(lacking))

    def forget(self) -> None:
        """Walk every graph again: blobs have been removed."""
        self._graphs.clear()

    def _absence(self, found: Graph, subject: str) -> EngineError | None:
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

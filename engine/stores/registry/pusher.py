"""Names to the registry: the blobs of an image, then its manifests, then the tag."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial

from engine import graph
from engine.content.blobs import read_blob
from engine.errors import EngineError, NotFound, Unreachable, printable
from engine.image import Image
from engine.spec import oci
from engine.spec.descriptor import Descriptor
from engine.stores.local.images import LocalImages
from engine.stores.referrers import referrer
from engine.stores.registry.api import Manifest
from engine.stores.registry.content import RegistryContent
from engine.stores.registry.deletion import Deletion
from engine.stores.registry.location import Location
from engine.stores.registry.puller import Puller
from engine.stores.registry.referrers import Referrers
from engine.stores.registry.sources import Source, Sources
from engine.stores.registry.uploads import Uploads

log = logging.getLogger(__name__)


class Pusher:
    """Sends what transactions have changed. Safe from any thread."""

    def __init__(
        self,
        uploads: Uploads,
        deletion: Deletion,
        location: Location,
        content: RegistryContent,
        sources: Sources,
        known: LocalImages,
        puller: Puller,
        referrers: Referrers,
    ) -> None:
        self._uploads = uploads
        self._deletion = deletion
        self._location = location
        self._content = content
        self._sources = sources
        self._known = known
        self._puller = puller
        self._referrers = referrers

    def send(self, changes: Mapping[str, Image | None]) -> None:
        """Send all blobs and manifests first, then point tags at them, then remove tags.

        Raise the first error, once the tags that were changed are as they were before, but for
        those that somebody else has changed since, or had changed without being noticed here. A tag
        that was new stays if the registry deletes nothing, and a manifest without a tag stays
        anyway.
        """
        images = {name: image for name, image in changes.items() if image is not None}
        before = {name: self._known.find(name) for name in changes}
        removed = {name: image for name, image in before.items() if image and name not in images}
        if images:
            for repository in {self._location.repository(name) for name in removed}:
                self._deletion.check(repository)
        for name, image in images.items():
            self._upload(self._location.repository(name), image.target)
        with self._undoing() as changed:
            for name in sorted(images, key=lambda name: ("@" in name, name)):
                image, old = images[name], before[name]
                manifest = self._manifest(image.target)
                is_same = old is not None and old.target.digest == image.target.digest
                if "@" not in name and not is_same and self._stands_for(name, old):
                    changed[name] = partial(self._put_back, name, image, old)
                is_listed = self._point(name, manifest)
                found = referrer(manifest.descriptor, manifest.data)
                if found is not None and not is_listed:
                    self._referrers.announce(self._location.repository(name), found)
            for name, image in sorted(removed.items()):
                if "@" in name or self._stands_for(name, image):
                    changed[name] = partial(self._put_back, name, None, image)
                with suppress(NotFound):  # somebody else was faster
                    self._remove(name, image)

    def _point(self, name: str, manifest: Manifest) -> bool:
        """Store a manifest under the tag or digest of a name; return as `Uploads.manifest`."""
        repository, reference = self._location.repository(name), self._location.reference(name)
        return self._uploads.manifest(repository, reference, manifest)

    def _remove(self, name: str, image: Image) -> None:
        """Remove the tag of a name, or the manifest of one by digest; raise NotFound."""
        repository, reference = self._location.repository(name), self._location.reference(name)
        if "@" in name:
            self._deletion.manifest(repository, reference)
        else:
            self._deletion.tag(repository, reference, self._manifest(image.target))

    @contextmanager
    def _undoing(self) -> Iterator[dict[str, Callable[[], None]]]:
        """Collect what puts names back, each before its change, whose answer may be lost; after an
        error do it, the last first, until the registry does not answer.
        """
        changed: dict[str, Callable[[], None]] = {}
        try:
            yield changed
        except BaseException:
            away: Unreachable | None = None
            for name, put_back in reversed(changed.items()):
                try:
                    if away is not None:
                        raise away
                    put_back()
                except (EngineError, OSError) as error:  # the caller has the first
                    log.warning("%s is not put back: %s", printable(name), error)
                    away = error if isinstance(error, Unreachable) else None
            raise

    def _put_back(self, name: str, new: Image | None, old: Image | None) -> None:
        """Give a name back what it stood for, unless it is not as it was made here any more."""
        if not self._stands_for(name, new):
            return
        if old is not None:
            self._point(name, self._manifest(old.target))
        elif new is not None:
            with suppress(NotFound):
                self._remove(name, new)

    def _stands_for(self, name: str, image: Image | None) -> bool:
        """Return whether the registry has this image by a name, or nothing if it is None."""
        repository, reference = self._location.repository(name), self._location.reference(name)
        return self._deletion.target(repository, reference) == (image and image.target.digest)

    def _upload(self, repository: str, root: Descriptor) -> None:
        """Give a repository everything below a descriptor, but for the root itself."""
        found = graph.graph(self._content, root)
        manifests = [blob for blob in found.blobs if oci.is_document_type(blob.media_type)]
        others = [blob for blob in found.blobs if not oci.is_document_type(blob.media_type)]
        self._puller.at_once([partial(self._blob, repository, blob) for blob in others])
        for blob in reversed(manifests):
            if blob.digest != root.digest:
                self._uploads.manifest(repository, blob.digest, self._manifest(blob))
        full = f"{self._location.host}/{repository}"
        self._sources.add(
            Source(blob.digest, full, blob.size, oci.is_document_type(blob.media_type))
            for blob in found.blobs
        )

    def _blob(self, repository: str, blob: Descriptor) -> None:
        full = f"{self._location.host}/{repository}"
        sources = (source.repository for source in self._sources.find(blob.digest))
        other = next((source for source in sources if source != full), "")
        source = self._location.repository(f"{other}:x") if other else ""
        opened = partial(self._content.open, blob.digest)
        self._uploads.blob(repository, blob.digest, source, opened)

    def _manifest(self, target: Descriptor) -> Manifest:
        data = read_blob(self._content, target.digest, target.size)
        return Manifest(target, data)

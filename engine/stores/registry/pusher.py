"""Names to the registry: the blobs of an image, then its manifests, then the tag."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

from engine import graph
from engine.content.blobs import read_blob
from engine.errors import NotFound
from engine.image import Image
from engine.spec import oci
from engine.spec.descriptor import Descriptor
from engine.stores.local.images import LocalImages
from engine.stores.referrers import referrer
from engine.stores.registry.api import Manifest
from engine.stores.registry.content import RegistryContent
from engine.stores.registry.location import Location
from engine.stores.registry.puller import Puller
from engine.stores.registry.referrers import Referrers
from engine.stores.registry.sources import Source, Sources
from engine.stores.registry.uploads import Uploads


class Pusher:
    """Sends what transactions have changed. Safe from any thread."""

    def __init__(
        self,
        uploads: Uploads,
        location: Location,
        content: RegistryContent,
        sources: Sources,
        known: LocalImages,
        puller: Puller,
        referrers: Referrers,
        on_change: Callable[[str, Image | None], None],
    ) -> None:
        """`on_change` is called for each name once the registry has it, or has it no more."""
        self._uploads = uploads
        self._location = location
        self._content = content
        self._sources = sources
        self._known = known
        self._puller = puller
        self._referrers = referrers
        self._on_change = on_change

    def send(self, changes: Mapping[str, Image | None]) -> None:
        """Send all blobs and manifests first, then point tags at them, then remove tags.

        Raise the first error; names that come after it are left as they were.
        """
        images = {name: image for name, image in changes.items() if image is not None}
        for name, image in images.items():
            self._upload(self._location.repository(name), image.target)
        for name, image in images.items():
            repository = self._location.repository(name)
            manifest = self._manifest(image.target)
            reference = self._location.reference(name)
            is_listed = self._uploads.manifest(repository, reference, manifest)
            found = referrer(manifest.descriptor, manifest.data)
            if found is not None and not is_listed:
                self._referrers.announce(repository, found)
            self._on_change(name, image)
        for name in changes.keys() - images.keys():
            self._remove(name)

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

    def _remove(self, name: str) -> None:
        known = self._known.find(name)
        if known is not None:
            repository, tag = self._location.repository(name), self._location.reference(name)
            with suppress(NotFound):  # somebody else was faster
                self._uploads.delete_tag(repository, tag, self._manifest(known.target))
        self._on_change(name, None)

    def _manifest(self, target: Descriptor) -> Manifest:
        data = read_blob(self._content, target.digest, target.size)
        return Manifest(target, data)

"""The deletions of a registry: whether it deletes at all, tags, and manifests without a tag."""

from __future__ import annotations

import secrets
from contextlib import suppress
from functools import partial
from typing import Final

from engine.content.memory import MemoryReader
from engine.errors import NotFound, StoreError, Unsupported
from engine.spec import oci
from engine.spec.descriptor import Descriptor
from engine.spec.digest import of_bytes
from engine.spec.oci import Manifest as ManifestDocument
from engine.stores.registry.api import Manifest, Reading
from engine.stores.registry.client import Refused
from engine.stores.registry.puller import Puller
from engine.stores.registry.uploads import Uploads

_NO_DELETION: Final = frozenset({400, 405, 501})


class Deletion:
    """The deletions of one registry. Safe from any thread."""

    def __init__(self, reading: Reading, puller: Puller, uploads: Uploads) -> None:
        self._reading = reading
        self._puller = puller
        self._uploads = uploads
        self._unknown_tag = f"imgfs-{secrets.token_hex(16)}"
        self._unknown_digest = of_bytes(self._unknown_tag.encode())
        self._known: dict[tuple[str, str], bool] = {}
        """The answers of the registry, by repository and unknown reference."""

    def check(self, repository: str) -> None:
        """Raise Unsupported if the registry deletes neither tags nor manifests. Raise
        AccessDenied.
        """
        if not self._deletes(repository, self._unknown_tag):
            self._check_manifests(repository)

    def tag(self, repository: str, tag: str, image: Manifest) -> None:
        """Remove a tag that stands for `image`, which stays under its other tags.

        A registry that deletes manifests only gets another one for the tag first, which is then
        deleted. Raise NotFound, and Unsupported if the registry deletes nothing.
        """
        with suppress(Unsupported):
            self._delete(repository, tag)
            return
        self._check_manifests(repository)
        substitute = self._substitute(repository, tag)
        try:
            self._uploads.manifest(repository, tag, substitute)
            self._delete(repository, substitute.descriptor.digest)
        except StoreError:
            if self.target(repository, tag) == substitute.descriptor.digest:
                self._uploads.manifest(repository, tag, image)
            raise

    def manifest(self, repository: str, digest: str) -> None:
        """Remove a manifest by its digest.

        Raise Unsupported if a tag stands for it, which most registries would remove too, or if the
        registry deletes nothing.
        """
        found: list[str] = []
        self._puller.at_once(
            [partial(self._look, repository, tag, digest, found) for tag in self._tags(repository)]
        )
        if found:
            reason = f"{repository}@{digest} cannot be removed while it has the tag {min(found)}"
            raise Unsupported(self._reading.client.location.url, reason)
        self._delete(repository, digest)

    def target(self, repository: str, tag: str) -> str | None:
        """Return the digest of what a tag stands for; None if there is no such tag."""
        try:
            digest = self._reading.head(repository, tag)
            return digest or self._reading.manifest(repository, tag).descriptor.digest
        except NotFound:
            return None

    def _tags(self, repository: str) -> list[str]:
        try:
            return list(self._reading.tags(repository))
        except NotFound:
            return []

    def _look(self, repository: str, tag: str, digest: str, found: list[str]) -> None:
        """Add a tag to those that stand for a digest, if it does."""
        if self.target(repository, tag) == digest:
            found.append(tag)

    def _substitute(self, repository: str, tag: str) -> Manifest:
        """Return a manifest like no other, and store its config."""
        config = b"{}"
        digest = of_bytes(config)
        self._uploads.blob(repository, digest, "", lambda: MemoryReader(config))
        document = ManifestDocument(
            schema_version=2,
            media_type=oci.MANIFEST,
            config=Descriptor(oci.CONFIG, digest, len(config)),
            layers=(),
            annotations={"imgfs.deleted-tag": tag},
        )
        data = oci.render(document)
        return Manifest(Descriptor(oci.MANIFEST, of_bytes(data), len(data)), data)

    def _check_manifests(self, repository: str) -> None:
        if not self._deletes(repository, self._unknown_digest):
            raise self._unsupported()

    def _deletes(self, repository: str, unknown: str) -> bool:
        """Return whether the registry deletes tags, or manifests; ask it once, by the deletion of
        `unknown`, which nobody has.
        """
        key = repository, unknown
        if key not in self._known:
            try:
                with suppress(NotFound):
                    self._delete(repository, unknown)
                self._known[key] = True
            except Unsupported:
                self._known[key] = False
        return self._known[key]

    def _unsupported(self) -> Unsupported:
        return Unsupported(self._reading.client.location.url, "does not allow images to be deleted")

    def _delete(self, repository: str, reference: str) -> None:
        path = f"/v2/{repository}/manifests/{reference}"
        scopes = (f"repository:{repository}:pull,push,delete",)
        try:
            self._reading.client.request("DELETE", path, scopes)
        except Refused as error:
            if error.status in _NO_DELETION:
                raise self._unsupported() from None
            raise

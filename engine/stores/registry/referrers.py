"""Referrers in a registry: by its API, or by the tag `ALGORITHM-ENCODED` of registries without it.

The OCI distribution specification 1.1 defines both. Such a tag stands for an index, which clients
keep up to date.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

from engine.errors import AccessDenied, NotFound
from engine.spec import oci
from engine.spec.descriptor import Descriptor
from engine.spec.digest import of_bytes
from engine.stores.referrers import Referrer, reached, referrer
from engine.stores.registry.api import Manifest, Reading
from engine.stores.registry.client import Refused
from engine.stores.registry.puller import Puller
from engine.stores.registry.uploads import Uploads

_MOST: Final = 10_000
"""Referrers of one image that are fetched; a registry may list any number."""


def referrers_tag(subject: str) -> str:
    """Return the tag of the index of what refers to a digest."""
    algorithm, _, encoded = subject.partition(":")
    return f"{algorithm:.32}-{encoded:.64}"


class Referrers:
    """The referrers in one registry. Safe from any thread."""

    def __init__(self, reading: Reading, uploads: Uploads, puller: Puller) -> None:
        self._reading = reading
        self._uploads = uploads
        self._puller = puller

    def pull(self, repositories: Iterable[str], subjects: Iterable[str]) -> list[Referrer]:
        """Fetch the manifests of what refers to digests in any of the repositories, directly or
        through another; return them, each behind its subject.

        Leave out a repository that is denied. Raise AccessDenied if all are, and Unreachable.
        """
        start = list(subjects)
        found: dict[str, Referrer] = {}
        denials: list[AccessDenied] = []
        places = list(repositories)
        for repository in places:
            try:
                found |= self._pull(repository, start)
            except AccessDenied as error:
                denials.append(error)
        if denials and len(denials) == len(places):
            raise denials[0]
        return reached(start, found.values())

    def announce(self, repository: str, found: Referrer) -> None:
        """Add a referrer to the index of its subject, for a registry that does not by itself."""
        tag = referrers_tag(found.subject)
        listed = self._tagged(repository, tag)
        if found.descriptor.digest in (each.digest for each in listed):
            return
        index = oci.Index(
            schema_version=2, media_type=oci.INDEX, manifests=(*listed, found.descriptor)
        )
        data = oci.render(index)
        manifest = Manifest(Descriptor(oci.INDEX, of_bytes(data), len(data)), data)
        self._uploads.manifest(repository, tag, manifest)

    def _pull(self, repository: str, subjects: Sequence[str]) -> dict[str, Referrer]:
        """Return what a repository has, by digest."""
        found: dict[str, Referrer] = {}
        asked: dict[str, list[Descriptor]] = {}
        fetched: set[str] = set()
        new = subjects
        while new and len(fetched) < _MOST:
            self._puller.at_once([partial(self._ask, repository, each, asked) for each in new])
            listed = {each.digest: each for subject in new for each in asked[subject]}
            unknown = [each for digest, each in listed.items() if digest not in fetched]
            wanted = unknown[: _MOST - len(fetched)]
            fetched.update(each.digest for each in wanted)
            self._puller.at_once([partial(self._fetch, repository, each, found) for each in wanted])
            new = [each.digest for each in wanted if each.digest in found]
        return found

    def _ask(self, repository: str, subject: str, asked: dict[str, list[Descriptor]]) -> None:
        try:
            asked[subject] = self._reading.referrers(repository, subject)
        except (NotFound, Refused, AccessDenied):
            asked[subject] = self._tagged(repository, referrers_tag(subject))

    def _tagged(self, repository: str, tag: str) -> list[Descriptor]:
        try:
            data = self._reading.manifest(repository, tag).data
        except NotFound:
            return []
        return list(oci.parse_index(data, f"index {tag}").manifests)

    def _fetch(self, repository: str, listed: Descriptor, found: dict[str, Referrer]) -> None:
        """Fetch a manifest, and what is below it but for layers; one that is absent is left out."""
        try:
            manifest = self._reading.manifest(repository, listed.digest)
        except NotFound:
            return
        its_referrer = referrer(manifest.descriptor, manifest.data)
        if its_referrer is not None:
            self._puller.learn(repository, manifest)
            self._puller.record(manifest.descriptor)
            found[listed.digest] = its_referrer

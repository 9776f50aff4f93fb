"""The union of two layouts: the images of both, each blob once.

A name in both belongs to the image of the newer layout; the other image stays without that name.
"""

from collections.abc import Collection, Iterable, Sequence

import msgspec

from engine.layouts.entry import Entry
from engine.spec import docker, oci
from engine.spec.oci import Descriptor, Index

INDEX, MANIFEST = "index.json", docker.MANIFEST_FILE


def union(old: Sequence[Entry], new: Sequence[Entry]) -> tuple[Entry, ...]:
    """Return the entries of both, sorted by path; raise InvalidDocument for an invalid document."""
    entries = {entry.path: entry for entry in (*old, *new)}
    merged = {
        INDEX: oci.render(_index(_manifests(old), _manifests(new))),
        MANIFEST: docker.render_manifest_json(_items(_described(old), _described(new))),
    }
    for path, data in merged.items():
        if path in entries:
            entries[path] = msgspec.structs.replace(entries[path], content=data, size=len(data))
    return tuple(entries[path] for path in sorted(entries))


def _index(old: Iterable[Descriptor], new: Sequence[Descriptor]) -> Index:
    taken = {_name(entry) for entry in new}
    entries = [_unnamed(e) if _name(e) in taken else e for e in old]
    named = {e.digest for e in (*entries, *new) if _name(e)}
    kept = {(e.digest, _name(e)): e for e in (*entries, *new) if _name(e) or e.digest not in named}
    return Index(schema_version=2, media_type=oci.INDEX, manifests=tuple(kept.values()))


def _name(entry: Descriptor) -> str:
    return entry.annotations.get(oci.IMAGE_NAME) or entry.annotations.get(oci.REF_NAME, "")


def _unnamed(entry: Descriptor) -> Descriptor:
    names = (oci.IMAGE_NAME, oci.REF_NAME)
    kept = {key: value for key, value in entry.annotations.items() if key not in names}
    return msgspec.structs.replace(entry, annotations=kept)


def _items(
    old: Iterable[docker.ManifestItem], new: Sequence[docker.ManifestItem]
) -> list[docker.ManifestItem]:
    taken = {tag for item in new for tag in item.repo_tags or ()}
    merged: dict[str, docker.ManifestItem] = {}
    for item in [_without(item, taken) for item in old] + list(new):
        before = merged.get(item.config)
        tags = (*((before.repo_tags if before else None) or ()), *(item.repo_tags or ()))
        unique = tuple(dict.fromkeys(tags)) or None
        merged[item.config] = msgspec.structs.replace(item, repo_tags=unique)
    return list(merged.values())


def _without(item: docker.ManifestItem, taken: Collection[str]) -> docker.ManifestItem:
    tags = tuple(tag for tag in item.repo_tags or () if tag not in taken)
    return msgspec.structs.replace(item, repo_tags=tags or None)


def _manifests(entries: Iterable[Entry]) -> tuple[Descriptor, ...]:
    data = _document(entries, INDEX)
    return oci.parse_index(data, INDEX).manifests if data else ()


def _described(entries: Iterable[Entry]) -> list[docker.ManifestItem]:
    data = _document(entries, MANIFEST)
    return docker.parse_manifest_json(data) if data else []


def _document(entries: Iterable[Entry], path: str) -> bytes:
    found = (e.content for e in entries if e.path == path)
    return next((data for data in found if isinstance(data, bytes)), b"")

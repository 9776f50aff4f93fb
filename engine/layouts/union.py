"""The union of two layouts: the images of both, each blob once.

A name in both belongs to the image of the newer layout; the other image stays without that name.
An older entry that has only a tag loses it to a newer image with that tag. `repositories`, which
clients before docker 1.10 read, names the images of both, and is left out if the newer layout has
none.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from engine.layouts.entry import Entry
from engine.spec import docker, go_json, oci
from engine.spec.oci import Descriptor, Index

INDEX, MANIFEST, REPOSITORIES = "index.json", docker.MANIFEST_FILE, docker.REPOSITORIES_FILE


def union(old: Sequence[Entry], new: Sequence[Entry]) -> tuple[Entry, ...]:
    """Return the entries of both, sorted by path; raise InvalidDocument for an invalid document."""
    entries = {entry.path: entry for entry in (*old, *new)}
    if _document(new, REPOSITORIES) is None:
        entries.pop(REPOSITORIES, None)
    merged = {
        INDEX: oci.render(_merged_index(_index(old), _index(new))),
        MANIFEST: docker.render_manifest_json(_items(_described(old), _described(new))),
        REPOSITORIES: go_json.dumps(_repositories(old, new)),
    }
    for path, document in merged.items():
        if path in entries and _document(old, path) is not None:
            data = document + _final_newline(entries[path])
            entries[path] = msgspec.structs.replace(entries[path], content=data, size=len(data))
    return tuple(entries[path] for path in sorted(entries))


def _final_newline(document: Entry) -> bytes:
    """Return what the document ends with: docker save writes a newline, containerd does not."""
    is_docker = isinstance(document.content, bytes) and document.content.endswith(b"\n")
    return b"\n" if is_docker else b""


def _merged_index(old: Index, new: Index) -> Index:
    holders = {_ref_name(e): "" for e in new.manifests} | {
        _name(e): e.digest for e in new.manifests
    }
    entries = [
        _unnamed(e) if holders.get(_name(e), e.digest) != e.digest else e for e in old.manifests
    ]
    both = (*entries, *new.manifests)
    named = {e.digest for e in both if _name(e)}
    kept = {(e.digest, _name(e)): e for e in both if _name(e) or e.digest not in named}
    return msgspec.structs.replace(old, media_type=oci.INDEX, manifests=tuple(kept.values()))


def _ref_name(entry: Descriptor) -> str:
    return entry.annotations.get(oci.REF_NAME, "")


def _name(entry: Descriptor) -> str:
    return entry.annotations.get(oci.IMAGE_NAME) or _ref_name(entry)


def _unnamed(entry: Descriptor) -> Descriptor:
    names = (oci.IMAGE_NAME, oci.REF_NAME)
    kept = {key: value for key, value in entry.annotations.items() if key not in names}
    return msgspec.structs.replace(entry, annotations=kept)


def _items(
    old: Iterable[docker.ManifestItem], new: Sequence[docker.ManifestItem]
) -> list[docker.ManifestItem]:
    holders = {tag: item.config for item in new for tag in item.repo_tags or ()}
    merged: dict[str, docker.ManifestItem] = {}
    for item in [_without_lost(item, holders) for item in old] + list(new):
        before = merged.get(item.config)
        tags = (*((before.repo_tags if before else None) or ()), *(item.repo_tags or ()))
        unique = tuple(dict.fromkeys(tags)) or None
        merged[item.config] = msgspec.structs.replace(item, repo_tags=unique)
    return list(merged.values())


def _without_lost(item: docker.ManifestItem, holders: Mapping[str, str]) -> docker.ManifestItem:
    tags = (t for t in item.repo_tags or () if holders.get(t, item.config) == item.config)
    return msgspec.structs.replace(item, repo_tags=tuple(tags) or None)


def _repositories(old: Iterable[Entry], new: Iterable[Entry]) -> dict[str, dict[str, str]]:
    merged: dict[str, dict[str, str]] = {}
    for data in (_document(old, REPOSITORIES), _document(new, REPOSITORIES)):
        for name, tags in (docker.parse_repositories(data) if data is not None else {}).items():
            merged[name] = dict(sorted((merged.get(name, {}) | tags).items()))
    return dict(sorted(merged.items()))


def _index(entries: Iterable[Entry]) -> Index:
    data = _document(entries, INDEX)
    if data is None:
        return Index(schema_version=2, media_type=oci.INDEX, manifests=())
    return oci.parse_index(data, INDEX)


def _described(entries: Iterable[Entry]) -> list[docker.ManifestItem]:
    data = _document(entries, MANIFEST)
    return [] if data is None else docker.parse_manifest_json(data)


def _document(entries: Iterable[Entry], path: str) -> bytes | None:
    found = (e.content for e in entries if e.path == path)
    return next((data for data in found if isinstance(data, bytes)), None)

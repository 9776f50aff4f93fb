"""The union of two layouts: the images of both, each blob once.

A name in both belongs to the image of the newer layout; the other image stays without that name.
An older entry that has only a tag loses it to a newer image with that tag. `repositories`, which
clients before docker 1.10 read, names the images of both, and is left out if the newer layout has
none. What no rule is about stays as it is: `oci-layout`, and members of documents, known or not.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from json import JSONDecoder
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from engine.errors import InvalidDocument
from engine.layouts.entry import Entry
from engine.spec import docker, go_json, oci
from engine.spec.docker import ManifestItem
from engine.spec.oci import Descriptor, Index

LAYOUT, INDEX = oci.LAYOUT_FILE, oci.INDEX_FILE
MANIFEST, REPOSITORIES = docker.MANIFEST_FILE, docker.REPOSITORIES_FILE
_DECODER: Final = JSONDecoder()
_SPACE: Final = " \t\n\r"

_Members = Mapping[str, Any]
"""The members of a JSON object in their order, those that stay as they are as Raw."""


def union(old: Sequence[Entry], new: Sequence[Entry]) -> tuple[Entry, ...]:
    """Return the entries of both, sorted by path.

    Of the older documents, `manifest.json` and `repositories` count as absent if they cannot be
    read, as for a load. Raise InvalidDocument for an invalid `index.json`.
    """
    kept = (entry for entry in old if entry.path == LAYOUT)
    entries = {entry.path: entry for entry in (*old, *new, *kept)}
    if _document(new, REPOSITORIES) is None:
        entries.pop(REPOSITORIES, None)
    for path, merged in _MERGED.items():
        before, after = _document(old, path), _document(new, path)
        if before is not None and after is not None:
            data = merged(before, after) + (b"\n" if after.endswith(b"\n") else b"")
            entries[path] = replace(entries[path], content=data, size=len(data))
    return tuple(entries[path] for path in sorted(entries))


def _document(entries: Iterable[Entry], path: str) -> bytes | None:
    found = (e.content for e in entries if e.path == path)
    return next((data for data in found if isinstance(data, bytes)), None)


# --- index.json ---


class _Listed(msgspec.Struct, frozen=True):
    """An entry of an index, and all that the index says of it."""

    target: Descriptor
    members: _Members

    @property
    def ref_name(self) -> str:
        return self.target.annotations.get(oci.REF_NAME, "")

    @property
    def name(self) -> str:
        return self.target.annotations.get(oci.IMAGE_NAME) or self.ref_name

    @property
    def unnamed(self) -> "_Listed":
        names = (oci.IMAGE_NAME, oci.REF_NAME)
        found = go_json.members(bytes(self.members["annotations"]), INDEX)
        kept = {key: value for key, value in found.items() if key not in names}
        members = {**self.members, "annotations": _object(kept)}
        if not kept:
            del members["annotations"]
        annotations = {k: v for k, v in self.target.annotations.items() if k not in names}
        return _Listed(replace(self.target, annotations=annotations), members)


def _merged_index(old: bytes, new: bytes) -> bytes:
    added = _listed(new)
    holders = {e.ref_name: "" for e in added} | {e.name: e.target.digest for e in added}
    entries = [
        e.unnamed if e.name and holders.get(e.name, e.target.digest) != e.target.digest else e
        for e in _listed(old)
    ]
    both = (*entries, *added)
    named = {e.target.digest for e in both if e.name}
    kept: dict[tuple[str, str], _Listed] = {}
    for entry in both:
        if entry.name or entry.target.digest not in named:
            key = entry.target.digest, entry.name
            before = kept[key].members if key in kept else {}
            kept[key] = replace(entry, members=_renewed(before, entry.members, Descriptor))
    changed = {"mediaType": oci.INDEX, "manifests": [_object(e.members) for e in kept.values()]}
    return bytes(_object({**go_json.members_of(old, Index, INDEX), **changed}))


def _listed(index: bytes) -> list[_Listed]:
    targets = oci.parse_index(index, INDEX).manifests
    listed = go_json.members_of(index, Index, INDEX).get("manifests")
    raws = _elements(bytes(listed)) if targets and listed is not None else ()
    return [
        _Listed(target, go_json.members_of(raw, Descriptor, INDEX))
        for target, raw in zip(targets, raws, strict=True)
    ]


# --- manifest.json ---


class _Described(msgspec.Struct, frozen=True):
    """An item of `manifest.json`, and all that the document says in it."""

    item: ManifestItem
    members: _Members

    @property
    def tags(self) -> tuple[str, ...]:
        return self.item.repo_tags or ()

    def with_tags(self, tags: Iterable[str]) -> "_Described":
        found = tuple(dict.fromkeys(tags)) or None
        members = {**self.members, "RepoTags": found}
        return _Described(replace(self.item, repo_tags=found), members)


def _merged_manifest(old: bytes, new: bytes) -> bytes:
    added = _described(new)
    holders = {tag: one.item.config for one in added for tag in one.tags}
    merged: dict[str, _Described] = {}
    for one in (*(_without_lost(one, holders) for one in _described(old)), *added):
        config = one.item.config
        if (before := merged.get(config)) is not None:
            members = _renewed(before.members, one.members, ManifestItem)
            one = replace(one, members=members).with_tags((*before.tags, *one.tags))
        merged[config] = one
    return go_json.dumps([_object(one.members) for one in merged.values()])


def _described(manifest: bytes) -> list[_Described]:
    try:
        items = docker.parse_manifest_json(manifest)
    except InvalidDocument:
        return []
    return [
        _Described(item, go_json.members_of(raw, ManifestItem, MANIFEST))
        for item, raw in zip(items, _elements(manifest), strict=True)
    ]


def _without_lost(one: _Described, holders: Mapping[str, str]) -> _Described:
    kept = [tag for tag in one.tags if holders.get(tag, one.item.config) == one.item.config]
    return one if len(kept) == len(one.tags) else one.with_tags(kept)


# --- repositories ---


def _merged_repositories(old: bytes, new: bytes) -> bytes:
    merged: dict[str, dict[str, str]] = {}
    for data in (old, new):
        for name, tags in _repositories(data).items():
            merged[name] = merged.get(name, {}) | tags
    return go_json.dumps(merged)


def _repositories(data: bytes) -> dict[str, dict[str, str]]:
    try:
        return docker.parse_repositories(data)
    except InvalidDocument:
        return {}


_MERGED: Final[Mapping[str, Callable[[bytes, bytes], bytes]]] = {
    INDEX: _merged_index,
    MANIFEST: _merged_manifest,
    REPOSITORIES: _merged_repositories,
}


# --- JSON whose unknown members stay as they are ---


def _renewed(old: _Members, new: _Members, type_: type[msgspec.Struct]) -> _Members:
    """Return the new members, and the older ones that are no fields of this type, in their places.

    A field that is absent in the new members is absent.
    """
    known = {field.encode_name for field in msgspec.structs.fields(type_)}
    return {**{k: v for k, v in old.items() if k in new or k not in known}, **new}


def _object(members: _Members) -> msgspec.Raw:
    """Return a JSON object with its members in this order, which `go_json.dumps` would sort."""
    parts = (go_json.dumps(key) + b":" + go_json.dumps(value) for key, value in members.items())
    return msgspec.Raw(b"{" + b",".join(parts) + b"}")


def _elements(data: bytes) -> Iterator[bytes]:
    """Yield the elements of the valid JSON list that `data` begins with, unparsed."""
    text = data.decode("utf-8", "surrogateescape")
    position = _after_space(text, text.index("[") + 1)
    while text[position] != "]":
        _, end = _DECODER.raw_decode(text, position)
        yield text[position:end].encode("utf-8", "surrogateescape")
        position = _after_space(text, end)
        if text[position] == ",":
            position = _after_space(text, position + 1)


def _after_space(text: str, position: int) -> int:
    while text[position] in _SPACE:
        position += 1
    return position

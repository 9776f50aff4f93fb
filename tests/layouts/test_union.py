"""The union of two layouts."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from engine.errors import InvalidDocument
from engine.layouts.entry import Entry
from engine.layouts.union import union
from tests import archives

IMAGE, REF = "io.containerd.image.name", "org.opencontainers.image.ref.name"
A, B, C = (archives.digest(name) for name in (b"a", b"b", b"c"))
Described = tuple[str, str | None, str | None]


def layout(*images: Described, **documents: Any) -> list[Entry]:
    """Make a layout whose index has the (digest, image name, tag) of these images."""
    entries = [
        {
            "mediaType": archives.OCI_MANIFEST,
            "digest": digest,
            "size": 1,
            "annotations": {k: v for k, v in ((IMAGE, name), (REF, tag)) if v},
        }
        for digest, name, tag in images
    ]
    index = {"schemaVersion": 2, "manifests": entries, **documents.pop("index", {})}
    files = {"index.json": index, **{k.replace("_", "."): v for k, v in documents.items()}}
    return [Entry.file(path, 0o644, 0, archives.to_json(value)) for path, value in files.items()]


def documents(entries: tuple[Entry, ...]) -> Mapping[str, Any]:
    assert all(isinstance(e.content, bytes) and len(e.content) == e.size for e in entries)
    return {e.path: json.loads(e.content) for e in entries if isinstance(e.content, bytes)}


def images(entries: tuple[Entry, ...]) -> list[Described]:
    found = documents(entries)["index.json"]["manifests"]
    named = [(one["digest"], one.get("annotations", {})) for one in found]
    return [(digest, names.get(IMAGE), names.get(REF)) for digest, names in named]


CASES: dict[str, tuple[list[Described], list[Described], list[Described]]] = {
    "others": (
        [(A, "x/a:1", "1")],
        [(B, "x/b:1", "1")],
        [(A, "x/a:1", "1"), (B, "x/b:1", "1")],
    ),
    "the same stays in its place": (
        [(A, "x/a:1", "1"), (B, "x/b:1", "1")],
        [(A, "x/a:1", "1")],
        [(A, "x/a:1", "1"), (B, "x/b:1", "1")],
    ),
    "a name moves": (
        [(A, "x/a:1", "1")],
        [(B, "x/a:1", "1")],
        [(A, None, None), (B, "x/a:1", "1")],
    ),
    "a name moves from an image with two": (
        [(A, "x/a:1", "1"), (A, "x/a:2", "2")],
        [(B, "x/a:1", "1")],
        [(A, "x/a:2", "2"), (B, "x/a:1", "1")],
    ),
    "a tag alone moves": (
        [(A, None, "1")],
        [(B, "x/b:1", "1")],
        [(A, None, None), (B, "x/b:1", "1")],
    ),
    "a tag alone becomes a name": ([(A, None, "1")], [(A, "x/a:1", "1")], [(A, "x/a:1", "1")]),
    "a tag alone stays": (
        [(A, None, "2")],
        [(B, "x/b:1", "1")],
        [(A, None, "2"), (B, "x/b:1", "1")],
    ),
    "without names": ([(A, None, None)], [(B, None, None)], [(A, None, None), (B, None, None)]),
    "a name for what had none": ([(A, None, None)], [(A, "x/a:1", "1")], [(A, "x/a:1", "1")]),
}


@pytest.mark.parametrize("case", CASES)
def test_names_move_in_the_index(case: str) -> None:
    old, new, expected = CASES[case]
    assert images(union(layout(*old), layout(*new))) == expected


def test_what_else_an_index_says_is_kept() -> None:
    more = {"annotations": {"org.example": "kept"}, "artifactType": "application/x"}
    merged = documents(union(layout((A, None, "1"), index=more), layout((B, None, "2"))))
    assert more.items() <= merged["index.json"].items()


def item(config: str, *tags: str) -> dict[str, Any]:
    return {"Config": config, "RepoTags": list(tags) or None, "Layers": ["l"]}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ([item("a", "a:1")], [item("b", "b:1")], [item("a", "a:1"), item("b", "b:1")]),
        ([item("a", "a:1", "a:2")], [item("a", "a:1")], [item("a", "a:1", "a:2")]),
        ([item("a", "a:1")], [item("a", "a:2")], [item("a", "a:1", "a:2")]),
        ([item("a", "a:1", "a:2")], [item("b", "a:1")], [item("a", "a:2"), item("b", "a:1")]),
        ([item("a", "a:1")], [item("b", "a:1")], [item("a"), item("b", "a:1")]),
    ],
)
def test_tags_move_in_the_manifest(old: list[Any], new: list[Any], expected: list[Any]) -> None:
    both = union(layout((A, None, None), manifest_json=old), layout(manifest_json=new))
    assert documents(both)["manifest.json"] == expected


def test_repositories_are_merged() -> None:
    old = layout(repositories={"a": {"1": "x", "2": "x"}, "b": {"1": "x"}})
    new = layout(repositories={"a": {"1": "y"}, "c": {"1": "y"}})
    merged = {"a": {"1": "y", "2": "x"}, "b": {"1": "x"}, "c": {"1": "y"}}
    assert documents(union(old, new))["repositories"] == merged


def test_repositories_without_the_new_images_are_left_out() -> None:
    assert "repositories" not in documents(union(layout(repositories={}), layout()))


def test_a_layout_and_nothing_is_the_layout() -> None:
    new = layout((A, "x/a:1", "1"), manifest_json=[item("a", "a:1")], repositories={"a": {}})
    assert union((), new) == tuple(sorted(new, key=lambda entry: entry.path))


def test_a_broken_document_is_refused() -> None:
    with pytest.raises(InvalidDocument, match=r"index\.json"):
        union([Entry.file("index.json", 0o644, 0, b"{")], layout())

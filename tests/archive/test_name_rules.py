"""Names that images of an archive are given."""

import pytest

from engine.archive.archive_image import ArchiveImage
from engine.archive.name_rules import InvalidNaming, Naming, parse_rename
from engine.errors import InvalidReference
from engine.graph import Graph
from engine.spec.oci import Descriptor


def found(*names: str, tag: str = "", number: int = 0) -> ArchiveImage:
    root = Descriptor("m/m", f"sha256:{number:064x}", 1)
    return ArchiveImage(names, Graph(root, (), (), (), ()), tag)


HUB = "docker.io/library"


@pytest.mark.parametrize(
    ("naming", "image", "expected"),
    [
        (Naming(), found(f"{HUB}/app:1"), (f"{HUB}/app:1",)),
        (Naming(base="app"), found(tag="3"), (f"{HUB}/app:3",)),
        (Naming(base="app"), found("ghcr.io/x/y:1", tag="3"), ("ghcr.io/x/y:1",)),
        (Naming(base="app"), found(), ()),
        (Naming(prefix="ghcr.io/org/"), found(f"{HUB}/app:1"), ("ghcr.io/org/app:1",)),
        (Naming(prefix="my-"), found(f"{HUB}/app:1"), (f"{HUB}/my-app:1",)),
        (
            Naming(renames=(("app", "ghcr.io/org/other"),)),
            found(f"{HUB}/app:1", f"{HUB}/app:2", f"{HUB}/apple:1"),
            ("ghcr.io/org/other:1", "ghcr.io/org/other:2", f"{HUB}/apple:1"),
        ),
        (
            Naming(renames=(("app:1", "b:2"), ("app", "c"))),
            found(f"{HUB}/app:1", f"{HUB}/app:2"),
            (f"{HUB}/b:2", f"{HUB}/c:2"),
        ),
        (
            Naming(base="app", renames=(("app", "b"),), prefix="x/"),
            found(tag="1"),
            ("docker.io/x/b:1",),
        ),
        (Naming(name="app"), found(), (f"{HUB}/app:latest",)),
        (
            Naming(renames=(("a", "c"), ("b", "c"))),
            found(f"{HUB}/a:1", f"{HUB}/b:1"),
            (f"{HUB}/c:1",),
        ),
    ],
)
def test_names(naming: Naming, image: ArchiveImage, expected: tuple[str, ...]) -> None:
    (called,) = naming.applied([image])
    assert called.names == expected


def test_a_name_is_for_the_only_image_that_has_none() -> None:
    named, unnamed = found(f"{HUB}/app:1"), found(number=1)
    called = Naming(name="b").applied([named, unnamed, unnamed])
    assert [f.names for f in called] == [named.names, (f"{HUB}/b:latest",), (f"{HUB}/b:latest",)]
    for images in ([named], [unnamed, found(number=2)]):
        with pytest.raises(InvalidNaming, match=r"^b: expected one image without a name, found "):
            Naming(name="b").applied(images)


@pytest.mark.parametrize(
    ("naming", "image"),
    [
        (Naming(base="UPPER"), found(tag="1")),
        (Naming(base="app:1"), found(tag="1")),
        (Naming(prefix="/"), found(f"{HUB}/app:1")),
        (Naming(name="a b"), found()),
    ],
)
def test_names_that_are_none(naming: Naming, image: ArchiveImage) -> None:
    with pytest.raises(InvalidReference):
        naming.applied([image])


def test_renames() -> None:
    assert parse_rename("a=b") == ("a", "b")
    assert parse_rename("a:1=ghcr.io/b:2") == ("a:1", "ghcr.io/b:2")
    for text in ("a", "a=", "=b", "a:1=b", "a=b:1", "A=b", "a=b=c"):
        with pytest.raises(InvalidNaming, match="expected OLD=NEW"):
            parse_rename(text)

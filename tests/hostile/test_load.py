"""Every hostile archive, loaded by the command: its result, its cost, and its leftovers."""

import shutil
from pathlib import Path

import pytest

from engine.archive.import_options import ImportOptions
from engine.archive.importer import Import
from engine.errors import SizeMismatch, printable
from engine.limits import Limits
from imgfs.vfs.names import FAMILIAR
from imgfs.vfs.tree import ImageDirectory, ImageTree
from imgfs.vfs.views import CombinedView
from tests import archives
from tests.archives import ImageParts, descriptor, to_json
from tests.cli.command import Command, picture, refusal, succeeded
from tests.hostile.case import APP, NAME, Case, docker, entry, index, oci, whole
from tests.hostile.cases import CASES
from tests.hostile.conftest import Load, pieces
from tests.local_engine import LocalEngine

MEMORY = 100 << 20
ORDINARY = Case("ordinary", whole(docker))
REFUSED = [name for name, case in CASES.items() if case.error]


def copy(store: Path, to: Path) -> Path:
    shutil.copytree(store, to)
    return to


@pytest.fixture(scope="module")
def ordinary() -> dict[str, int]:
    """The cost of an ordinary load, measured once."""
    return {}


@pytest.mark.parametrize("name", CASES)
def test_a_load_ends_as_it_must(
    load: Load, store: Path, tmp_path: Path, ordinary: dict[str, int], name: str
) -> None:
    case = CASES[name]
    if not ordinary:
        ordinary["memory"] = load(ORDINARY, copy(store, tmp_path / "ordinary"))[1]
    if case.error is None:
        store = copy(store, tmp_path / "store")
    before = picture(store)
    done, memory = load(case, store)
    if case.error is None:
        assert (done.status, done.out, done.err) == (0, b"", b"")
    else:
        assert case.says in refusal(done)
        assert picture(store) == before
    assert list((store / "ingest").iterdir()) == []
    assert list((store / "leases").iterdir()) == []
    assert memory - ordinary["memory"] < MEMORY


def test_an_index_that_lies_about_another_image(store: Path, tmp_path: Path) -> None:
    """It does not keep the other image out, and what it shows of itself is an error or true."""
    imgfs = Command(copy(store, tmp_path / "store"))
    other = ImageParts(architecture="arm64")
    false = descriptor(other.manifest(), archives.OCI_MANIFEST) | {"size": 7}
    lying = to_json(index(descriptor(APP.manifest(), archives.OCI_MANIFEST), false))
    named = entry({NAME: "docker.io/library/lying:1"}) | descriptor(lying, archives.OCI_INDEX)
    succeeded(imgfs("load", "-q", stdin=oci([named], [lying])))
    good = archives.docker_archive((other, ["other:1"]))
    assert succeeded(imgfs("load", stdin=good)).lines == ["Loaded image: other:1"]
    names = "{{.Repository}}:{{.Tag}}"
    listed = succeeded(imgfs("images", "--format", names)).lines
    assert sorted(listed) == ["before:1", "lying:1", "other:1"]
    assert "unexpected size: expected 7" in refusal(imgfs("save", "lying:1"))
    assert "unexpected size: expected 7" in refusal(imgfs("inspect", "lying:1"))
    with LocalEngine(imgfs.store) as engine:
        root = ImageTree(engine.store, CombinedView(), {}, FAMILIAR).root
        assert {"lying:1", "other:1"} <= {name for name, _ in root.children()}
        shown = root.lookup("lying:1")
        assert isinstance(shown, ImageDirectory)
        with pytest.raises(SizeMismatch):
            list(shown.children())
    succeeded(imgfs("save", "other:1"))


def take(session: Import, case: Case) -> None:
    for piece in pieces(case.make()):
        session.feed(piece)
    session.finish()


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_has_its_class(store: Path, name: str) -> None:
    case = CASES[name]
    assert case.error is not None
    limits = Limits().changed(dict(word.split("=") for word in case.options[1:]))
    with (
        LocalEngine(store) as engine,
        engine.begin_import(ImportOptions(limits)) as session,
        pytest.raises(case.error) as raised,
    ):
        take(session, case)
    assert case.says in printable(str(raised.value), 2000)

"""Changes that a registry refuses in the middle: its names are as before."""

import resource
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from engine.errors import AccessDenied, EngineError, NotFound, Unreachable, Unsupported
from engine.image import Image
from engine.names import remove, tag
from engine.stores.open import open_store
from engine.stores.protocols import Store
from engine.stores.registry.uploads import push_scopes
from imgfs.vfs.name_changes import NameChanges
from tests.archives import ImageParts, digest, layer, oci_archive
from tests.stores.containerd.loads import load
from tests.stores.registry.clients import FaultyClient
from tests.stores.registry.proxy import proxy
from tests.stores.registry.server import lacking, registry

OLD, NEW, THEIRS = (ImageParts(layers=(layer(name),)) for name in ("old", "new", "theirs"))


@pytest.fixture
def client(tmp_path: Path) -> Iterator[FaultyClient]:
    """Return a client of a registry that has an image as app:1 and app:2."""
    if reason := lacking():
        pytest.skip(reason)
    (tmp_path / "registry").mkdir()
    with registry(tmp_path / "registry") as host:
        with open_store(f"registry://{host}?cache={tmp_path}/pushed") as other:
            load(other, oci_archive(*((OLD, f"docker.io/library/app:{n}") for n in (1, 2))))
        yield FaultyClient(host, tmp_path / "cache")


@pytest.fixture
def undeletable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyClient]:
    """Return a client of a registry as most are, which deletes nothing, with one image, app:1."""
    if reason := lacking():
        pytest.skip(reason)
    monkeypatch.setenv("REGISTRY_STORAGE_DELETE_ENABLED", "false")
    (tmp_path / "registry").mkdir()
    with registry(tmp_path / "registry") as host:
        with open_store(f"registry://{host}?cache={tmp_path}/cache") as other:
            load(other, oci_archive((OLD, "docker.io/library/app:1")))
        yield FaultyClient(host, tmp_path / "cache")


@pytest.fixture
def store(client: FaultyClient) -> Iterator[Store]:
    with client.store() as opened:
        yield opened


def names(client: FaultyClient) -> dict[str, str]:
    """Return the targets in the registry by their names, as another machine sees them."""
    with open_store(f"registry://{client.location.host}?cache={client.location.cache}2") as other:
        return {i.name.rpartition("/")[2]: i.target.digest for i in other.images.all()}


def elsewhere(client: FaultyClient, name: str, image: ImageParts | None) -> None:
    """Load an image from another machine, or remove a name."""
    with open_store(f"registry://{client.location.host}?cache={client.location.cache}3") as other:
        if image:
            load(other, oci_archive((image, f"docker.io/library/{name}")))
        else:
            remove(other, name)


def seen(store: Store) -> dict[str, str]:
    """Return the same as the store sees it."""
    return {i.name.rpartition("/")[2]: i.target.digest for i in store.images.all()}


BEFORE = dict.fromkeys(("app:1", "app:2"), digest(OLD.manifest()))


@pytest.mark.parametrize("error", [AccessDenied, Unreachable])
def test_a_load_of_which_one_name_is_refused_changes_no_name(
    client: FaultyClient, store: Store, error: type[EngineError]
) -> None:
    client.refused[("PUT", "3")] = error(client.location.url, "PUT: refused")
    archive = oci_archive(*((NEW, f"docker.io/library/app:{n}") for n in (0, 1, 3)))
    with pytest.raises(error):
        load(store, archive)
    assert names(client) == seen(store) == BEFORE
    assert store.events.after() == []
    client.refused.clear()
    load(store, archive)
    loaded = dict.fromkeys(("app:0", "app:1", "app:3"), digest(NEW.manifest()))
    assert names(client) == seen(store) == BEFORE | loaded
    assert [event.action for event in store.events.after()].count("tag") == 3


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_rename_that_is_refused_changes_no_name(
    client: FaultyClient, store: Store, method: str
) -> None:
    refused = {"PUT": "old", "DELETE": "1"}[method]
    client.refused[(method, refused)] = AccessDenied(client.location.url, f"{method}: refused")
    with pytest.raises(AccessDenied):
        NameChanges(store).rename("app:1", "app:old")
    assert names(client) == seen(store) == BEFORE
    assert store.events.after() == []


def test_a_removal_of_which_one_name_is_refused_removes_no_name(
    client: FaultyClient, store: Store
) -> None:
    assert seen(store) == BEFORE
    client.refused[("DELETE", "2")] = AccessDenied(client.location.url, "DELETE: refused")
    with pytest.raises(AccessDenied):
        remove(store, digest(OLD.manifest()))
    assert names(client) == seen(store) == BEFORE
    assert store.events.after() == []


@pytest.mark.parametrize("theirs", [THEIRS, None])
@pytest.mark.parametrize("name", ["app:0", "app:1"])
def test_what_others_have_changed_since_is_not_put_back(
    client: FaultyClient, store: Store, name: str, theirs: ImageParts | None
) -> None:
    client.meanwhile[("PUT", "3")] = lambda: elsewhere(client, name, theirs)
    client.refused[("PUT", "3")] = AccessDenied(client.location.url, "PUT: refused")
    with pytest.raises(AccessDenied):
        load(store, oci_archive(*((NEW, f"docker.io/library/app:{n}") for n in (0, 1, 3))))
    expected = {**BEFORE, name: digest(theirs.manifest())} if theirs else {**BEFORE}
    if theirs is None:
        expected.pop(name, None)
    assert names(client) == seen(store) == expected


def test_what_others_had_changed_unnoticed_is_not_replaced_by_what_was_known(
    client: FaultyClient, store: Store
) -> None:
    """Nobody knows any more what app:1 was, as after any other push; app:3 was asked for."""
    assert seen(store) == BEFORE
    elsewhere(client, "app:1", THEIRS)
    elsewhere(client, "app:3", THEIRS)
    client.refused[("PUT", "4")] = AccessDenied(client.location.url, "PUT: refused")
    with pytest.raises(AccessDenied):
        load(store, oci_archive(*((NEW, f"docker.io/library/app:{n}") for n in (1, 3, 4))))
    left = {"app:1": digest(NEW.manifest()), "app:3": digest(THEIRS.manifest())}
    assert names(client) == seen(store) == {**BEFORE, **left}


def test_a_tag_that_others_push_after_its_removal_stays(client: FaultyClient, store: Store) -> None:
    assert seen(store) == BEFORE
    client.meanwhile[("DELETE", "2")] = lambda: elsewhere(client, "app:1", THEIRS)
    client.refused[("DELETE", "2")] = AccessDenied(client.location.url, "DELETE: refused")
    with pytest.raises(AccessDenied):
        remove(store, digest(OLD.manifest()))
    assert names(client) == seen(store) == {**BEFORE, "app:1": digest(THEIRS.manifest())}


def test_a_change_that_was_refused_itself_is_not_undone(client: FaultyClient, store: Store) -> None:
    assert seen(store) == BEFORE
    elsewhere(client, "app:1", THEIRS)
    client.refused[("DELETE", "1")] = AccessDenied(client.location.url, "DELETE: refused")
    with pytest.raises(AccessDenied):
        remove(store, "app:1")
    assert "PUT" not in [method for method, _ in client.made]
    assert names(client) == {**BEFORE, "app:1": digest(THEIRS.manifest())}


def test_nothing_is_undone_at_a_registry_that_is_away(
    client: FaultyClient, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    away = Unreachable(client.location.url, "does not answer")

    def go_away() -> None:
        client.refused |= {(method, str(n)): away for method in ("HEAD", "PUT") for n in range(4)}
        client.made.clear()

    client.meanwhile[("PUT", "3")] = go_away
    with pytest.raises(Unreachable):
        load(store, oci_archive(*((NEW, f"docker.io/library/app:{n}") for n in range(4))))
    assert client.made == [("HEAD", "/v2/app/manifests/3")]
    for n in range(4):
        assert f"app:{n} is not put back: " in caplog.text


@contextmanager
def losing(client: FaultyClient, line: str, faults: list[str]) -> Iterator[FaultyClient]:
    """Return a client behind a proxy, which loses answers that the registry has given to the
    requests that a pattern describes.
    """
    with proxy(client.location.host) as before:
        before.faulty, before.faults = line, faults
        yield FaultyClient(before.host, Path(client.location.cache))
        assert before.faults == []


PUT, DELETE = "PUT /v2/app/manifests/", "DELETE /v2/app/manifests/sha256:"
LOST = "unanswered"


@pytest.mark.parametrize("name", ["app:1", "app:3"])
def test_a_name_whose_own_answers_are_lost_is_put_back(client: FaultyClient, name: str) -> None:
    line = f"{PUT}{name[-1]}"
    with losing(client, line, [LOST] * 5) as proxied, proxied.store() as store:
        assert seen(store) == BEFORE
        with pytest.raises(Unreachable):
            load(store, oci_archive((NEW, f"docker.io/library/{name}")))
        assert names(client) == seen(store) == BEFORE


@pytest.mark.parametrize(
    ("line", "faults"),
    [(f"{PUT}2", [LOST] * 5), (DELETE, ["", "", *[LOST] * 5])],
    ids=["substitute", "removal"],
)
def test_a_removal_whose_answers_are_lost_is_undone(
    client: FaultyClient, line: str, faults: list[str]
) -> None:
    """The registry deletes only manifests; the first deletion asks whether it deletes any."""
    with losing(client, line, faults) as proxied, proxied.store() as store:
        assert seen(store) == BEFORE
        with pytest.raises(Unreachable):
            remove(store, digest(OLD.manifest()))
        assert names(client) == seen(store) == BEFORE


def test_a_removal_that_is_found_done_at_the_second_request_is_undone(client: FaultyClient) -> None:
    with losing(client, DELETE, ["", LOST]) as proxied, proxied.store() as store:
        assert seen(store) == BEFORE
        proxied.refused[("PUT", "2")] = AccessDenied(client.location.url, "PUT: refused")
        with pytest.raises(AccessDenied):
            remove(store, digest(OLD.manifest()))
        assert names(client) == seen(store) == BEFORE


def test_a_registry_that_deletes_nothing_renames_nothing(undeletable: FaultyClient) -> None:
    with undeletable.store() as store:
        last = store.events.last()
        with pytest.raises(Unsupported, match="does not allow images to be deleted"):
            NameChanges(store).rename("app:1", "app:old")
        with pytest.raises(Unsupported, match="does not allow images to be deleted"):
            remove(store, "app:1")
        assert names(undeletable) == seen(store) == {"app:1": digest(OLD.manifest())}
        assert store.events.last() == last
        asked = [path for method, path in undeletable.made if method == "DELETE"]
        assert len(asked) == 3  # each question once, and the tag itself
        tag(store, "app:1", "app:2")
        assert names(undeletable) == BEFORE


def test_nothing_is_sent_to_a_registry_that_deletes_nothing_for_a_rename(
    undeletable: FaultyClient,
) -> None:
    with undeletable.store() as store, pytest.raises(Unsupported):
        NameChanges(store).rename("app:1", "other/repo:1")
    for data in (*OLD.layers, OLD.config):
        path = f"/v2/other/repo/blobs/{digest(data)}"
        with pytest.raises(NotFound):
            undeletable.request("HEAD", path, push_scopes("other/repo"))


def test_a_deletion_that_is_denied_is_no_lack_of_deletions(
    undeletable: FaultyClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    denied = AccessDenied(undeletable.location.url, "DELETE: denied")
    undeletable.refused[("DELETE", digest(b"imgfs-0"))] = denied
    with monkeypatch.context() as patched:
        patched.setattr("secrets.token_hex", lambda _: "0")
        opened = undeletable.store()
    with opened as store:
        assert seen(store) == {"app:1": digest(OLD.manifest())}
        with pytest.raises(AccessDenied, match="DELETE: denied"):
            remove(store, "app:1")


def test_a_load_that_is_refused_leaves_a_new_name_where_nothing_is_deleted(
    undeletable: FaultyClient,
) -> None:
    undeletable.refused[("PUT", "3")] = AccessDenied(undeletable.location.url, "PUT: refused")
    with undeletable.store() as store:
        with pytest.raises(AccessDenied, match="PUT: refused"):
            load(store, oci_archive(*((NEW, f"docker.io/library/app:{n}") for n in (1, 2, 3))))
        shown = {"app:1": digest(OLD.manifest()), "app:2": digest(NEW.manifest())}
        assert names(undeletable) == seen(store) == shown


@pytest.mark.parametrize("is_first", [True, False])
def test_a_target_keeps_its_last_name_in_any_order(
    client: FaultyClient, store: Store, is_first: bool
) -> None:
    elsewhere(client, "app:2", None)
    (old,) = store.images.all()
    new = Image(f"{client.location.host}/app:9", old.target)
    with store.transaction():
        if is_first:
            store.images.put(new)
        store.images.delete(old.name)
        if not is_first:
            store.images.put(new)
    client.refused |= {("HEAD", "9"): Unreachable("", ""), ("GET", "9"): Unreachable("", "")}
    found = store.images.find(new.name)
    assert found is not None
    assert found.target == old.target
    assert store.images.target(old.target.digest)


def tag_another(store: Store) -> None:
    tag(store, "app:1", "app:3")


def remove_one(store: Store) -> None:
    remove(store, "app:1")


@pytest.mark.parametrize("change", [tag_another, remove_one])
def test_nothing_is_sent_if_the_cache_is_full(
    client: FaultyClient, store: Store, change: Callable[[Store], object]
) -> None:
    assert seen(store) == BEFORE
    with ExitStack() as full:
        fill(full)
        with pytest.raises(OSError, match="File too large"):
            change(store)
    assert {method for method, _ in client.made} <= {"GET", "HEAD"}
    assert names(client) == seen(store) == BEFORE
    assert store.events.after() == []


@pytest.mark.parametrize(
    ("change", "last", "after"),
    [
        (tag_another, ("PUT", "3"), {**BEFORE, "app:3": BEFORE["app:1"]}),
        (remove_one, ("DELETE", "1"), {"app:2": BEFORE["app:2"]}),
    ],
)
def test_names_are_asked_for_if_the_cache_is_full_once_they_are_sent(
    client: FaultyClient,
    store: Store,
    change: Callable[[Store], object],
    last: tuple[str, str],
    after: dict[str, str],
) -> None:
    assert seen(store) == BEFORE
    with ExitStack() as full:
        client.meanwhile[last] = lambda: fill(full)
        with pytest.raises(OSError, match="File too large"):
            change(store)
    assert names(client) == seen(store) == after


def fill(until: ExitStack) -> None:
    """Let no file of this process grow."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    until.callback(resource.setrlimit, resource.RLIMIT_FSIZE, before)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))

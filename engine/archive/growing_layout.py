"""The images of one directory while its files arrive: what is published, and what is missing."""

from collections.abc import Iterable, Mapping

import msgspec

from engine.archive import docker_archive, oci_archive
from engine.archive.archive_graphs import ArchiveGraphs, Key, key_of
from engine.archive.archive_image import ArchiveImage, Inventory, LeftOut
from engine.archive.archive_names import oci_names, oci_tag
from engine.archive.content_pool import blob_path
from engine.archive.directory_formats import read_entries, read_growing
from engine.archive.import_options import ImportOptions
from engine.archive.loaded import Loaded, LoadedImage
from engine.archive.members import Members, blob_at
from engine.archive.publisher import Publisher
from engine.errors import MissingMember
from engine.image import Image
from engine.spec import docker, oci, platforms
from engine.spec.digest import Digest
from engine.spec.oci import Descriptor
from engine.stores.protocols import Store


class _Index(msgspec.Struct, frozen=True):
    """An `index.json` whose images all have a name or a tag of their own, so that what is published
    of one does not depend on the others: its digest, and its entries by the keys of their graphs.
    """

    digest: Digest
    entries: Mapping[Key, tuple[Descriptor, ...]]

    @classmethod
    def of(cls, members: Members) -> "_Index | None":
        """Return the index of a layout; None for another one."""
        if not members.has(oci_archive.INDEX) or members.has(docker.MANIFEST_FILE):
            return None
        index = oci.parse_index(members.document(oci_archive.INDEX), oci_archive.INDEX)
        entries: dict[Key, tuple[Descriptor, ...]] = {}
        for entry in index.manifests:
            if oci.is_document_type(entry.media_type):
                if not (oci_names(entry) or oci_tag(entry)):
                    return None
                entries[key_of(entry)] = (*entries.get(key_of(entry), ()), entry)
        return cls(members.find(oci_archive.INDEX).digest, entries)

    def is_current(self, members: Members) -> bool:
        """Return whether this is still what decides which images the layout has."""
        if members.has(docker.MANIFEST_FILE) or not members.has(oci_archive.INDEX):
            return False
        return members.find(oci_archive.INDEX).digest == self.digest


class GrowingLayout:
    """A directory with images; for one thread at a time. Its attributes may be read by any thread.

    `published` are the images that have been published, by names and target; `blobs` the digests
    that they refer to. `error` is what is wrong with it.
    """

    def __init__(self, store: Store, members: Members, options: ImportOptions, place: str) -> None:
        """`place` is the directory's path, from which images without a name get theirs."""
        self._store = store
        self._members = members
        self._options = options
        self._naming = msgspec.structs.replace(options.naming, directory=place)
        matcher = platforms.only(*options.platforms) if options.platforms else platforms.ALL
        self._graphs = ArchiveGraphs(members, matcher)
        self._stand_ins: dict[str, tuple[str, Image | None]] = {}
        """By target, the name that the directory gave to an image, and what had that name before.
        """
        self.published: Mapping[str, LoadedImage] = {}
        self.blobs: frozenset[str] = frozenset()
        self.error: Exception | None = None
        self._left_out: dict[str, tuple[LeftOut, ...]] = {}
        """By the names of images in the directory."""
        self._files: tuple[str, ...] = ()
        """The paths of missing files that the graphs do not know."""
        self._named: frozenset[Digest] = frozenset()
        """The blobs among them."""
        self._changes: set[str] = set()
        self._index: _Index | None = None
        """The index by which images have been published."""
        self._completed: dict[Key, None] = {}
        """The graphs that have become more complete since."""
        self._is_stale = False
        """Whether files have been removed since."""

    @property
    def missing(self) -> tuple[str, ...]:
        """The paths of the files that images wait for, relative to the directory."""
        return tuple(dict.fromkeys((*self._files, *map(blob_path, self._graphs.missing))))

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """The images that cannot be published yet."""
        return tuple(one for some in self._left_out.copy().values() for one in some)

    @property
    def waits_for_any_file(self) -> bool:
        """Whether any file may be what the layout waits for, rather than a blob that it names."""
        return self.error is not None or len(self._named) < len(self._files)

    def waits_for(self, digest: str) -> bool:
        """Return whether an image lacks a blob."""
        return digest in self._named or self._graphs.lacks(digest)

    def take_changes(self) -> set[str]:
        """Return the digests for which the answer of `waits_for` may have changed since the last
        call.
        """
        taken, self._changes = self._changes, set()
        return taken | self._graphs.take_changes()

    def arrived(self, digest: Digest) -> bool:
        """Note a blob that was missing; return whether `publish` has anything to do."""
        if self._is_stale:
            return True
        self._members.documents.begin()
        arrival = self._graphs.arrived(digest)
        if not arrival.is_certain:
            self._index = None
            return True
        for key in arrival.changed:
            self._explain(key)
        self._completed |= dict.fromkeys(arrival.completed)
        return bool(arrival.completed)

    def forget(self) -> None:
        """Note that files have been removed."""
        self._is_stale = True

    def close(self) -> None:
        """Wait for nothing any more."""
        self._graphs.forget()
        self._wait_for(())

    def publish(self) -> Loaded:
        """Publish the images that are new, or that lack less than before; return them.

        Raise what is wrong with the images.
        """
        self._members.documents.begin()
        if self._is_stale:
            self._graphs.forget()
            self._index, self._is_stale = None, False
        publisher = Publisher(self._store, self._members, self._options.platforms)
        try:
            entries = self._completed_entries()
            self._completed = {}
            inventory = self._read(entries)
            found = self._naming.applied(inventory.found)
            publisher.check_platforms(found)
            new = [one for one in found if _lacks_less(self.published, one)]
            loaded = self._publish(publisher, new, inventory) if new else Loaded(())
            if not entries:
                self._index = _Index.of(self._members)
        except MissingMember as error:
            self.error, self._left_out, self._index = None, {}, None
            self._wait_for((error.member, *error.others))
            return Loaded(())
        except Exception as error:
            self.error, self._left_out, self._index = error, {}, None
            self._wait_for(())
            raise
        self._note(entries, inventory.left_out)
        return loaded

    def _completed_entries(self) -> list[Descriptor]:
        """Return the entries that have been completed, if only they need to be read; else none."""
        index, options = self._index, self._options
        if index is None or not index.is_current(self._members):
            return []
        if options.platforms or options.naming.name or not all(map(self._is_own, self._completed)):
            return []
        return [entry for key in self._completed for entry in index.entries[key]]

    def _is_own(self, key: Key) -> bool:
        """Return whether a graph has an image, and its entries are known."""
        entries = self._index.entries.get(key) if self._index else None
        return entries is not None and self._graphs.graph(entries[0]).has_content

    def _read(self, entries: list[Descriptor]) -> Inventory:
        """Return the images of these entries of the index; all images if there are none."""
        most = self._options.limits.max_images
        if entries:
            return read_entries(self._members, entries, most, self._graphs)
        return read_growing(self._members, most, self._graphs, self._options.compression)

    def _note(self, entries: list[Descriptor], left_out: Iterable[LeftOut]) -> None:
        """Note which images could not be published, of these entries or else of all."""
        kept = {} if not entries else self._left_out
        for entry in entries:
            kept.pop(_called(entry), None)
        for one in left_out:
            kept[one.name] = (*kept.get(one.name, ()), one)
        self.error, self._left_out = None, kept
        if not entries:
            named = (path for one in left_out for path in one.missing if not blob_at(path))
            self._wait_for(path for path in named if not self._members.has(path))

    def _explain(self, key: Key) -> None:
        """State anew what the images of a graph lack, if they could not be published."""
        for entry in self._index.entries.get(key, ()) if self._index else ():
            name = _called(entry)
            error = self._graphs.absence(self._graphs.graph(entry), oci_archive.INDEX)
            if name in self._left_out and error is not None:
                self._left_out[name] = (LeftOut.because(name, error),)

    def _wait_for(self, paths: Iterable[str]) -> None:
        """Wait for these files, besides the blobs that the graphs lack."""
        others = (path for path in paths if path and not self._graphs.lacks(blob_at(path) or ""))
        before, self._files = self._named, tuple(dict.fromkeys(others))
        self._named = frozenset(filter(None, map(blob_at, self._files)))
        self._changes |= before ^ self._named

    def _publish(
        self, publisher: Publisher, images: list[ArchiveImage], inventory: Inventory
    ) -> Loaded:
        nameless = {o.graph.root.digest for o in inventory.found if not o.names and not o.tag}
        stand_ins = {
            one.graph.root.digest: (one.names[0], self._store.images.find(one.names[0]))
            for one in images
            if one.graph.root.digest in nameless and one.names
        }
        loaded = publisher.publish(images, docker_archive.parents(self._members))
        names = {name for image in images for name in image.names}
        for image in images:
            if image.names and image.graph.root.digest not in stand_ins:
                self._withdraw_stand_in(image.graph.root.digest, names)
        kept = {k: i for k, i in self.published.items() if names.isdisjoint(i.names)}
        self.published = kept | {_key(i.names, i.target): i for i in loaded.images}
        self.blobs |= {blob.digest for image in images for blob in image.graph.blobs}
        self._stand_ins |= stand_ins
        return loaded

    def _withdraw_stand_in(self, target: str, names: set[str]) -> None:
        """Take back the name that the directory gave to an image which has one of its own by now.

        oras lists an image without a name first, and with its tag then.
        """
        name, before = self._stand_ins.pop(target, ("", None))
        if not name or name in names:
            return
        images = self._store.images
        with self._store.transaction():
            now = images.find(name)
            if now is None or now.target.digest != target:
                return
            if before is None:
                images.delete(name)
            else:
                images.put(before)
        self.published = {k: i for k, i in self.published.items() if name not in i.names}


def _called(entry: Descriptor) -> str:
    """Return the name of an entry in messages, as `oci_archive` has it."""
    return next(iter(oci_names(entry)), oci_tag(entry)) or entry.digest


def _key(names: tuple[str, ...], target: str) -> str:
    return "\n".join((*names, target))


def _lacks_less(published: Mapping[str, LoadedImage], image: ArchiveImage) -> bool:
    before = published.get(_key(image.names, image.graph.root.digest))
    return before is None or set(before.missing) > {m.digest for m in image.graph.missing}

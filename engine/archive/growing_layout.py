"""The images of one directory while its files arrive: what is published, and what is missing."""

from collections.abc import Mapping

import msgspec

from engine.archive import docker_archive
from engine.archive.archive_graphs import ArchiveGraphs
from engine.archive.archive_image import ArchiveImage, Inventory, LeftOut
from engine.archive.content_pool import blob_path
from engine.archive.directory_formats import read_growing
from engine.archive.import_options import ImportOptions
from engine.archive.loaded import Loaded, LoadedImage
from engine.archive.members import Members, blob_at
from engine.archive.publisher import Publisher
from engine.errors import MissingMember
from engine.image import Image
from engine.spec import platforms
from engine.spec.digest import Digest
from engine.stores.protocols import Store


class GrowingLayout:
    """A directory with images; for one thread at a time. Its attributes may be read by any thread:
    their values are replaced, and never changed.

    `published` are the images that have been published, by names and target; `blobs` the digests
    that they refer to. `missing` are the paths of the files that images wait for, relative to the
    directory. `error` is what is wrong with it.
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
        self.missing: tuple[str, ...] = ()
        self.left_out: tuple[LeftOut, ...] = ()
        self.error: Exception | None = None

    @property
    def waits_for_any_file(self) -> bool:
        """Whether any file may be what the layout waits for, rather than a blob that it names."""
        return self.error is not None or not all(map(blob_at, self.missing))

    def arrived(self, digest: Digest) -> bool:
        """Note a blob that was missing; return whether `publish` has anything to do."""
        is_progress = self._graphs.arrived(digest)
        self.missing = self._lacking()
        return is_progress

    def forget(self) -> None:
        """Note that files have been removed."""
        self._graphs.forget()

    def close(self) -> None:
        """Wait for nothing any more."""
        self.missing = ()

    def publish(self) -> Loaded:
        """Publish the images that are new, or that lack less than before; return them.

        Raise what is wrong with the images.
        """
        publisher = Publisher(self._store, self._members, self._options.platforms)
        try:
            inventory = read_growing(
                self._members,
                self._options.limits.max_images,
                self._graphs,
                self._options.compression,
            )
            found = self._naming.applied(inventory.found)
            publisher.check_platforms(found)
            new = [one for one in found if _lacks_less(self.published, one)]
            loaded = self._publish(publisher, new, inventory) if new else Loaded(())
        except MissingMember as error:
            self.error, self.left_out = None, ()
            self.missing = tuple(
                dict.fromkeys(filter(None, (error.member, *error.others, *self._lacking())))
            )
            return Loaded(())
        except Exception as error:
            self.error, self.left_out = error, ()
            raise
        self.error, self.left_out = None, inventory.left_out
        self.missing = self._lacking()
        return loaded

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
        images = self._store.images
        with self._store.transaction():
            now = images.find(name) if name and name not in names else None
            if now is None or now.target.digest != target:
                return
            if before is None:
                images.delete(name)
            else:
                images.put(before)
        self.published = {k: i for k, i in self.published.items() if name not in i.names}

    def _lacking(self) -> tuple[str, ...]:
        """Return the paths of the files that the images lack, as far as they are known."""
        named = (path for one in self.left_out for path in one.missing if not blob_at(path))
        paths = [path for path in named if not self._members.has(path)]
        return tuple(dict.fromkeys((*paths, *map(blob_path, self._graphs.missing))))


def _key(names: tuple[str, ...], target: str) -> str:
    return "\n".join((*names, target))


def _lacks_less(published: Mapping[str, LoadedImage], image: ArchiveImage) -> bool:
    before = published.get(_key(image.names, image.graph.root.digest))
    return before is None or set(before.missing) > {m.digest for m in image.graph.missing}

"""An image manifest with its documents: what `inspect`, `history` and a base image need."""

import msgspec

from engine import graph, names
from engine.content.blobs import read_blob
from engine.errors import MissingContent, NotAnImage, NotFound
from engine.graph import ImageManifest
from engine.image import Image
from engine.layouts import selection
from engine.spec import oci, platforms
from engine.spec.digest import Digest
from engine.spec.oci import ImageConfig
from engine.stores.protocols import Store


class Details(msgspec.Struct, frozen=True):
    """An image, its familiar names, one of its manifests, and the bytes of that one's config."""

    image: Image
    names: tuple[str, ...]
    manifest: ImageManifest
    raw_config: bytes

    @property
    def config(self) -> ImageConfig:
        return oci.parse_config(self.raw_config, self.manifest.manifest.config.digest)

    @property
    def layer_history(self) -> tuple[oci.History, ...]:
        """The step that made each layer, lowest first; an empty one where the config has none."""
        count = len(self.manifest.manifest.layers)
        steps = [step for step in self.config.history if not step.empty_layer][:count]
        return (*steps, *[oci.History()] * (count - len(steps)))


def details(store: Store, name: str, matcher: platforms.Matcher | None = None) -> Details:
    """Return the manifest of an image that fits `matcher` best, by default this host's platform and
    else whichever is complete.

    Raise NotFound if there is none for `matcher`, MissingContent if none is complete, NotAnImage
    for an artifact, and as `names.find`.
    """
    image = names.find_one(store.images, name)
    found = graph.graph(store.content, image.target)
    best = found.best(matcher or platforms.only(platforms.host()))
    if best is None and matcher is None:
        best = selection.any_complete(found)
    if best is None and found.is_artifact:
        raise NotAnImage(name, found.artifact_type)
    selection.check_complete(name, found)
    if best is None:
        known = (platforms.format_all(one.platform) for one in found.images if one.platform)
        has = ", ".join(dict.fromkeys(known)) or "none that is known"
        raise NotFound("the given platform", f"in {name} (it has {has})")
    return _details(store, image, best)


def known_details(store: Store, name: str, matcher: platforms.Matcher | None = None) -> Details:
    """Return the same as `details`, also of an image that lacks layers, if its config is stored."""
    try:
        return details(store, name, matcher)
    except MissingContent:
        image = names.find_one(store.images, name)
        known = [one for one in graph.graph(store.content, image.target).images if one.config]
        wanted = matcher or platforms.only(platforms.host())
        best = platforms.best(known, wanted, lambda one: one.platform)
        if best is None and matcher is None:
            best = next(iter(known), None)
        if best is None:
            raise
        return _details(store, image, best)


def _details(store: Store, image: Image, best: ImageManifest) -> Details:
    config = best.manifest.config
    raw = read_blob(store.content, Digest(config.digest), config.size)
    named = store.images.names_of(image.target.digest)
    return Details(image, tuple(i.familiar for i in named if not i.is_untagged), best, raw)

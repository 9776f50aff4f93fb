"""The choice of the manifests of an image for a layout, and of the one described to Docker."""

from collections.abc import Callable

import msgspec

from engine.errors import MissingContent, NotAnImage, NotExportable, NotFound
from engine.graph import Blobs, Graph, ImageManifest, graph
from engine.image import Image
from engine.spec import oci, platforms
from engine.spec.oci import Platform


def nothing(_: Graph) -> ImageManifest | None:
    """Return None: there is no fallback."""
    return None


def any_complete(graph: Graph) -> ImageManifest | None:
    """Return the best image for this host, else the first complete one, None if there is none."""
    here = graph.best(platforms.only(platforms.host()))
    return here or next(iter(graph.complete_images), None)


def check_complete(image: str, graph: Graph) -> None:
    """Raise MissingContent, which names what is missing, if no image in the graph is complete."""
    if graph.images and not graph.complete_images:
        missing = dict.fromkeys(each.digest for one in graph.images for each in one.missing)
        raise MissingContent(image, tuple(missing))


class Selection(msgspec.Struct, frozen=True):
    """The choice among the manifests of an index.

    `platform` restricts an index to matching manifests, among which every platform of `required`
    must be present and complete. `preferred` chooses the manifest that is described to Docker; if
    no complete one matches, `fallback` chooses it from the whole index (by default none: NotFound).
    """

    platform: platforms.Matcher = platforms.ALL
    preferred: platforms.Matcher = msgspec.field(
        default_factory=lambda: platforms.only(platforms.host())
    )
    fallback: Callable[[Graph], ImageManifest | None] = nothing
    required: tuple[Platform, ...] = ()

    def graph(self, image: Image, blobs: Blobs) -> Graph:
        """Return the graph of the image, restricted to the platform, or whole for the fallback.

        Raise NotExportable if the target is neither manifest nor index; NotAnImage if platforms of
        an artifact are required; NotFound if the target or a required platform is missing, or no
        manifest matches the platform.
        """
        target = image.target
        if not oci.is_document_type(target.media_type):
            reason = f"only manifests may be exported, found {target.media_type}"
            raise NotExportable(image.familiar, reason)
        found = graph(blobs, target, self.platform)
        if not any(blob.digest == target.digest for blob in found.blobs):
            raise NotFound("blob", target.digest)
        if self.required and not found.images:
            every = graph(blobs, target)
            if every.is_artifact:
                raise NotAnImage(image.familiar, every.artifact_type)
        for platform in self.required:
            if found.best(platforms.only(platform)) is None:
                raise NotFound("platform", f"{platforms.format_all(platform)} of {image.familiar}")
        if found.complete_images or self.platform is platforms.ALL:
            return found
        whole = graph(blobs, target)
        if whole.complete_images and self.fallback(whole) is None:
            raise NotFound("manifest for the platform of", image.familiar)
        return whole

    def described(self, image: Image, graph: Graph) -> ImageManifest | None:
        """Return the manifest to describe; None if the graph has no image, as for an artifact.

        Raise NotFound if no manifest matches the platform, MissingContent if none is complete.
        """
        best = graph.best(self.preferred) or self.fallback(graph)
        check_complete(image.familiar, graph)
        if best is None and graph.images:
            raise NotFound("manifest for the platform of", image.familiar)
        return best

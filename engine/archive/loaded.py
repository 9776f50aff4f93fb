"""The result of a load."""

import msgspec

from engine import graph
from engine.archive.archive_image import ArchiveImage, LeftOut


class LoadedImage(msgspec.Struct, frozen=True):
    """An image that was loaded.

    `id` is the digest of its config, as in docker, or "" if it has none. `missing` are the digests
    that its index names and that neither the archive nor the store holds; `missing_platforms` are
    the platforms that are incomplete for this reason.
    """

    names: tuple[str, ...]
    target: str
    id: str
    platforms: tuple[str, ...]
    missing: tuple[str, ...] = ()
    missing_platforms: tuple[str, ...] = ()

    @classmethod
    def of(cls, found: ArchiveImage, whole: graph.Graph) -> "LoadedImage":
        """Return the image of an archive; `whole` is the graph with what the store holds."""
        summary = graph.summarize(whole)
        manifests = summary.manifests
        return cls(
            found.names,
            found.graph.root.digest,
            manifests[0].config if manifests else "",
            tuple(dict.fromkeys(manifest.platform for manifest in manifests if manifest.config)),
            summary.missing,
            whole.missing_platforms,
        )


class Loaded(msgspec.Struct, frozen=True):
    """The result of a load.

    `images` are in the order of the archive. `new_blobs` and `new_bytes` count the blobs that were
    new to the store. `left_out` are the images that the archive names but that could not be loaded.
    """

    images: tuple[LoadedImage, ...]
    new_blobs: int = 0
    new_bytes: int = 0
    left_out: tuple[LeftOut, ...] = ()

    def followed_by(self, other: "Loaded") -> "Loaded":
        """Return the result of this load and of `other`, a later one of the same source."""
        return Loaded(
            self.images + other.images,
            self.new_blobs + other.new_blobs,
            self.new_bytes + other.new_bytes,
            self.left_out + other.left_out,
        )

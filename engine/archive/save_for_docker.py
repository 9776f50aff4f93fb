"""Saving in the form of docker save, with every layer uncompressed."""

from collections.abc import Sequence
from functools import partial

from engine.archive.save import Destination, write_images
from engine.image import Image
from engine.layers.diff_ids import uncompressed_size
from engine.layouts import docker_save
from engine.stores.protocols import Store


def save_for_docker(
    store: Store, images: Sequence[Image], options: docker_save.Options, output: Destination
) -> int:
    """Write the layout that docker save writes, with every layer uncompressed.

    Return its size in bytes; raise the errors of `docker_save.layout` and of the destination.
    """
    size = partial(uncompressed_size, store.content)
    layout = partial(docker_save.layout, images, store.content, size, options)
    return write_images(store, images, layout, store.content, output)

"""Archives with an OCI image layout: `oci-layout`, `index.json`, `blobs/`.

As containerd's importer reads them: it wins where `manifest.json` is there too, names come from the
annotations, an index may lack some of its platforms. A name that only `manifest.json` knows is
taken from there.
"""

import msgspec

from engine import docker, go_json, oci, platforms, walk
from engine.archive.found import Found, check_count, check_layers
from engine.archive.intake import Intake
from engine.archive.names import docker_names, oci_names, oci_tag
from engine.errors import BrokenArchive, InvalidDocument, MissingMember
from engine.oci import Descriptor, ImageLayout

LAYOUT, INDEX = "oci-layout", "index.json"


def is_oci(intake: Intake) -> bool:
    """Whether there is an `oci-layout` that says its version; BrokenArchive for a version that is
    not ours.
    """
    if not intake.has(LAYOUT):
        return False
    layout = go_json.decode(intake.document(LAYOUT), ImageLayout, LAYOUT)
    if layout.image_layout_version not in ("", oci.LAYOUT_VERSION):
        raise BrokenArchive(
            LAYOUT,
            f"expected version {oci.LAYOUT_VERSION}, found {layout.image_layout_version}",
        )
    return bool(layout.image_layout_version)


def read(intake: Intake, most: int, matcher: platforms.Matcher = platforms.ALL) -> list[Found]:
    """The images of an OCI archive, `most` at most, in the order of `index.json`, with the
    platforms that match.
    """
    if not intake.has(INDEX):
        raise MissingMember(
            INDEX, f"is missing from the archive, {LAYOUT} {oci.LAYOUT_VERSION} needs it"
        )
    index = oci.parse_index(intake.document(INDEX), INDEX)
    entries = [entry for entry in index.manifests if _is_image(entry)]
    if not entries:
        raise BrokenArchive(INDEX, "names no image")
    check_count(len(entries), most)
    graphs: dict[tuple[object, ...], walk.Graph] = {}
    found = []
    for entry in entries:
        target = _without_names(entry)
        kind = (target.digest, target.media_type, target.size, oci.is_attestation(target))
        known = graphs.get(kind) or _graph(intake, target, matcher)
        graphs[kind] = known = msgspec.structs.replace(known, root=target)
        found.append(Found(oci_names(entry), known, oci_tag(entry)))
    return found if all(f.names for f in found) else _with_docker_names(intake, found)


def _is_image(entry: Descriptor) -> bool:
    return oci.is_manifest_type(entry.media_type) or oci.is_index_type(entry.media_type)


def _graph(intake: Intake, target: Descriptor, matcher: platforms.Matcher) -> walk.Graph:
    graph = walk.graph(intake, target, matcher)
    if not any(blob.digest == target.digest for blob in graph.blobs):
        raise intake.absence(target.digest, INDEX)
    if not graph.complete_images and (graph.images or not graph.artifacts):
        gaps = [missing.digest for missing in graph.missing]
        if not gaps and matcher is not platforms.ALL:
            return graph
        if not gaps:
            raise InvalidDocument(f"index {target.digest}", "names no image")
        raise intake.absence(gaps[0], target.digest, gaps[1:])
    for image in graph.complete_images:
        diff_ids = image.config.rootfs.diff_ids if image.config else ()
        if diff_ids or (image.manifest.layers and image.config and image.config.os):
            check_layers(
                intake, f"manifest {image.descriptor.digest}", diff_ids, image.manifest.layers
            )
    return graph


def _without_names(entry: Descriptor) -> Descriptor:
    """What an image's target keeps of an entry: names are told by the image, the platform by its
    config.
    """
    annotations = {
        k: v for k, v in entry.annotations.items() if k not in (oci.IMAGE_NAME, oci.REF_NAME)
    }
    return msgspec.structs.replace(entry, annotations=annotations, platform=None)


def _with_docker_names(intake: Intake, found: list[Found]) -> list[Found]:
    """Images that `index.json` does not name have the names that `manifest.json` gives their
    configs, unless another image has them.
    """
    if not intake.has(docker.MANIFEST_FILE):
        return found
    taken = {name for f in found for name in f.names}
    tags: dict[str, tuple[str, ...]] = {}
    for item in docker.parse_manifest_json(intake.document(docker.MANIFEST_FILE)):
        config = intake.find(item.config).digest
        tags[config] = tags.get(config, ()) + docker_names(item)
    return [
        f
        if f.names
        else Found(
            tuple(
                name
                for image in f.graph.complete_images
                for name in tags.get(image.manifest.config.digest, ())
                if name not in taken
            ),
            f.graph,
            f.tag,
        )
        for f in found
    ]

"""The names of images as archives write them, made full ("docker.io/library/alpine:3")."""

from engine.errors import BrokenArchive, InvalidDigest, InvalidReference
from engine.image import check_name
from engine.spec import docker, oci, reference
from engine.spec.oci import Descriptor


def oci_names(entry: Descriptor) -> tuple[str, ...]:
    """The name that an entry of `index.json` has: containerd's annotation, else OCI's where that is
    more than a tag.

    Neither has to be a Docker reference; one that is not, or has another image's digest, leaves the
    image untagged.
    """
    name = entry.annotations.get(oci.IMAGE_NAME, "")
    ref_name = entry.annotations.get(oci.REF_NAME, "")
    text = name or (ref_name if any(c in ref_name for c in "/:") else "")
    try:
        full = str(reference.tag_name_only(reference.parse_normalized(text)))
        check_name(full, entry.digest)
        return (full,)
    except (InvalidReference, InvalidDigest):
        return ()


def oci_tag(entry: Descriptor) -> str:
    """The tag that an entry of `index.json` has where it has no name."""
    ref_name = entry.annotations.get(oci.REF_NAME, "")
    return "" if any(character in ref_name for character in "/:") else ref_name


def docker_names(item: docker.ManifestItem) -> tuple[str, ...]:
    """The full names in an item of `manifest.json`; BrokenArchive as `full_name`."""
    tags = item.repo_tags or ()
    return tuple(dict.fromkeys(full_name(tag, docker.MANIFEST_FILE) for tag in tags))


def full_name(tag: str, member: str) -> str:
    """A familiar name, `latest` where it has no tag, in full; BrokenArchive if it is not a name and
    a tag.
    """
    try:
        ref = reference.tag_name_only(reference.parse_normalized(tag))
        if ref.digest is None:
            check_name(str(ref), "")
    except (InvalidReference, InvalidDigest) as error:
        raise BrokenArchive(member, f"expected a name and a tag: {error}") from error
    if ref.digest is not None:
        raise BrokenArchive(member, f"expected a name and a tag, found a digest: {tag}")
    return str(ref)

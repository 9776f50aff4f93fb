"""Conversion of the image names in archives to full names ("docker.io/library/alpine:3")."""

from engine.errors import BrokenArchive, InvalidDigest, InvalidReference
from engine.image import check_name
from engine.spec import docker, oci, reference
from engine.spec.oci import Descriptor


def oci_names(entry: Descriptor) -> tuple[str, ...]:
    """Return the full name of an entry of `index.json`, or an empty tuple.

    The name is containerd's annotation, or else OCI's annotation if it is more than a tag. Neither
    has to be a Docker reference: for a value that is none, or that has the digest of another image,
    the image is untagged.
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
    """Return the tag of an entry of `index.json` whose OCI annotation is only a tag, else ""."""
    ref_name = entry.annotations.get(oci.REF_NAME, "")
    return "" if any(character in ref_name for character in "/:") else ref_name


def docker_names(item: docker.ManifestItem) -> tuple[str, ...]:
    """Return the full names in an item of `manifest.json`; raise as `full_name` does."""
    tags = item.repo_tags or ()
    return tuple(dict.fromkeys(full_name(tag, docker.MANIFEST_FILE) for tag in tags))


def full_name(tag: str, member: str) -> str:
    """Return the full form of a familiar name, with the tag `latest` if it has none.

    Raise BrokenArchive if it is not a name and a tag.
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

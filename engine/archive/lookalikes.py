"""Detection of the kind of a tar archive that holds no image, from the names of its members."""

import re
from collections.abc import Collection
from typing import Final

from engine.archive.file_types import FileType

_ROOT: Final = frozenset(
    {"bin", "boot", "dev", "etc", "home", "lib", "lib32", "lib64", "media", "mnt", "opt", "proc"}
    | {"root", "run", "sbin", "srv", "sys", "tmp", "usr", "var", "Files", "Hives"}
)
"""The top-level directories of a root file system; the last two are those of Windows layers."""
DIR_TRANSPORT: Final = FileType(
    "a directory of skopeo's dir: transport",
    "unpack it and use skopeo copy dir:DIRECTORY oci-archive:FILE",
)
_BLOB: Final = re.compile(r"[0-9a-f]{64}")
_ENOUGH: Final = 3
_MARKERS: Final = ("oci-layout", "index.json", "manifest.json", "repositories")
_ARCHIVE: Final = re.compile(r"\.(?:tar|tgz|tzst|txz|tbz2?|tar\.\w+)$")


def is_dir_transport(names: Collection[str]) -> bool:
    """Return whether these are names of files that `skopeo copy … dir:` writes."""
    is_one = "version" in names and "manifest.json" in names
    return is_one and any(_BLOB.fullmatch(name) for name in names)


def identify(names: Collection[str]) -> FileType | None:
    """Return the kind of an archive with these names of files and links; None if it is unknown.

    The names are clean, and no top-level name is one of an image archive's documents.
    """
    tops = {name.partition("/")[0] for name in names}
    inner = next(
        (name for name in sorted(names) if name.count("/") == 1 and name.endswith(_MARKERS)), None
    )
    if len(tops) == 1 and is_dir_transport([name.partition("/")[2] for name in names]):
        return DIR_TRANSPORT
    if {"config.json", "rootfs"} <= tops:
        return FileType(
            "an OCI runtime bundle", "use imgfs commit on its rootfs, or umoci repack and save"
        )
    if ".dockerenv" in tops or len(tops & _ROOT) >= _ENOUGH or (tops and tops <= _ROOT):
        return FileType(
            "the tar archive of a root file system",
            "use imgfs commit or docker import to make an image of it",
        )
    if any("/.wh." in f"/{name}" for name in names):
        return FileType("a layer", "load the archive of an image that has it")
    if inner is not None and inner.split("/")[1] in _MARKERS:
        directory = inner.partition("/")[0]
        return FileType(
            f"an image archive in a directory, {directory}/",
            f"make it with tar -C {directory} -c .",
        )
    if any(name.count("/") <= 1 and name.endswith("Chart.yaml") for name in names):
        return FileType("a Helm chart", "use helm install or helm push")
    if any(name.endswith(".ovf") for name in tops):
        return FileType("a virtual appliance (OVA)", "a virtual machine is not a container image")
    archives = sorted(
        name for name in names if _ARCHIVE.search(name) and not name.endswith("layer.tar")
    )
    if archives and len(names) <= len(archives) + 1:
        return FileType(
            f"a tar archive with another archive in it, {archives[0]}", "unpack it and load that"
        )
    if "Dockerfile" in tops or "Containerfile" in tops:
        return FileType("a build context", "build the image with docker build and save that")
    return None

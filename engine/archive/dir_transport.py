"""Reading of the directories that skopeo's `dir:` transport writes.

`version` names the format, `manifest.json` is the manifest or index of the one image, and each blob
is a file named by the hex of its digest. The image has no name.
"""

import re
from typing import Final

from engine.archive.archive_graphs import ArchiveGraphs
from engine.archive.archive_image import ArchiveImage, Inventory
from engine.archive.members import Members
from engine.errors import EngineError, InvalidDocument
from engine.spec import docker, oci
from engine.spec.oci import Descriptor

VERSION_FILE: Final = "version"
_VERSION: Final = re.compile(rb"Directory Transport Version: 1\.\d+\s*")


def is_dir_transport(members: Members) -> bool:
    """Return whether `version` names this format."""
    if not members.has(VERSION_FILE):
        return False
    return _VERSION.fullmatch(members.document(VERSION_FILE)) is not None


def read(members: Members, graphs: ArchiveGraphs) -> Inventory:
    """Return the image; raise MissingMember or InvalidDocument."""
    data = members.document(docker.MANIFEST_FILE)
    media_type = oci.own_media_type(data, docker.MANIFEST_FILE)
    if not oci.is_document_type(media_type):
        raise InvalidDocument(
            docker.MANIFEST_FILE,
            f"expected a manifest or an index, found {media_type or 'neither'}",
        )
    digest = members.find(docker.MANIFEST_FILE).digest
    target = Descriptor(media_type=media_type, digest=digest, size=len(data))
    match graphs.usable(target, docker.MANIFEST_FILE):
        case EngineError() as error:
            raise error
        case graph:
            return Inventory((ArchiveImage((), graph),))

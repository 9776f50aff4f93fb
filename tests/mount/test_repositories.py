"""Repository directories of images whose manifests are Docker's."""

import json
import os

from tests import archives, docker_manifests
from tests.archives import ImageParts
from tests.mounts import Mounted

APP = ImageParts()


def test_a_converted_manifest_has_its_own_digest(mounted: Mounted) -> None:
    for name in ("docker.io/library/app:1", "docker.io/library/other:1"):
        mounted.load(docker_manifests.saved(name, APP))
    came = os.getxattr(mounted / "app:1", "user.oci.digest").decode()
    assert came == archives.digest(docker_manifests.manifest(APP))
    (entry,) = json.loads((mounted / "app/index.json").read_bytes())["manifests"]
    assert entry["digest"] == archives.digest(APP.manifest(gzipped=True))
    blob = f"blobs/sha256/{entry['digest'][7:]}"
    assert (mounted / "app" / blob).read_bytes() == APP.manifest(gzipped=True)
    reported = {
        n: os.getxattr(mounted / "app" / blob, n) for n in os.listxattr(mounted / "app" / blob)
    }
    assert reported == {
        "user.oci.digest": entry["digest"].encode(),
        "user.oci.mediatype": archives.OCI_MANIFEST.encode(),
    }
    status = (mounted / "app" / blob).stat()
    assert (status.st_mode & 0o777, status.st_mtime) == (0o444, 0)
    assert os.path.samefile(mounted / "app" / blob, mounted / "other" / blob)
    assert not os.path.lexists(mounted / "app:1" / blob)

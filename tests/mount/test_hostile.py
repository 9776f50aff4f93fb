"""Hostile archives copied to `import/`: the errno of close, the report, and what remains."""

import errno
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from engine.errors import printable
from tests import archives
from tests.archives import ImageParts
from tests.cli.command import picture
from tests.filetree.layers import layer, member
from tests.hostile.cases import CASES
from tests.hostile.conftest import pieces
from tests.mounts import Mounted
from tests.waiting import wait_until

ERRNOS = {
    "path leaves, wanted": errno.EBADMSG,
    "cycle of symlinks": errno.EBADMSG,
    "block device, wanted": errno.EBADMSG,
    "the size is negative": errno.EBADMSG,
    "sparse, of 8 EiB": errno.EFBIG,
    "PAX header of 64 MiB": errno.EFBIG,
    "duplicate layer, the last is another": errno.EIO,
    "index names itself": errno.EIO,
    "indexes nest 20 deep": errno.EFBIG,
    "digest of md5": errno.EBADMSG,
    "size is too small": errno.EIO,
    "manifest that is an index too": errno.EBADMSG,
    "manifest over the limit": errno.EFBIG,
    "tag with escapes": errno.EBADMSG,
    "a million tags": errno.EFBIG,
    "gzip in a layer": errno.EIO,
    "zstd with a window of 2 GiB": errno.EBADMSG,
}


def write(path: Path, data: Iterable[bytes]) -> None:
    """Write a file and close it; raise the first error of either."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        for piece in pieces(data):
            os.write(descriptor, piece)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("name", ERRNOS)
def test_close_fails_with_the_errno_of_the_error(mounted: Mounted, name: str) -> None:
    mounted.load(archives.docker_archive((ImageParts(), ["before:1"])), "before.tar")
    before = picture(mounted.store)
    with pytest.raises(OSError, match=r"\[Errno") as raised:
        write(mounted.drop / "x.tar", CASES[name].make())
    assert raised.value.errno == ERRNOS[name]
    report = mounted.report()
    assert report["status"] == "failed"
    assert CASES[name].says in printable(report["error"], 2000)
    wait_until(lambda: not list((mounted.store / "ingest").iterdir()), "nothing half done is left")
    assert picture(mounted.store) == before
    assert (mounted / "before:1").is_dir()


def test_attributes_that_linux_cannot_list_are_not_shown(mounted: Mounted) -> None:
    """All that are listed can be read, which programs that copy them depend on."""
    names = ["user.", "a", "user." + "n" * 300, *(f"user.{n:0200}" for n in range(400))]
    records = {f"SCHILY.xattr.{name}": "x" for name in names}
    records["SCHILY.xattr.user.large"] = "x" * 65_537
    image = ImageParts([layer(member("f", records=records), member("d", b"5", records=records))])
    mounted.load(archives.oci_archive((image, "app:1")))
    for path in (mounted / "rootfs/app:1/f", mounted / "layers/app:1/00/d"):
        listed = os.listxattr(path)
        assert len(listed) > 300
        assert {os.getxattr(path, name) for name in listed} == {b"x"}

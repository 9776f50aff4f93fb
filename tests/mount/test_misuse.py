"""Forbidden operations fail with the right errno and change nothing."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.mounts import Mounted

APP = ImageParts()
REFUSED = {errno.EROFS, errno.EPERM, errno.EACCES}


@pytest.fixture
def app(mounted: Mounted) -> Mounted:
    mounted.load(archives.docker_archive((APP, ["app:1"])))
    return mounted


def picture(path: Path) -> list[tuple[str, os.stat_result, bytes]]:
    return [
        (str(p), p.lstat(), p.read_bytes() if p.is_file() else b"")
        for p in [path, *sorted(path.rglob("*"))]
    ]


def by_digest(image: Path) -> Path:
    return image.parent / os.getxattr(image, "user.oci.digest").decode()


def a_blob(image: Path) -> Path:
    return image / "blobs/sha256" / APP.id[7:]


MISUSES: dict[str, Callable[[Path], object]] = {
    "write": lambda d: open(d / "index.json", "r+b"),
    "append": lambda d: open(d / "index.json", "ab"),
    "truncate": lambda d: os.truncate(d / "index.json", 0),
    "open for truncation": lambda d: os.open(d / "index.json", os.O_RDONLY | os.O_TRUNC),
    "create": lambda d: open(d / "new", "xb"),
    "create in blobs": lambda d: open(d / "blobs/sha256/new", "xb"),
    "chmod": lambda d: os.chmod(d / "index.json", 0o777),
    "chmod directory": lambda d: os.chmod(d, 0o777),
    "chown": lambda d: os.chown(d / "index.json", 1, 1),
    "utime": lambda d: os.utime(d / "index.json", (1, 1)),
    "unlink of a repository's": lambda d: os.unlink(d.parent / "app/index.json"),
    "unlink where it is not listed": lambda d: os.unlink(by_digest(d) / "index.json"),
    "unlink in a repository": lambda d: os.unlink(a_blob(d.parent / "app")),
    "mkdir": lambda d: os.mkdir(d / "new"),
    "mkdir in blobs": lambda d: os.mkdir(d / "blobs/new"),
    "mkdir of an image": lambda d: os.mkdir(d.parent / "app:2"),
    "rmdir inside": lambda d: os.rmdir(d / "blobs"),
    "rename inside": lambda d: os.rename(d / "index.json", d / "new"),
    "rename out": lambda d: os.rename(d / "index.json", d.parent / "import" / "new"),
    "rename directory in": lambda d: os.rename(d, d.parent / "import" / "new"),
    "link": lambda d: os.link(d / "index.json", d / "new"),
    "link out": lambda d: os.link(d / "index.json", d.parent / "import" / "new"),
    "symlink": lambda d: os.symlink("index.json", d / "new"),
    "mknod": lambda d: os.mknod(d / "new", stat.S_IFIFO | 0o644),
    "mknod beside": lambda d: os.mknod(d.parent / "new", stat.S_IFIFO | 0o644),
    "create beside": lambda d: open(d.parent / "new", "xb"),
    "setxattr": lambda d: os.setxattr(d / "index.json", "user.x", b"y"),
    "removexattr": lambda d: os.removexattr(d, "user.oci.digest"),
    "unlink directory": lambda d: os.unlink(d / "blobs"),
}


OTHERWISE = {
    "unlink directory": {errno.EISDIR},
    "rmdir inside": {errno.ENOTEMPTY},
    "mkdir of an image": {errno.EINVAL},
}


@pytest.mark.parametrize("name", MISUSES)
def test_an_image_directory_cannot_be_changed(app: Mounted, name: str) -> None:
    before, names = picture(app / "app:1"), app.names()
    with pytest.raises(OSError) as raised:  # noqa: PT011 (the errno is what is asserted)
        MISUSES[name](app / "app:1")
    allowed = REFUSED | OTHERWISE.get(name, set())
    assert raised.value.errno in allowed, raised.value
    assert picture(app / "app:1") == before
    assert app.names() == names


def test_import_accepts_only_files_and_directories(app: Mounted) -> None:
    os.mkdir(app.drop / "directory")
    os.rmdir(app.drop / "directory")
    with pytest.raises(OSError, match="not permitted"):
        os.symlink("x", app.drop / "link")
    with pytest.raises(OSError, match="not permitted"):
        os.mkfifo(app.drop / "fifo")
    with pytest.raises(OSError, match="not supported"):
        (app.drop / "x.tar").read_bytes()
    with pytest.raises(FileNotFoundError):
        os.unlink(app.drop / "nope")

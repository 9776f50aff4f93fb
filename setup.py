"""Build the native library, which is optional; pyproject.toml cannot describe it."""

import shutil
import subprocess

from setuptools import Extension, setup
from setuptools.command.dist_info import dist_info


class CheckedDistInfo(dist_info):
    """Refuse at once where pyfuse3, which is built on this machine, could not be built."""

    def run(self) -> None:
        config = shutil.which("pkg-config")
        if not config or subprocess.run([config, "--exists", "fuse3"], check=False).returncode:
            raise SystemExit(
                "imgfs: libfuse 3's headers or pkg-config are missing; they are needed because"
                " pyfuse3 has no wheels. On Debian and Ubuntu, as root:"
                " apt-get install libfuse3-dev pkg-config gcc python3-dev fuse3"
            )
        super().run()


setup(
    cmdclass={"dist_info": CheckedDistInfo},
    ext_modules=[
        Extension(
            "imgfs.fuse.native.libsession",
            [
                "imgfs/fuse/native/session.c",
                "imgfs/fuse/native/passthrough.c",
                "imgfs/fuse/native/gather.c",
                "imgfs/fuse/native/listing.c",
            ],
            depends=["imgfs/fuse/native/session.h"],
            include_dirs=["/usr/include/fuse3"],
            libraries=["fuse3", "dl"],
            optional=True,
        )
    ],
)

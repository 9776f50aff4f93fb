"""Build the native library, which is optional; pyproject.toml cannot describe it."""

from setuptools import Extension, setup

setup(
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
    ]
)

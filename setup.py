"""What pyproject.toml cannot say: the part in C, without which imgfs does as well, only slower."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "imgfs.libsession",
            ["imgfs/session.c", "imgfs/passthrough.c", "imgfs/gather.c", "imgfs/listing.c"],
            depends=["imgfs/session.h"],
            include_dirs=["/usr/include/fuse3"],
            libraries=["fuse3", "dl"],
            optional=True,
        )
    ]
)

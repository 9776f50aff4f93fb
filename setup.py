"""Build the native libraries, which are optional, the manual pages, and the completion of shells;
pyproject.toml cannot describe them.
"""

import shutil
import subprocess
import sys
from distutils.command.install_data import install_data  # setuptools has it in no other place
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.dist_info import dist_info

COMPLETIONS = {
    "bash": "share/bash-completion/completions/imgfs",
    "fish": "share/fish/vendor_completions.d/imgfs.fish",
    "zsh": "share/zsh/site-functions/_imgfs",
}


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


class ForShells(install_data):
    """Make the manual pages and the completion of shells, of the parsers of the commands."""

    def run(self) -> None:
        sys.path.insert(0, str(Path(__file__).parent))
        from imgfs.cli.completion import script
        from scripts.lib.man import pages

        texts = {f"share/man/man1/{n}": p for n, p in pages(self.distribution.get_version())}
        texts |= {place: f"{script(shell)}\n" for shell, place in COMPLETIONS.items()}
        for place, text in texts.items():
            target = Path(self.install_dir, place)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
            self.outfiles.append(str(target))


setup(
    cmdclass={"dist_info": CheckedDistInfo, "install_data": ForShells},
    data_files=[("share", [])],  # so that install_data runs
    ext_modules=[
        Extension(
            "imgfs.fuse.native.libsession",
            [
                "imgfs/fuse/native/session.c",
                "imgfs/fuse/native/passthrough.c",
                "imgfs/fuse/native/gather.c",
                "imgfs/fuse/native/listing.c",
                "imgfs/fuse/native/direct.c",
                "imgfs/fuse/native/trees.c",
            ],
            depends=["imgfs/fuse/native/session.h"],
            include_dirs=["/usr/include/fuse3"],
            libraries=["fuse3", "dl"],
            optional=True,
        ),
        Extension("engine.hashing.multi_buffer", ["engine/hashing/multi_buffer.c"], optional=True),
    ],
)

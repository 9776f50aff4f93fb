"""rsync and scp into `import/` over a real ssh, whose server is started by the client and reached
by a pipe, so that there is no network.
"""

import getpass
import os
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import archives, directories
from tests.archives import ImageParts
from tests.clients.client import Client, find, require_root
from tests.clients.test_directory_copies import literal_bytes
from tests.directories import layout, put, status
from tests.mounts import Mounted

BASE = archives.layer("base", os.urandom(1_000_000))
APP = ImageParts(layers=[BASE])
NEXT = ImageParts(layers=[BASE, archives.layer("next")])
LAYOUT = layout((APP, "1"))

SERVER = """\
HostKey {folder}/key
AuthorizedKeysFile {folder}/key.pub
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
PidFile none
Subsystem sftp internal-sftp
"""


@pytest.fixture
def ssh(tmp_path: Path) -> str:
    """The command line of an ssh that reaches this machine under any name."""
    require_root("sshd")
    server = find("sshd")
    key = tmp_path / "key"
    Client((find("ssh-keygen"), "-q"))("-t", "ed25519", "-N", "", "-f", key)
    (tmp_path / "sshd.conf").write_text(SERVER.format(folder=tmp_path))
    started = f"mkdir -p /run/sshd && exec {server} -i -f {tmp_path}/sshd.conf"
    isolated = f"mount -t tmpfs tmpfs /run && {started}"
    proxy = shlex.join(["unshare", "--mount", "sh", "-c", isolated])
    options = [
        *("-F", "none", "-i", str(key), "-l", getpass.getuser()),
        *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
        *("-o", "LogLevel=ERROR", "-o", f"ProxyCommand={proxy}"),
    ]
    return shlex.join([find("ssh"), *options])


def test_rsync_moves_what_the_other_side_lacks(
    ssh: str, mounted: Mounted, mount: Callable[..., Mounted]
) -> None:
    there = mount(store="there", at="there-mnt")
    for image, tag in ((APP, "1"), (NEXT, "2")):
        name = f"docker.io/library/app:{tag}"
        mounted.load(archives.oci_archive((image, name), gzipped=True))
    rsync = Client((find("rsync"), "-rt", "--stats", "-e", ssh))
    assert literal_bytes(rsync(mounted / "app:1", f"host:{there.drop}/")) > len(
        archives.compressed(BASE)
    )
    assert literal_bytes(rsync(mounted / "app:2", f"host:{there.drop}/")) < 10_000
    assert there.names() == ["app:1", "app:2", "import"]
    directories.check(there)


@pytest.mark.parametrize("options", ["-O", "-s"], ids=["rcp", "sftp"])
def test_scp_copies_a_directory(options: str, ssh: str, mounted: Mounted, tmp_path: Path) -> None:
    """With either of its protocols."""
    put(tmp_path / "app", LAYOUT)
    command, *rest = shlex.split(ssh)
    rest.remove("-l")
    rest.remove(getpass.getuser())
    scp = Client((find("scp"), options, "-q", "-r", "-S", command, *rest))
    for _ in range(2):
        scp(tmp_path / "app", f"{getpass.getuser()}@host:{mounted.drop}/")
        assert mounted.names() == ["app:1", "import"]
    assert status(mounted.drop / "app") == "loaded"

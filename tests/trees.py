"""Trees of files on disk for tests, and how two of them compare."""

import os
import socket
from pathlib import Path

from engine.commit.differ import checksum_of, kept_xattrs
from engine.filetree.entry import FileEntry
from engine.filetree.tree import Tree

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
"""cap_net_bind_service+ep, as the kernel keeps it."""


def make_odd(root: Path) -> None:
    """Every kind of entry that a root file system may hold; needs root."""
    (root / "etc/deep/er").mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    (root / "empty").touch()
    (root / "etc/link").symlink_to("../etc/passwd")
    (root / "dangling").symlink_to("/no/where/" + "x" * 150)
    os.link(root / "etc/passwd", root / "etc/zz-hard")
    os.link(root / "etc/passwd", root / "a-hard")
    (root / "suid").write_bytes(b"#!")
    os.chown(root / "suid", 7, 8)
    (root / "suid").chmod(0o6755)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    os.mkfifo(root / "fifo", 0o640)
    os.mknod(root / "null", 0o020666, os.makedev(1, 3))
    os.mknod(root / "disk", 0o060660, os.makedev(259, 70000))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "s"))
    (root / "big-owner").touch()
    os.chown(root / "big-owner", 2**21 + 5, 3_000_000)
    (root / ("long" * 50)).mkdir()
    (root / ("long" * 50) / ("name" * 40)).write_bytes(b"deep\n" * 300)
    (root / "caf\u00e9 \u2028").write_bytes(b"1")
    Path(os.fsdecode(os.fsencode(root) + b"/not-\xff-utf8")).write_bytes(b"2")
    with (root / "sparse").open("wb") as sparse:
        sparse.seek(3_000_000)
        sparse.write(b"end")
    (root / "noted").write_bytes(b"x")
    os.setxattr(root / "noted", "user.note", b"a\x00b=\xff\n")
    (root / "capable").write_bytes(b"x")
    os.setxattr(root / "capable", "security.capability", CAPABILITY)
    os.utime(root / "empty", ns=(0, -5_500_000_000))
    os.utime(root / "noted", ns=(0, 1_600_000_000_123_456_789))
    os.utime(root / "dangling", ns=(0, 99_500_000_000), follow_symlinks=False)
    os.utime(root / "null", ns=(0, 96_500_000_000))
    os.utime(root / "fifo", ns=(0, 98_000_000_001))
    os.utime(root / "tmp", (1, 97))
    os.utime(root / "etc/deep/er", ns=(0, 98_250_000_000))


def told(entry: FileEntry) -> tuple[object, ...]:
    """What must survive of an entry."""
    return (
        entry.kind,
        oct(entry.mode) if entry.kind != "symlink" else "",
        entry.uid,
        entry.gid,
        entry.mtime_ns,
        entry.size,
        entry.linkname,
        entry.device,
        kept_xattrs(entry),
        checksum_of(entry) if entry.kind == "file" else "",
    )


def picture(tree: Tree) -> dict[str, object]:
    """A tree as values that compare, but for its root, and with its groups of hard links."""
    entries: dict[str, object] = {path: told(entry) for path, entry in tree.items() if path}
    groups = sorted(tree.links().values())
    return {**entries, "links": groups}

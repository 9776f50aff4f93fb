"""Loading through `import/`: ways of writing, and outcomes."""

import errno
import gzip
import lzma
import os
import random
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import archives
from tests.archives import ImageParts
from tests.local_engine import LocalEngine
from tests.mounts import Mounted, run, write
from tests.waiting import wait_until

APP = ImageParts(layers=[archives.layer("a", os.urandom(300_000)), archives.layer("b")])
ARCHIVE = archives.docker_archive((APP, ["app:1"]))


def rows(mounted: Mounted) -> list[object]:
    """Return every row of the store."""
    with LocalEngine(mounted.store) as engine:
        tables = ("blobs", "images", "targets", "members", "manifests", "leases", "lease_resources")
        return [engine.database.read(f"SELECT * FROM {table}") for table in tables]


def test_the_status_has_the_bytes_of_what_is_being_loaded(mounted: Mounted) -> None:
    with open(mounted.path / "import/app.tar", "wb", buffering=0) as writing:
        writing.write(ARCHIVE[:100_000])
        assert mounted.status("loading") == {"app.tar": {"bytes": 100_000}}
        writing.write(ARCHIVE[100_000:])
        assert mounted.status("loading") == {"app.tar": {"bytes": len(ARCHIVE)}}
    assert mounted.status("loading") == {}
    assert mounted.status("imports") == {"loaded": 1}
    assert mounted.status("collecting") is None


def blobs(mounted: Mounted) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in (mounted.store / "blobs").rglob("*") if p.is_file()}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "app.tar"
    path.write_bytes(ARCHIVE)
    return path


WRITERS = {
    "cp": "cp {a} {d}/x.tar",
    "cp -a": "cp -a {a} {d}/x.tar",
    "mv": "cp {a} {a}.2 && mv {a}.2 {d}/x.tar",
    "cat": "cat {a} > {d}/x.tar",
    "tee": "tee {d}/x.tar < {a} > /dev/null",
    "dd odd": "dd if={a} of={d}/x.tar bs=10007 status=none",
    "dd small": "dd if={a} of={d}/x.tar bs=512 status=none",
    "dd fsync": "dd if={a} of={d}/x.tar bs=64k conv=fsync status=none",
    "dd sync": "dd if={a} of={d}/x.tar bs=64k oflag=sync status=none",
    "rsync": "rsync -a {a} {d}/",
    "rsync inplace": "rsync --inplace {a} {d}/x.tar",
    "rsync with attributes": (
        "setfattr -n user.note -v hi {a} && rsync -aX {a} {d}/ && rsync -aX {a} {d}/"
    ),
    "rsync inplace over more": (
        "(cat {a}; head -c 99999 /dev/zero) >{d}/x.tar && rsync --inplace {a} {d}/x.tar"
    ),
    "preallocated": (
        "truncate -s 10M {d}/x.tar && dd if={a} of={d}/x.tar conv=notrunc status=none"
        " && truncate -s $(stat -c %s {a}) {d}/x.tar"
    ),
    "two parts in one redirection": "{{ head -c 100000 {a}; tail -c +100001 {a}; }} > {d}/x.tar",
    "sparse": "cp --sparse=always {a} {d}/x.tar",
    "install": "install -m 600 {a} {d}/x.tar",
    "python": "python3 -c 'import shutil,sys; shutil.copyfile(*sys.argv[1:])' {a} {d}/x.tar",
}


@pytest.mark.parametrize("command", WRITERS.values(), ids=list(WRITERS))
def test_every_program_that_writes_a_file_loads_it(
    mounted: Mounted, archive: Path, command: str
) -> None:
    run("bash", "-c", command.format(a=archive, d=mounted.drop))
    assert (mounted / "app:1").is_dir()
    assert mounted.names("import") == []
    (name,) = [name for name in ("x.tar", "app.tar") if (mounted.drop / name).exists()]
    receipt = (mounted.drop / name).stat()
    assert receipt.st_size == len(ARCHIVE)
    assert os.getxattr(mounted.drop / name, "user.imgfs.status") == b"loaded"
    assert os.getxattr(mounted.drop / name, "user.imgfs.images") == b"docker.io/library/app:1"
    assert mounted.report(name)["images"][0]["id"] == APP.id


def test_rsync_skips_a_file_that_is_loaded(mounted: Mounted, archive: Path) -> None:
    run("rsync", "-a", archive, f"{mounted.drop}/")
    second = run("rsync", "-ai", archive, f"{mounted.drop}/")
    assert second.stdout == b""


def test_a_loaded_file_shows_the_attributes_of_its_images(mounted: Mounted) -> None:
    mounted.load(ARCHIVE)
    receipt = mounted.drop / "x.tar"
    os.setxattr(receipt, "user.note", b"hi")
    assert os.getxattr(receipt, "user.note") == b"hi"
    os.removexattr(receipt, "user.note")
    os.removexattr(receipt, "user.imgfs.status")
    assert sorted(os.listxattr(receipt)) == ["user.imgfs.images", "user.imgfs.status"]
    for name, size, message in (
        ("user.imgfs.status", 1, "not permitted"),
        ("user.big", 65_000 + 1000, "(No space|too long|too large)"),
        ("trusted.x", 1, "not supported"),
    ):
        with pytest.raises(OSError, match=message):
            os.setxattr(receipt, name, b"x" * size)
    with pytest.raises(OSError, match="No data"):
        os.removexattr(receipt, "user.note")


def test_a_file_with_written_bytes_cannot_be_truncated(mounted: Mounted) -> None:
    descriptor = os.open(mounted.drop / "x.tar", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, ARCHIVE)
    with pytest.raises(OSError, match="Invalid"):
        os.ftruncate(descriptor, 1000)
    os.ftruncate(descriptor, len(ARCHIVE) + 5000)
    os.ftruncate(descriptor, len(ARCHIVE))
    os.close(descriptor)
    assert (mounted.drop / "x.tar").stat().st_size == len(ARCHIVE)


def test_writes_out_of_order_load(mounted: Mounted) -> None:
    pieces = [(i, ARCHIVE[i : i + 7000]) for i in range(0, len(ARCHIVE), 7000)]
    random.Random(7).shuffle(pieces)
    descriptor = os.open(mounted.drop / "x.tar", os.O_WRONLY | os.O_CREAT)
    for offset, data in pieces:
        os.pwrite(descriptor, data, offset)
    os.close(descriptor)
    assert (mounted / "app:1").is_dir()


def test_overlapping_writes_load(mounted: Mounted) -> None:
    descriptor = os.open(mounted.drop / "x.tar", os.O_WRONLY | os.O_CREAT)
    os.pwrite(descriptor, ARCHIVE[100_000:200_000], 100_000)
    os.pwrite(descriptor, ARCHIVE[150_000:], 150_000)
    os.pwrite(descriptor, ARCHIVE[:120_000], 0)
    os.close(descriptor)
    assert (mounted / "app:1").is_dir()


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress], ids=["gzip", "xz"])
def test_a_compressed_archive_is_loaded(
    mounted: Mounted, compress: Callable[[bytes], bytes]
) -> None:
    mounted.load(compress(ARCHIVE))
    assert (mounted / "app:1").is_dir()


def broken_archives() -> dict[str, tuple[bytes, int, str]]:
    image = APP.manifest()
    entry = archives.descriptor(image, archives.OCI_MANIFEST)
    wrong = ImageParts(layers=[archives.layer("a")])
    oci = archives.oci_members([entry], APP.blobs())
    changed = [
        (n, d[::-1] if n.endswith(archives.digest(APP.layers[0])[7:]) else d) for n, d in oci
    ]
    return {
        "truncated": (ARCHIVE[:-20_000], errno.EBADMSG, "truncated"),
        "empty tar": (bytes(10240), errno.EBADMSG, "archive"),
        "garbage": (b"no archive at all" * 100, errno.EBADMSG, ""),
        "no image": (archives.tar([("README", b"hello")]), errno.EBADMSG, "manifest.json"),
        "null": (archives.tar([("manifest.json", b"null")]), errno.EBADMSG, "manifest.json"),
        "no config": (
            archives.tar([("manifest.json", b'[{"Config":"c.json","Layers":[]}]')]),
            errno.EBADMSG,
            "c.json",
        ),
        "wrong layer": (
            archives.docker_archive((wrong, ["x:1"])).replace(b"hello\n", b"HELLO\n"),
            errno.EIO,
            archives.digest(wrong.layers[0]),
        ),
        "wrong blob": (archives.tar(changed), errno.EIO, archives.digest(APP.layers[0])),
        "no blob": (
            archives.tar([(n, d) for n, d in oci if APP.id[7:] not in n]),
            errno.EBADMSG,
            APP.id[7:],
        ),
        "bad gzip": (gzip.compress(ARCHIVE)[:-5000], errno.EBADMSG, "gzip"),
    }


BROKEN = broken_archives()


@pytest.mark.parametrize("name", BROKEN)
def test_a_bad_archive_fails_at_close_and_changes_nothing(mounted: Mounted, name: str) -> None:
    data, expected, culprit = BROKEN[name]
    mounted.load(archives.docker_archive((ImageParts(), ["before:1"])), "before.tar")
    before = rows(mounted), blobs(mounted)
    with pytest.raises(OSError) as raised:  # noqa: PT011 (the errno is what is asserted)
        mounted.load(data)
    assert raised.value.errno == expected
    assert (rows(mounted), blobs(mounted)) == before
    wait_until(lambda: not list((mounted.store / "ingest").iterdir()), "nothing half done is left")
    report = mounted.report()
    assert report["status"] == "failed"
    assert culprit in report["error"]
    assert mounted.names("import") == ["x.tar.failed.txt"]
    assert not (mounted.drop / "x.tar").exists()
    text = (mounted.drop / "x.tar.failed.txt").read_text()
    assert text.startswith(f"x.tar was not loaded: {report['error']}\n")


def test_cp_fails_for_a_bad_archive(mounted: Mounted, tmp_path: Path) -> None:
    bad = tmp_path / "bad.tar"
    bad.write_bytes(ARCHIVE[:-20_000])
    done = subprocess.run(["cp", bad, mounted.drop], capture_output=True, check=False)
    assert done.returncode == 1
    assert b"Bad message" in done.stderr
    write(mounted.drop / "bad.tar", ARCHIVE)
    assert mounted.report("bad.tar")["status"] == "loaded"


def test_a_flush_before_the_first_write_succeeds(mounted: Mounted) -> None:
    descriptor = os.open(mounted.drop / "x.tar", os.O_WRONLY | os.O_CREAT)
    os.close(os.dup(descriptor))
    os.write(descriptor, ARCHIVE)
    os.close(descriptor)
    assert (mounted / "app:1").is_dir()


def test_a_shell_may_close_the_file_before_its_command_writes(mounted: Mounted) -> None:
    with (mounted.drop / "x.tar").open("wb") as file:
        writer = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file)
    writer.communicate(ARCHIVE)
    assert writer.returncode == 0
    assert (mounted / "app:1").is_dir()


def test_closing_an_empty_file_fails(mounted: Mounted, tmp_path: Path) -> None:
    (tmp_path / "x.tar").touch()
    done = subprocess.run(
        ["cp", tmp_path / "x.tar", mounted.drop], capture_output=True, check=False
    )
    assert done.returncode == 1
    assert b"Bad message" in done.stderr
    assert "nothing was written" in mounted.report()["error"]


def test_a_redirection_without_output_is_reported(mounted: Mounted) -> None:
    run("bash", "-c", f": > {mounted.drop}/x.tar")
    wait_until(lambda: mounted.report()["status"] == "failed", "the last descriptor is closed")
    mounted.load(ARCHIVE)
    assert mounted.report()["status"] == "loaded"


def test_two_archives_in_one_file_both_load(mounted: Mounted, tmp_path: Path) -> None:
    one, two = tmp_path / "1.tar", tmp_path / "2.tar"
    one.write_bytes(archives.docker_archive((ImageParts(), ["one:1"])))
    two.write_bytes(ARCHIVE)
    run("bash", "-c", f"(cat {one}; cat {two}) > {mounted.drop}/x.tar")
    assert mounted.names() == ["app:1", "import", "one:1"]
    assert [i["names"] for i in mounted.report()["images"]] == [
        ["docker.io/library/one:1"],
        ["docker.io/library/app:1"],
    ]


def test_an_archive_after_a_hole_loads(mounted: Mounted) -> None:
    one = archives.docker_archive((ImageParts(), ["one:1"]))
    with (mounted.drop / "x.tar").open("wb") as file:
        file.write(one)
        file.seek(1 << 20)
        file.write(ARCHIVE)
    assert mounted.names() == ["app:1", "import", "one:1"]


def test_a_flush_within_an_archive_fails_and_loading_continues(mounted: Mounted) -> None:
    descriptor = os.open(mounted.drop / "x.tar", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, ARCHIVE[:100_000])
    with pytest.raises(OSError, match="Bad message"):
        os.close(os.dup(descriptor))
    os.write(descriptor, ARCHIVE[100_000:])
    os.close(descriptor)
    assert (mounted / "app:1").is_dir()
    assert mounted.report()["status"] == "loaded"


def test_a_flush_within_an_archive_leaves_its_gaps_to_later_writes(mounted: Mounted) -> None:
    descriptor = os.open(mounted.drop / "x.tar", os.O_WRONLY | os.O_CREAT)
    half = len(ARCHIVE) // 2
    os.pwrite(descriptor, ARCHIVE[half:], half)
    os.close(os.dup(descriptor))
    os.pwrite(descriptor, ARCHIVE[:1000], 0)
    os.close(os.dup(descriptor))
    os.pwrite(descriptor, ARCHIVE[1000:half], 1000)
    os.close(descriptor)
    assert mounted.report()["status"] == "loaded"
    assert (mounted / "app:1").is_dir()


def test_a_flush_leaves_the_hole_of_a_preallocated_file(mounted: Mounted) -> None:
    descriptor = os.open(mounted.drop / "x.tar", os.O_WRONLY | os.O_CREAT)
    os.ftruncate(descriptor, len(ARCHIVE))
    os.write(descriptor, ARCHIVE[:1000])
    os.close(os.dup(descriptor))
    os.write(descriptor, ARCHIVE[1000:])
    os.close(descriptor)
    assert (mounted / "app:1").is_dir()


def test_the_last_close_of_an_archive_with_a_gap_fails(mounted: Mounted) -> None:
    descriptor = os.open(mounted.drop / "x.tar", os.O_WRONLY | os.O_CREAT)
    os.pwrite(descriptor, ARCHIVE[200_000:], 200_000)
    os.pwrite(descriptor, ARCHIVE[:1000], 0)
    os.close(os.dup(descriptor))
    with pytest.raises(OSError, match=r"(Bad message|Input/output)"):
        os.close(descriptor)
    assert mounted.report()["status"] == "failed"
    assert mounted.names() == ["import"]


def test_a_loaded_file_can_be_renamed_changed_and_removed(mounted: Mounted) -> None:
    mounted.load(ARCHIVE)
    receipt = mounted.drop / "x.tar"
    receipt.chmod(0o600)
    os.utime(receipt, (1, 2))
    receipt.rename(mounted.drop / "y.tar")
    status = (mounted.drop / "y.tar").stat()
    assert (status.st_mode & 0o777, status.st_mtime, status.st_size) == (0o600, 2, len(ARCHIVE))
    assert mounted.report("y.tar")["status"] == "loaded"
    (mounted.drop / "y.tar").unlink()
    assert not (mounted.drop / "y.tar").exists()
    assert (mounted / "app:1").is_dir()


def test_a_load_moves_the_name_and_keeps_the_old_image(mounted: Mounted) -> None:
    mounted.load(ARCHIVE)
    first = os.getxattr(mounted / "app:1", "user.oci.digest").decode()
    other = ImageParts(layers=[archives.layer("other")])
    mounted.load(archives.docker_archive((other, ["app:1"])))
    assert os.getxattr(mounted / "app:1", "user.oci.digest").decode() != first
    assert other.id[7:] in os.listdir(mounted / "app:1/blobs/sha256")
    assert mounted.names() == ["app:1", "import", first]


def test_two_loads_of_one_image_at_the_same_time_succeed(mounted: Mounted) -> None:
    errors: list[OSError] = []
    barrier = threading.Barrier(4)

    def load(i: int) -> None:
        barrier.wait()
        try:
            mounted.load(ARCHIVE, f"{i}.tar")
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=load, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(blobs(mounted)) == 4
    assert (mounted / "app:1").is_dir()


def test_written_bytes_cannot_be_written_again(mounted: Mounted) -> None:
    descriptor = os.open(mounted.drop / "x.tar", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, ARCHIVE[:1000])
    with pytest.raises(OSError, match="Illegal seek"):
        os.pwrite(descriptor, b"x", 0)
    os.write(descriptor, ARCHIVE[1000:])
    os.close(descriptor)


def test_an_archive_over_the_configured_limit_fails(mount: Callable[..., Mounted]) -> None:
    one = mount(options=("-o", f"max_archive_bytes={len(ARCHIVE) - 1}"))
    with pytest.raises(OSError, match="File too large"):
        one.load(ARCHIVE)
    assert one.report()["status"] == "failed"


def test_the_report_lists_what_the_archive_lacks(mounted: Mounted) -> None:
    other = ImageParts(layers=[archives.layer("other")])
    entries = [
        archives.descriptor(
            parts.manifest(), archives.OCI_MANIFEST, annotations={"io.containerd.image.name": name}
        )
        for parts, name in ((APP, "docker.io/library/app:1"), (other, "docker.io/library/other:1"))
    ]
    members = archives.oci_members(entries, [*APP.blobs(), other.manifest(), other.config])
    mounted.load(archives.tar(members))
    assert (mounted / "app:1").is_dir()
    assert not (mounted / "other:1").exists()
    (left_out,) = mounted.report()["left_out"]
    assert left_out["name"] == "docker.io/library/other:1"
    assert archives.digest(other.layers[0])[7:] in left_out["reason"]


# -- what failed ----------------------------------------------------------------------------------


def test_a_failure_is_listed_until_its_file_is_loaded(mounted: Mounted) -> None:
    for name in ("a.tar", "b.tar", ".c.tar.Ab3xYz"):
        with pytest.raises(OSError, match="Bad message"):
            mounted.load(ARCHIVE[:-20_000], name)
    assert mounted.names("import") == [f"{name}.tar.failed.txt" for name in "abc"]
    status = (mounted.drop / "a.tar.failed.txt").stat()
    assert (status.st_mode & 0o777, status.st_size > 100) == (0o444, True)
    mounted.load(ARCHIVE, "a.tar")
    mounted.load(ARCHIVE, ".c.tar.Zz9999")
    os.rename(mounted.drop / ".c.tar.Zz9999", mounted.drop / "c.tar")
    assert mounted.names("import") == ["b.tar.failed.txt"]
    (mounted.drop / "b.tar.failed.txt").unlink()
    assert mounted.names("import") == []
    assert mounted.report("b.tar")["status"] == "failed", "the report of the mount stays"


def test_the_report_of_a_failure_names_what_an_earlier_close_loaded(mounted: Mounted) -> None:
    """As in `{ cat a.tar; cat b.tar; } > import/x.tar`, where each cat closes the file."""
    fd = os.open(mounted.drop / "x.tar", os.O_WRONLY | os.O_CREAT)
    try:
        assert os.write(fd, ARCHIVE) == len(ARCHIVE)
        os.close(os.dup(fd))
        os.write(fd, ARCHIVE[:-20_000])
    finally:
        with pytest.raises(OSError, match="Bad message"):
            os.close(fd)
    text = (mounted.drop / "x.tar.failed.txt").read_text()
    assert "loaded of it before is kept: docker.io/library/app:1." in text
    assert mounted.report()["kept"] == ["docker.io/library/app:1"]
    assert "app:1" in mounted.names()


def test_renaming_a_loaded_file_over_a_failed_one_removes_the_report(mounted: Mounted) -> None:
    """Browsers load x.tar.part and then rename it."""
    with pytest.raises(OSError, match="Bad message"):
        mounted.load(ARCHIVE[:-20_000], "x.tar")
    mounted.load(ARCHIVE, "other")
    os.rename(mounted.drop / "other", mounted.drop / "x.tar")
    assert mounted.names("import") == []


def test_a_report_of_a_failure_cannot_be_replaced(mounted: Mounted) -> None:
    with pytest.raises(OSError, match="Bad message"):
        mounted.load(ARCHIVE[:-20_000], "x.tar")
    mounted.load(ARCHIVE, "good.tar")
    for name in ("x.tar.failed.txt", "y.tar.failed.txt", ".y.tar.failed.txt.Ab3xYz"):
        with pytest.raises(OSError, match=r"(not permitted|Read-only)"):
            mounted.load(ARCHIVE, name)
        with pytest.raises(PermissionError):
            os.rename(mounted.drop / "good.tar", mounted.drop / name)
    with pytest.raises(PermissionError):
        os.rename(mounted.drop / "x.tar.failed.txt", mounted.drop / "z.tar")
    assert mounted.names("import") == ["x.tar.failed.txt"]


def test_the_failure_of_a_file_with_a_long_name_is_listed(mounted: Mounted) -> None:
    name = "é" * 127 + "n"
    with pytest.raises(OSError, match="Bad message"):
        mounted.load(ARCHIVE[:-20_000], name)
    (report,) = mounted.names("import")
    assert len(os.fsencode(report)) <= 255
    assert name in (mounted.drop / report).read_text()
    (mounted.drop / report).unlink()
    mounted.load(ARCHIVE, name)
    assert mounted.names("import") == []
    assert (mounted.drop / name).stat().st_size == len(ARCHIVE)
    (described,) = mounted.names(".imgfs/imports")
    assert len(os.fsencode(described)) <= 255
    assert mounted.report(described.removesuffix(".json"))["file"] == name


def test_a_failed_file_is_listed_again_when_more_is_written(mounted: Mounted) -> None:
    descriptor = os.open(mounted.drop / "x.tar", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, ARCHIVE[:100_000])
    with pytest.raises(OSError, match="Bad message"):
        os.close(os.dup(descriptor))
    assert mounted.names("import") == ["x.tar.failed.txt"]
    assert not (mounted.drop / "x.tar").exists()
    assert os.fstat(descriptor).st_size == 100_000
    os.write(descriptor, ARCHIVE[100_000:])
    os.fchmod(descriptor, 0o600)
    os.close(descriptor)
    assert mounted.names("import") == []
    assert (mounted.drop / "x.tar").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("how", ["touch {}", "cp /dev/null {}", "truncate -s 20000 {}", ": > {}"])
def test_a_file_without_bytes_is_reported(mounted: Mounted, how: str) -> None:
    """It is reported whether or not close() fails."""
    subprocess.run(["bash", "-c", how.format(mounted.drop / "x.tar")], check=False)
    wait_until(lambda: mounted.names("import") == ["x.tar.failed.txt"], "the failure is listed")
    assert "is empty" in (mounted.drop / "x.tar.failed.txt").read_text()
    assert not (mounted.drop / "x.tar").exists()


def test_tar_can_read_everything_that_is_listed(mounted: Mounted) -> None:
    """The files are one that is written, one that is loaded and one that has failed."""
    mounted.load(ARCHIVE, "a.tar")
    with pytest.raises(OSError, match="Bad message"):
        mounted.load(ARCHIVE[:-20_000], "b.tar")
    descriptor = os.open(mounted.drop / "c.tar", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, ARCHIVE[:100_000])
    run("tar", "-C", mounted.path, "-cf", "/dev/null", ".")
    os.write(descriptor, ARCHIVE[100_000:])
    os.close(descriptor)


def test_a_file_of_that_name_elsewhere_does_not_hide_what_is_wrong(
    mounted: Mounted, tmp_path: Path
) -> None:
    """A gap is a hole once no process has the file of this mount open."""
    path = tmp_path / "import" / "x.tar"
    path.parent.mkdir()
    with path.open("wb") as other, subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=other):
        descriptor = os.open(mounted.drop / "x.tar", os.O_WRONLY | os.O_CREAT)
        os.pwrite(descriptor, b"no archive", 100_000)
        with pytest.raises(OSError, match="Bad message"):
            os.close(descriptor)

"""Write an image as one archive: to a pipe, to a file, and with layers uncompressed."""

import shutil

from scripts.lib.bench.bench import Bench
from scripts.lib.bench.images import NAME, StoredImage, gzip_layers
from scripts.lib.bench.mounting import IMGFS
from scripts.lib.bench.results import Goal, Row
from scripts.lib.bench.running import command
from scripts.lib.bench.turns import Contender, Sample

FULL_NAME = f"docker.io/library/{NAME}"
_TAR, _MOUNT, _SAVE, _START = "tar, disk", "tar, imgfs, first", "imgfs save", "imgfs images"


def measure(bench: Bench) -> None:
    image = bench.images.image(bench.size)
    image.warm()
    with bench.mounted(image.store) as mount:

        def first() -> Sample:
            mount.remount()
            return command(["tar", "-C", mount.path / NAME, "-c", "."], mount.daemon)

        imgfs = [*IMGFS, "--store", str(image.store)]
        ours = [
            Contender(_TAR, lambda: command(["tar", "-C", image.layout, "-c", "."])),
            Contender(_MOUNT, first),
            Contender(_SAVE, lambda: command([*imgfs, "save", "-q", NAME])),
            Contender(_START, lambda: command([*imgfs, "images"])),
        ]
        theirs = _peers(bench, image)
        done = bench.contest("saving to a pipe", [*ours, *theirs], image.size)
    report = bench.report
    best = done.fastest(peer.name for peer in theirs)
    what = (
        f"tar of the {bench.size} image through the mount, first, ÷ the fastest peer's save, time"
    )
    report.time(done, what, _MOUNT, Goal(0.15, 0.25), best)
    what = f"imgfs save of the {bench.size} image to a pipe ÷ tar of the directory, time"
    report.time(done, what, _SAVE, Goal(1.25), _TAR)
    byte, start = done.first_byte(_SAVE), done.first_byte(_START)
    value = (byte - start) * 1000 if byte is not None and start is not None else None
    note = "less the first byte of imgfs images"
    report.rows.append(Row("its first byte, after start-up", value, Goal(20), "ms", note))
    _to_file(bench, image)
    _uncompressed(bench)


def _to_file(bench: Bench, image: StoredImage) -> None:
    def saved() -> Sample:
        with bench.place() as place:
            words = ["save", "-q", "-o", str(place / "x.tar"), NAME]
            return command([*IMGFS, "--store", image.store, *words])

    def copied() -> Sample:
        with bench.place() as place:
            return command(["cp", "-r", image.layout, place / "copy"])

    contenders = [Contender("cp -r, disk", copied), Contender("imgfs save -o", saved)]
    done = bench.contest("saving to a file", contenders, image.size)
    what = "imgfs save -o FILE ÷ cp -r of the directory"
    bench.report.time(done, what, "imgfs save -o", Goal(1.1), "cp -r, disk")


def _uncompressed(bench: Bench) -> None:
    """Measure docker's layout of gzip layers, beside the fastest tool that decompresses them."""
    if shutil.which("igzip") is None:
        bench.report.notes.append("docker's layout of gzip layers: igzip is not installed")
        return
    image = bench.images.image(bench.size, "gzip")
    image.warm()
    words = ["save", "-q", "--layout", "docker", NAME]
    contenders = [
        Contender("igzip -dc", lambda: command(["igzip", "-dc", *gzip_layers(image)])),
        Contender("imgfs save", lambda: command([*IMGFS, "--store", image.store, *words])),
    ]
    done = bench.contest("saving gzip layers in docker's layout", contenders, image.size)
    what = "imgfs save --layout docker of gzip layers ÷ igzip -dc of them"
    bench.report.time(done, what, "imgfs save", Goal(0.75), "igzip -dc")


def _peers(bench: Bench, image: StoredImage) -> list[Contender]:
    """Return the installed peers, after they have loaded the image."""
    found = []
    if docker := bench.peers.docker:
        docker.call("load", "-q", "-i", image.archive)
        found.append(Contender("docker save", lambda: docker.timed("save", NAME)))
    if podman := bench.peers.podman:
        podman.call("load", "-q", "-i", image.archive)
        found.append(Contender("podman save", lambda: podman.timed("save", "-q", FULL_NAME)))
    if skopeo := bench.peers.skopeo:
        words = ["copy", "-q", f"oci:{image.layout}", f"docker-archive:/dev/stdout:{NAME}"]
        found.append(Contender("skopeo copy, docker-archive", lambda: skopeo.timed(*words)))
    if ctr := bench.peers.ctr:
        ctr.call("images", "import", "--no-unpack", "--all-platforms", image.archive)
        words_of_ctr = ["images", "export", "--all-platforms", "-", FULL_NAME]
        found.append(Contender("ctr images export", lambda: ctr.timed(*words_of_ctr)))
    return found

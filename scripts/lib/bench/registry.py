"""Read a registry on the loopback through a mount, beside curl and skopeo."""

import json
import os
import shutil
from pathlib import Path

from scripts.lib.bench.bench import Bench
from scripts.lib.bench.images import NAME
from scripts.lib.bench.mounting import IMGFS, Mount
from scripts.lib.bench.results import Goal, Row
from scripts.lib.bench.running import call, command
from scripts.lib.bench.turns import Contender, Sample
from tests.stores.registry.server import lacking, registry
from tests.waiting import wait_until

_BLOB = 500 << 20
_TAGS = 10_000
_CURL, _SUM = "curl", "curl | tee | sha256sum"
_FIRST, _AGAIN, _PLAIN = "imgfs, first", "imgfs, second", "the cache's file"
_SKOPEO, _CP, _LIST, _LS = "skopeo copy", "imgfs, cp -r", "skopeo list-tags", "imgfs, ls"


def measure(bench: Bench) -> None:
    absent = (f"no {tool}" for tool in ("curl", "skopeo") if not shutil.which(tool))
    if reason := lacking() or next(absent, None):
        bench.report.notes.append(f"registry: {reason}")
        return
    with bench.place("registry") as place, registry(place) as host:
        cache = bench.scratch / "registry-cache"
        url = f"registry://{host}?cache={cache}"
        _reading(bench, host, url, cache)
        _copying(bench, host, url, cache)
        _listing(bench, host, url, place)


def _empty(mount: Mount, cache: Path) -> None:
    """Mount again, with an empty cache."""
    mount.unmount()
    shutil.rmtree(cache, ignore_errors=True)
    os.sync()
    mount.mount()


def _reading(bench: Bench, host: str, url: str, cache: Path) -> None:
    with bench.place("files") as files:
        with (files / "noise").open("wb") as noise:
            for _ in range(_BLOB >> 20):
                noise.write(os.urandom(1 << 20))
        options = ("-q", "--compression", "uncompressed")
        call(*IMGFS, "--store", url, "commit", *options, files, "blob:1")
    digest = _layer(host, "blob", "1")
    address = f"http://{host}/v2/blob/blobs/{digest}"
    blob = f"blobs/sha256/{digest.removeprefix('sha256:')}"
    with bench.mounted(url) as mount:
        path = mount.path / "blob:1" / blob

        def first() -> Sample:
            _empty(mount, cache)
            path.stat()
            return command(["cat", path], mount.daemon)

        def summed() -> Sample:
            with bench.place() as place:
                script = 'curl -s "$0" | tee "$1" | sha256sum'
                return command(["sh", "-c", script, address, place / "blob"])

        def plain() -> Sample:
            wait_until(lambda: any((cache / "blobs").rglob(path.name)), "the blob is whole")
            return command(["cat", *(cache / "blobs").rglob(path.name)])

        contenders = [
            Contender(_CURL, lambda: command(["curl", "-s", address])),
            Contender(_SUM, summed),
            Contender(_FIRST, first),
            Contender(_PLAIN, plain),
            Contender(_AGAIN, lambda: command(["cat", path], mount.daemon)),
        ]
        done = bench.contest("a blob of a registry", contenders, _BLOB)
    report = bench.report
    what = "first cat of a 500 MB blob, which is kept and verified,"
    report.time(done, f"{what} ÷ curl, time", _FIRST, Goal(1.3), _CURL)
    report.time(done, f"{what} ÷ {_SUM}", _FIRST, Goal(1.3), _SUM)
    ours, theirs = done.first_byte(_FIRST), done.first_byte(_CURL)
    if ours and theirs:
        report.rows.append(Row("the same, first byte", ours / theirs, Goal(2), note=_CURL))
    report.time(done, "second cat ÷ plain read, time", _AGAIN, Goal(1.1), _PLAIN)


def _copying(bench: Bench, host: str, url: str, cache: Path) -> None:
    image = bench.images.image(bench.size)
    name = f"docker://{host}/{NAME}"
    call("skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{image.layout}", name)
    with bench.mounted(url) as mount:

        def copied() -> Sample:
            _empty(mount, cache)
            with bench.place() as place:
                return command(["cp", "-r", mount.path / NAME, place / "image"], mount.daemon)

        def pulled() -> Sample:
            with bench.place() as place:
                words = ["copy", "-q", "--src-tls-verify=false", name, f"oci:{place}/image:1"]
                return command(["skopeo", *words])

        contenders = [Contender(_SKOPEO, pulled), Contender(_CP, copied)]
        done = bench.contest("an image of a registry", contenders, image.size)
    what = f"skopeo copy of the {bench.size} image ÷ cp -r through the mount, time"
    bench.report.time(done, what, _SKOPEO, Goal(1, at_least=True), _CP)


def _listing(bench: Bench, host: str, url: str, place: Path) -> None:
    tags = place / "data/docker/registry/v2/repositories/blob/_manifests/tags"
    for number in range(2, _TAGS + 1):
        current = tags / str(number) / "current"
        current.mkdir(parents=True)
        shutil.copy(tags / "1/current/link", current)
    with bench.mounted(url) as mount:

        def listed() -> Sample:
            mount.remount()
            return command(["ls", mount.path / host], mount.daemon)

        listing = ["skopeo", "list-tags", "--tls-verify=false", f"docker://{host}/blob"]
        contenders = [Contender(_LIST, lambda: command(listing)), Contender(_LS, listed)]
        done = bench.contest(f"listing {_TAGS:,} tags", contenders)
    bench.report.time(done, f"ls of {_TAGS:,} tags ÷ skopeo list-tags", _LS, Goal(3), _LIST)


def _layer(host: str, repository: str, tag: str) -> str:
    """Return the digest of the one layer of an image in a registry."""
    name = f"docker://{host}/{repository}:{tag}"
    manifest = json.loads(call("skopeo", "inspect", "--raw", "--tls-verify=false", name))
    return str(manifest["layers"][0]["digest"])

"""`imgfs images`, `inspect`, `history` and `info`."""

import json
import os
import platform as host_platform
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import msgspec

from engine import go_json, oci, platforms, reference, rfc3339
from engine.engine import Details, Engine
from engine.errors import InvalidPlatform, NotFound, printable
from engine.images import Image, ManifestSummary
from imgfs.cli.common import each, format_option, human, print_json, print_table, with_engine
from imgfs.cli.mounts import mountpoints


class _Listed(msgspec.Struct, frozen=True):
    """A line of `imgfs images`."""

    image: Image
    repository: str
    tag: str
    id: str
    created: str
    size: int
    platforms: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        return {
            "name": None if self.image.is_untagged else self.image.familiar,
            "repository": self.repository or None,
            "tag": self.tag or None,
            "id": self.id or None,
            "digest": self.image.target.digest,
            "media_type": self.image.target.media_type,
            "created": self.created or None,
            "size": self.size,
            "platforms": list(self.platforms),
        }


@click.command()
@click.option("-q", "--quiet", is_flag=True, help="Print IDs alone.")
@click.option("--digests", is_flag=True, help="Print digests too.")
@click.option("--no-trunc", is_flag=True, help="Print whole IDs.")
@format_option
@click.argument("names", nargs=-1, metavar="[NAME…]")
@with_engine
def images(
    engine: Engine, quiet: bool, digests: bool, no_trunc: bool, form: str, names: tuple[str, ...]
) -> None:
    """List the images (also: imgfs ls).

    \b
    imgfs images
    imgfs images alpine --format json
    """
    found: list[Image] = [] if names else engine.images.all()
    try:
        each(names, lambda name: found.extend(engine.find(name)))
    finally:
        rows = list(_listed(engine, found))
        if form == "json":
            print_json([row.document() for row in rows])
        elif quiet:
            for row in rows:
                print(row.id if no_trunc else _short(row.id))
        else:
            _print_images(rows, digests, no_trunc)


def _print_images(rows: list[_Listed], digests: bool, no_trunc: bool) -> None:
    head = [
        "REPOSITORY",
        "TAG",
        *(["DIGEST"] * digests),
        "IMAGE ID",
        "CREATED",
        "SIZE",
        "PLATFORMS",
    ]
    print_table(
        head,
        (
            [
                row.repository or "<none>",
                row.tag or "<none>",
                *([row.image.target.digest] * digests),
                row.id if no_trunc else _short(row.id),
                row.created[:10] or "-",
                human(row.size),
                ",".join(row.platforms) or "-",
            ]
            for row in rows
        ),
    )


def _listed(engine: Engine, images: Iterable[Image]) -> Iterator[_Listed]:
    for image in images:
        with suppress(NotFound):  # removed by somebody else just now
            yield _line(engine, image)


def _line(engine: Engine, image: Image) -> _Listed:
    manifests = engine.images.manifests(image.target.digest)
    best = _best(manifests)
    ref = None if image.is_untagged else reference.parse_normalized(image.name)
    return _Listed(
        image,
        ref.familiar_name if ref else "",
        (ref.tag or "") if ref else "",
        best.config if best else "",
        rfc3339.text(engine.images.target(image.target.digest).created),
        best.size if best else 0,
        tuple(m.platform for m in manifests if m.platform),
    )


def _best(manifests: tuple[ManifestSummary, ...]) -> ManifestSummary | None:
    """The manifest for this host, else the first."""
    first = manifests[0] if manifests else None
    if len(manifests) < 2:
        return first
    matcher = platforms.only(platforms.host())
    return platforms.best(manifests, matcher, _platform) or first


def _platform(manifest: ManifestSummary) -> oci.Platform | None:
    """Its platform, if it names one; one that nothing can have where the image made it up."""
    if not manifest.platform:
        return None
    try:
        return platforms.parse(manifest.platform)
    except InvalidPlatform:
        return oci.Platform(architecture="", os=manifest.platform)


def _short(digest: str) -> str:
    return digest.partition(":")[2][:12]


@click.command()
@click.option("--platform", metavar="PLATFORM", help="Of an index, the image for this platform.")
@click.option("--format", "form", type=click.Choice(["json"]), default="json", help="How to print.")
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@with_engine
def inspect(engine: Engine, platform: str | None, form: str, names: tuple[str, ...]) -> None:  # noqa: ARG001 (JSON is all there is)
    """Tell everything of images, as docker inspect does.

    \b
    imgfs inspect alpine:3
    """
    matcher = platforms.only(platforms.parse(platform)) if platform else None
    documents: list[dict[str, Any]] = []
    try:
        each(names, lambda n: documents.append(_document(engine, engine.details(n, matcher))))
    finally:
        print_json(documents)


def _document(engine: Engine, details: Details) -> dict[str, Any]:
    config, manifest = details.config, details.manifest
    raw = go_json.loads(details.raw_config, manifest.manifest.config.digest)
    target = details.image.target
    tagged = [reference.parse_normalized(name) for name in details.names]
    repositories = sorted({ref.familiar_name for ref in tagged})
    layers = manifest.manifest.layers
    return {
        "Id": manifest.manifest.config.digest,
        "RepoTags": [ref.familiar for ref in tagged if ref.tag],
        "RepoDigests": [f"{repository}@{target.digest}" for repository in repositories],
        "Comment": config.history[-1].comment if config.history else "",
        "Created": config.created,
        "Author": config.author,
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "OsVersion": config.os_version,
        "Size": sum(layer.size for layer in layers),
        "Config": raw.get("config"),
        "RootFS": {"Type": config.rootfs.type, "Layers": list(config.rootfs.diff_ids)},
        "Descriptor": json.loads(oci.render(target)),
        "Manifest": json.loads(oci.render(manifest.descriptor)),
        "Layers": [json.loads(oci.render(layer)) for layer in layers],
        "Platforms": [m.platform for m in engine.images.manifests(target.digest)],
    }


@click.command()
@click.option("--platform", metavar="PLATFORM", help="Of an index, the image for this platform.")
@click.option("-q", "--quiet", is_flag=True, help="Print the layers' digests alone.")
@click.option("--no-trunc", is_flag=True, help="Print whole commands.")
@format_option
@click.argument("name")
@with_engine
def history(
    engine: Engine, platform: str | None, quiet: bool, no_trunc: bool, form: str, name: str
) -> None:
    """Show how an image came to be, the newest step first.

    \b
    imgfs history alpine:3
    """
    matcher = platforms.only(platforms.parse(platform)) if platform else None
    steps = list(_steps(engine.details(name, matcher)))[::-1]
    if form == "json":
        print_json(steps)
        return
    if quiet:
        for step in steps:
            print(step["layer"] or "<none>")
        return
    width = 10_000 if no_trunc else 60
    print_table(
        ["CREATED", "CREATED BY", "SIZE", "COMMENT"],
        (
            [s["created"][:19] or "-", _cut(s["created_by"], width), human(s["size"]), s["comment"]]
            for s in steps
        ),
    )


def _steps(details: Details) -> Iterator[dict[str, Any]]:
    """History entries with the layer that each made; layers without an entry come last."""
    layers = iter(details.manifest.manifest.layers)
    for entry in details.config.history:
        layer = None if entry.empty_layer else next(layers, None)
        yield {
            "created": entry.created,
            "created_by": entry.created_by,
            "comment": entry.comment,
            "layer": layer.digest if layer else None,
            "size": layer.size if layer else 0,
        }
    for layer in layers:
        yield {
            "created": "",
            "created_by": "",
            "comment": "",
            "layer": layer.digest,
            "size": layer.size,
        }


def _cut(text: str, width: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"


@click.command()
@format_option
@with_engine
def info(engine: Engine, form: str) -> None:
    """Tell of the store, its mounts and the versions of what imgfs stands on.

    \b
    imgfs info --format json
    """
    from importlib.metadata import version

    disk = os.statvfs(engine.path)
    mounts = _mounts(engine.path)
    sizes = [blob.size for blob in engine.content.walk()]
    told: dict[str, Any] = {
        "store": str(engine.path),
        "images": engine.images.count(),
        "blobs": len(sizes),
        "bytes": sum(sizes),
        "free": disk.f_bavail * disk.f_frsize,
        "mounts": sorted(mounts),
        "passthrough": mounts,
        "platform": platforms.format(platforms.host()),
        "imgfs": version("imgfs"),
        "pyfuse3": version("pyfuse3"),
        "python": host_platform.python_version(),
        "kernel": host_platform.release(),
    }
    if form == "json":
        print_json(told)
        return
    shown = told | {name: human(told[name]) for name in ("bytes", "free")}
    shown["mounts"] = ", ".join(told["mounts"]) or "none"
    ways = [f"{way} ({path})" for path, way in mounts.items()]
    shown["passthrough"] = ", ".join(ways) or "nothing is mounted"
    for name, value in shown.items():
        print(f"{name + ':':12} {printable(str(value), 2000)}")


def _mounts(store: Path) -> dict[str, str]:
    """Where this store is mounted by processes whose mounts we may read, and what they say of
    kernel passthrough.
    """
    found = {}
    for path in mountpoints():
        try:
            status = json.loads((path / ".imgfs" / "status.json").read_bytes())
        except (OSError, ValueError):
            continue
        if status.get("store") == str(store):
            found[str(path)] = str(status.get("passthrough", "off"))
    return found

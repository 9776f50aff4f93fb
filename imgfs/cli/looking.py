"""`imgfs inspect` and `history`."""

import json
from collections.abc import Iterator
from typing import Any

import click

from engine import go_json, oci, platforms, reference
from engine.engine import Details, Engine
from imgfs.cli.common import each, format_option, human, print_json, print_table, with_engine


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

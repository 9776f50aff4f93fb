"""`imgfs inspect`: show the details of images as JSON."""

import json
from argparse import Namespace
from contextlib import closing
from typing import Any

from engine.details import Details, details
from engine.spec import go_json, oci, reference
from engine.stores.protocols import Store
from imgfs.cli.support.command import Command, Parser
from imgfs.cli.support.common import each, format_option, opened, print_json
from imgfs.cli.support.platform_option import platform_matcher, platform_option
from imgfs.cli.support.progress import progress_of


def _inspect_options(parser: Parser) -> None:
    parser.flag("--root", help="Add the merged root, and what has to be left out of it.")
    platform_option(parser)
    format_option(parser, "json")


def _inspect(args: Namespace) -> None:
    """Show all details of images as JSON, as docker inspect does.

    imgfs inspect alpine:3
    imgfs inspect --root alpine:3    the merged root, too, and what is left out of it
    """
    documents: list[dict[str, Any]] = []
    matcher = platform_matcher(args)

    def add(name: str) -> None:
        found = details(store, name, matcher)
        root = {"Root": _root(store, found)} if args.root else {}
        documents.append({**_document(store, found), **root})

    with opened(args) as store:
        try:
            each(args.words, add)
        finally:
            print_json(documents)


INSPECT = Command(_inspect, _inspect_options, words="NAME…", least=1, most=None)


def _document(store: Store, found: Details) -> dict[str, Any]:
    config, manifest = found.config, found.manifest
    raw = go_json.loads(found.raw_config, manifest.manifest.config.digest)
    target = found.image.target
    tagged = [reference.parse_normalized(name) for name in found.names]
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
        "Platforms": list(dict.fromkeys(m.platform for m in store.images.manifests(target.digest))),
    }


def _root(store: Store, found: Details) -> dict[str, Any]:
    """Return the number of entries of the merged root, and what is left out, with the reasons."""
    from engine.filetree.merged import merged_root
    from engine.layers.layer import Layers  # most documents have no root

    manifest = found.manifest.manifest
    layers = Layers(store.content, store.tables, store.directory)
    with closing(layers), progress_of("Reading", "auto") as on_progress:
        root = merged_root(layers, manifest, on_progress)
    return {
        "Entries": len(root),
        "LeftOut": [
            {
                "Layer": manifest.layers[left.layer].digest,
                "Path": left.path.decode("utf-8", "surrogateescape"),
                "Reason": left.reason,
            }
            for left in root.left_out
        ],
    }

"""`imgfs inspect`: show the details of images as JSON."""

import json
from argparse import Namespace
from typing import Any

from engine.details import Details, details
from engine.spec import go_json, oci, reference
from engine.stores.protocols import Store
from imgfs.cli.support.command import Command, Parser
from imgfs.cli.support.common import each, format_option, opened, print_json
from imgfs.cli.support.platform_option import platform_matcher, platform_option


def _inspect_options(parser: Parser) -> None:
    platform_option(parser)
    format_option(parser, "json")


def _inspect(args: Namespace) -> None:
    """Show all details of images as JSON, as docker inspect does.

    imgfs inspect alpine:3
    """
    documents: list[dict[str, Any]] = []
    matcher = platform_matcher(args)
    with opened(args) as store:
        try:
            each(
                args.words, lambda n: documents.append(_document(store, details(store, n, matcher)))
            )
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

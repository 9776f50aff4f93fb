"""`imgfs inspect`: show the details of images as JSON."""

from __future__ import annotations

import json
import re
from argparse import Namespace
from collections.abc import Iterable
from contextlib import closing, suppress
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine.details import Details, known_details
from engine.errors import InvalidDocument, Unreachable
from engine.spec import docker, go_json, oci, reference
from engine.stores.protocols import Store
from imgfs.cli.support.command import Command, Parser
from imgfs.cli.support.common import each, opened, print_json
from imgfs.cli.support.formats import compiled, is_template, rendered, template_option
from imgfs.cli.support.platform_option import platform_matcher, platform_option
from imgfs.cli.support.progress import progress_of, progress_option

if TYPE_CHECKING:
    from engine.filetree.entry_tree import LeftOut


def _inspect_options(parser: Parser) -> None:
    parser.flag("--root", help="Make the merged root, reading layers if necessary; add its size.")
    platform_option(parser)
    progress_option(parser)
    template_option(parser, "json", short=("-f",))


def _inspect(args: Namespace) -> None:
    """Show all details of images as JSON, as docker inspect does.

    LeftOut lists what the root and the layers in a mount have to leave out, Referrers
    the signatures, SBOMs and other manifests that refer to the image.

    imgfs inspect alpine:3
    imgfs inspect --root alpine:3    the merged root, too; reads layers that were never read
    imgfs inspect -f '{{.Architecture}}' alpine:3
    """
    documents: list[dict[str, Any]] = []
    template = compiled(args.format) if is_template(args.format) else None
    matcher = platform_matcher(args)

    def add(name: str) -> None:
        found = known_details(store, name, matcher)
        document = _document(store, found)
        if args.root:
            document["Root"] = _root(store, found, args.progress)
            document["LeftOut"] = document["Root"]["LeftOut"]
        elif template is None or _MAY_SHOW_LEFT_OUT.search(args.format):
            document["LeftOut"] = _left_out(store, found)
        if template is None or _MAY_SHOW_REFERRERS.search(args.format):
            document["Referrers"] = _referrers(store, found)
        documents.append(document)

    with opened(args) as store:
        try:
            each(args.words, add)
        finally:
            if template is None:
                print_json(documents)
            else:
                for document in documents:
                    print(rendered(template, _record(document)))


INSPECT = Command(_inspect, _inspect_options, words="NAME…", least=1, most=None)


_WHOLE: Final = r"\.(?!\w)|\$(?![\w.])"
"""Matches the whole document in a template: `.` and `$` without a field."""
_MAY_SHOW_LEFT_OUT: Final = re.compile(rf"LeftOut|{_WHOLE}")
_MAY_SHOW_REFERRERS: Final = re.compile(rf"Referrers|{_WHOLE}")


def _document(store: Store, found: Details) -> dict[str, Any]:
    config, manifest = found.config, found.manifest
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
        "Config": _process(found),
        "RootFS": {"Type": config.rootfs.type, "Layers": list(config.rootfs.diff_ids)},
        "Descriptor": json.loads(oci.render(target)),
        "Manifest": json.loads(oci.render(manifest.descriptor)),
        "Layers": [json.loads(oci.render(layer)) for layer in layers],
        "Missing": [blob.digest for blob in manifest.missing],
        "Platforms": list(dict.fromkeys(m.platform for m in store.images.manifests(target.digest))),
    }


def _process(found: Details) -> dict[str, Any]:
    """Return what an image's config says of containers; raise InvalidDocument if it cannot be
    shown.
    """
    subject = f"config {found.manifest.manifest.config.digest}"
    shown = {
        name: go_json.loads(bytes(value), subject) if isinstance(value, msgspec.Raw) else value
        for name, value in docker.parse_process(found.raw_config, subject).items()
    }
    level: list[Any] = [shown]
    for _ in range(_MOST_LEVELS):
        if any(isinstance(value, float) and not isfinite(value) for value in level):
            raise InvalidDocument(subject, "a number in it is too large")
        level = [child for value in level for child in _children(value)]
    if level:
        raise InvalidDocument(subject, f"it is nested deeper than {_MOST_LEVELS} levels")
    return shown


_MOST_LEVELS: Final = 200
"""The deepest nesting of a config that is printed, which templates do by recursion."""


def _children(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _record(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document for templates: its fields are known, and so are docker's of the config."""
    from imgfs.cli.support.config_fields import config_record
    from imgfs.cli.support.template_functions import Record

    config = config_record(document["Config"] or {})
    return Record({**document, "Config": config, "RootFS": Record(document["RootFS"])})


def _left_out(store: Store, found: Details) -> list[dict[str, str]]:
    """Return what is left out of the merged root, as far as it is known without reading a layer."""
    from engine.filetree.merged import known_left_out
    from engine.layers.layer import Layers  # templates need no layers

    with closing(Layers(store.content, store.tables, store.directory)) as layers:
        return _listed(found.manifest.manifest, known_left_out(layers, found.manifest.manifest))


def _referrers(store: Store, found: Details) -> list[Any]:
    """Return the descriptors of what refers to the image, as far as the store can tell."""
    with suppress(Unreachable):
        referrers = store.referrers(found.image)
        return [json.loads(oci.render(each.descriptor)) for each in referrers]
    return []


def _root(store: Store, found: Details, shown: str) -> dict[str, Any]:
    """Return the number of entries of the merged root, and what is left out, with the reasons;
    `shown` is how progress is shown.
    """
    from engine.filetree.merged import merged_root
    from engine.layers.layer import Layers  # templates need no layers

    manifest = found.manifest.manifest
    layers = Layers(store.content, store.tables, store.directory)
    with closing(layers), progress_of("Reading", shown) as on_progress:
        root = merged_root(layers, manifest, on_progress)
    return {"Entries": len(root), "LeftOut": _listed(manifest, root.left_out)}


def _listed(manifest: oci.Manifest, left_out: Iterable[LeftOut]) -> list[dict[str, str]]:
    return [
        {
            "Layer": manifest.layers[left.layer].digest,
            "Path": left.path.decode("utf-8", "surrogateescape"),
            "Reason": left.reason,
        }
        for left in left_out
    ]

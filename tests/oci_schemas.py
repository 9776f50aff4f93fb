"""The rules of the image-spec as JSON schemas (`schemas/*.json`), to check rendered documents."""

import json
from functools import cache
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]  # it has no stubs of its own
import referencing


@cache
def _validator(kind: str) -> jsonschema.Draft202012Validator:
    folder = Path(__file__).parent / "schemas"
    schemas = {path.name: json.loads(path.read_text()) for path in folder.glob("*.json")}
    registry: referencing.Registry[object] = referencing.Registry()
    for name, schema in schemas.items():
        registry = registry.with_resource(name, referencing.Resource.from_contents(schema))
    return jsonschema.Draft202012Validator(schemas[f"{kind}.json"], registry=registry)


def problems(kind: str, document: bytes) -> list[str]:
    """Return the errors of a "config", "descriptor", "index", "layout" or "manifest"."""
    return [error.message for error in _validator(kind).iter_errors(json.loads(document))]

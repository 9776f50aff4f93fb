"""The fuzz targets by name: each accepts any bytes, and raises only for a finding."""

from collections.abc import Callable
from typing import Final

from tests.fuzz import load_targets, stream_targets, tar_targets, text_targets

Target = Callable[[bytes], None]

TARGETS: Final[dict[str, Target]] = {
    "tar": tar_targets.tar,
    "pax": tar_targets.pax,
    "layers": tar_targets.layers,
    "streams": stream_targets.streams,
    "json": text_targets.json_values,
    "documents": text_targets.documents,
    "references": text_targets.references,
    "changes": text_targets.changes,
    "load": load_targets.load,
    "load-documents": load_targets.load_documents,
}

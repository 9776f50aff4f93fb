import subprocess
import sys
from collections.abc import Sequence

import pytest

from engine.graph import Blobs
from engine.image import Image
from engine.layouts import combined, warm_up
from engine.layouts.entry import Entry


def test_it_looks_at_a_whole_image(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Entry] = []
    layout = combined.layout

    def seeing(
        images: Sequence[Image], blobs: Blobs, options: combined.Options
    ) -> tuple[Entry, ...]:
        seen.extend(layout(images, blobs, options))
        return tuple(seen)

    monkeypatch.setattr(combined, "layout", seeing)
    warm_up.warm_caches()
    paths = [entry.path for entry in seen if not entry.path.startswith("blobs/sha256/")]
    assert paths == ["blobs", "blobs/sha256", "index.json", "manifest.json", "oci-layout"]
    assert len(seen) == len(paths) + 2


def test_what_reads_layers_is_imported() -> None:
    modules = {"engine.layers.chunks", "engine.layers.table_codec", "engine.layers.points"}
    script = f"""
import sys
from engine.layouts import warm_up
assert not {modules} & set(sys.modules)
warm_up.warm_caches()
assert {modules} <= set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)

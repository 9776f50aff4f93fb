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

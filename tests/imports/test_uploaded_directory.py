"""Tests of directories below `import/` without a kernel."""

import itertools
from pathlib import Path

import pytest
import trio

from imgfs.imports.uploaded_link import UploadedLink
from tests.imports.serving import serving


def test_a_directory_may_change_while_it_is_looked_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = map(str, itertools.count())

    def change(link: UploadedLink) -> int:
        """Make one more name of the link, as another thread may at any moment."""
        assert link.parent is not None
        link.parent.place(next(names), link)
        return 0

    async def main() -> None:
        async with serving(tmp_path) as served:
            root = await served.mkdir("app")
            for name in ("a", "b"):
                root.symlink(name, "target", "")
            monkeypatch.setattr(UploadedLink, "is_refused", property(change))
            assert [name for name, _ in root.children()] == ["a", "b"]
            monkeypatch.setattr(UploadedLink, "height", property(change))
            assert root.height == 1

    trio.run(main)

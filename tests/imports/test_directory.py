"""Tests of the directory `import/` without a kernel."""

import errno
import os
from pathlib import Path

import trio
import trio.testing

from tests.imports.serving import serving


def test_the_reason_of_a_failure_is_text_whatever_the_file_is_called(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            made = await served.mkdir("app")
            full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            made.upload.refuse("caf\udce9", full)
            await trio.testing.wait_all_tasks_blocked()
            assert served.failed == [("app", "caf\\udce9: No space left on device")]

    trio.run(main)

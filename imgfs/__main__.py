"""The process `imgfs`, also as `python -m imgfs`."""

import gc
import sys


def main() -> None:
    """Run this process's command line, and exit with its status."""
    gc.disable()  # what is imported is no garbage, and to look at it again and again is felt
    _import_msgspec()
    from imgfs import cli

    cli.main()


def _import_msgspec() -> None:
    """Without typing_extensions: what it takes from there is in typing too, and where somebody has
    installed it, its import would be felt more than msgspec's own.
    """
    if "typing_extensions" not in sys.modules:
        sys.modules["typing_extensions"] = None  # type: ignore[assignment]  # cannot be imported
        import msgspec  # noqa: F401 (kept from being imported otherwise)

        del sys.modules["typing_extensions"]


if __name__ == "__main__":
    main()

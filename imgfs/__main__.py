"""The process `imgfs`, also as `python -m imgfs`."""

import gc


def main() -> None:
    """Run this process's command line, and exit with its status."""
    gc.disable()  # what is imported is no garbage, and to look at it again and again is felt
    from imgfs import cli

    cli.main()


if __name__ == "__main__":
    main()

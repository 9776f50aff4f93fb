"""The process `imgfs`, also run as `python -m imgfs`."""

import gc


def main() -> None:
    """Run the command line of this process, and exit with its status."""
    gc.disable()  # imports make no garbage, and each collection during them delays the start
    from imgfs import cli

    cli.main()


if __name__ == "__main__":
    main()

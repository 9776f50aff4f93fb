"""`python -m imgfs` is `imgfs`."""

from imgfs.cli import main

main()

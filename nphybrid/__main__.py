"""Runs the command line for `python -m nphybrid`.  The folder nphybrid/cli contains the code of the command line."""
import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
